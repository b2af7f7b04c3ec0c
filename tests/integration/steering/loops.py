"""A program with a loop in it: started under a given Python, asked through its FIFO, collected when it ends."""

import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import wait_until

ROOT = Path(__file__).parents[3]
WITHIN_S = 60.0

# A loop that turns until it is told to leave. It has begun when a first iteration lies behind it, with its value.
SLOW = """
import sys, time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="slow"):
    if step.index == 1:
        print("begun", flush=True)
    step.track(loss=1.0 / (step.index + 1))
    time.sleep(0.002)
print("behind the loop at", step.index, flush=True)
"""


class Program:
    """One script with its own folder of steering; its output goes to files, so that it never waits for a reader."""

    def __init__(
        self, home, text, *, python=sys.executable, env=(), flags=(), ipc=None, stdout=None, cwd=None
    ):
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.cwd = home, cwd or home
        self.ipc = ipc or home / "ipc"
        script = home / "script.py"
        script.write_text(text, encoding="utf-8")
        self.out_path, self.err_path = home / "out", home / "err"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            "LOOPCTL_DIR": str(self.ipc),
            **dict(env),
        }
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            self.process = subprocess.Popen(
                [python, *flags, str(script)],
                cwd=self.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=err,
            )
        self.pid = self.process.pid

    # What it left for others to see

    def out(self):
        return self.out_path.read_text(encoding="utf-8", errors="replace")

    def err(self):
        return self.err_path.read_text(encoding="utf-8", errors="replace")

    def file(self, name):
        """The object in a file of the folder of steering, None where there is none."""
        try:
            return json.loads((self.ipc / name).read_bytes())
        except FileNotFoundError:
            return None

    def card(self):
        return self.file(f"onbox/{self.pid}.json")

    def state(self):
        return self.file(f"{self.pid}.state.json")

    def registered(self):
        return (self.file("registry.json") or {}).get(str(self.pid))

    def ends(self):
        """Its end records by the number of the loop."""
        found = sorted((self.ipc / "onbox/ended").glob(f"{self.pid}-*.json"))
        return {said["n"]: said for said in (json.loads(path.read_bytes()) for path in found)}

    def snapshots(self, kind):
        found = sorted(Path(self.cwd).glob(f"loopmonitor_{kind}_{self.pid}_*.json"))
        return [json.loads(path.read_bytes()) for path in found]

    def left_behind(self):
        """Names that its end should have taken away."""
        names = {path.name for path in (*self.ipc.glob("*"), *self.ipc.glob("onbox/*"))}
        return sorted(name for name in names if re.match(rf"\.?{self.pid}\.", name))

    # How far it is

    def begun(self, text="begun"):
        """Itself, when `text` stands in its output."""
        wait_until(
            lambda: text in self.out() or self.process.poll() is not None,
            WITHIN_S,
            f"{text!r} in the output; there is {self.out()!r}, {self.err()!r}",
        )
        assert text in self.out(), self.err()
        return self

    def end(self, within_s=WITHIN_S):
        """Its exit status; minus the number of the signal that killed it."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within_s:g} s: {self.out()[-500:]!r}") from None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    # Asking

    def ask(self, words, n=None, within_s=WITHIN_S):
        """The answers to one question, until the final one; fails when that does not come."""
        return self.answers(self.question(words, n), within_s)

    def last(self, words, n=None, within_s=WITHIN_S):
        """The final answer."""
        return self.ask(words, n, within_s)[-1]

    def question(self, words, n=None):
        """A question that was sent: its answer FIFO, open to be read."""
        name = secrets.token_hex(8)
        path = self.ipc / "onbox" / f"{name}.fifo"
        os.mkfifo(path, 0o600)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.write(f"@{name}{'' if n is None else f'/{n}'} {words}\n".encode())
        return path, reading

    def answers(self, question, within_s=WITHIN_S):
        """What comes for `question` until the final answer."""
        path, reading = question
        found, rest, deadline = [], b"", time.monotonic() + within_s
        try:
            while not (found and found[-1]["final"]):
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"no final answer within {within_s:g} s, but {found}; {self.err()!r}"
                    )
                select.select([reading], [], [], 0.05)
                try:
                    piece = os.read(reading, 1 << 16)
                except BlockingIOError:
                    continue
                if not piece:  # nobody has it open now
                    time.sleep(0.002)
                *lines, rest = (rest + piece).split(b"\n")
                found += [json.loads(line) for line in lines]
        finally:
            os.close(reading)
            path.unlink()
        return found

    def write(self, content):
        """Nothing comes back: the bytes are in its FIFO, a line never in two parts: half of one is soon let go."""
        writing = os.open(self.ipc / f"{self.pid}.fifo", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            while content:
                whole = content.rfind(b"\n", 0, select.PIPE_BUF) + 1 or len(content)
                try:
                    content = content[os.write(writing, content[:whole]) :]
                except BlockingIOError:
                    select.select([], [writing], [], 1.0)
        finally:
            os.close(writing)

    def old(self, line):
        """Nothing comes back: a command as the published loopmonitor sends it, a line and then the signal."""
        self.write(line.encode() + b"\n")
        os.kill(self.pid, signal.SIGUSR1)


def stands(pid):
    """Whether a sent SIGSTOP holds all of its threads: until then one of them may still write or read."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:  # a thread that has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def stopped(pid):
    """Nothing comes back: no thread of it runs until a SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: stands(pid), WITHIN_S, f"{pid} stands")


@pytest.fixture
def program(tmp_path):
    """`program(text, python=…, env=…)` starts a script; all of them end with the test."""
    started = []

    def start(text, **options):
        started.append(Program(tmp_path / f"program-{len(started)}", text, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
