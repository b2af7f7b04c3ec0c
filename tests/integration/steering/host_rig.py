"""A box with loops on it, and a laptop that steers them: real sshd, real programs, the real `babysit`."""

import contextlib
import io
import itertools
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from box import Box
from waiting import wait_until

from babysit import entry
from fleet.arming.ship import build_pyz

sys.path.insert(0, str(Path(__file__).parents[1] / "night"))

from laptop import Done, Laptop

_numbers = itertools.count(1)

LOOP = """
import sys, time
from onbox import ipc_range
for step in ipc_range(int(sys.argv[2]), label=sys.argv[1]):
    step.track(loss=1.0 / (1 + step.index), lr=step.get("lr", 0.001), name=step.get("name", "-"))
    time.sleep(0.02)
print("went on", flush=True)
"""

QUEUE = """
import os, sys, time
from onbox import RuntimeController
rt = RuntimeController()
rt.configure(sys.argv[1])

def set_lr(ctx, value, **named):
    if value == "bad":
        raise ValueError("a bad value")
    with open("seen", "a") as file:
        file.write(repr((value, named)) + "\\n")

rt.register("lr", set_lr)
print("up", flush=True)
while not os.path.exists("go"):
    rt.poll_and_apply(ctx={}, every_s=0.0)
    time.sleep(0.05)
"""


def start_box(folder):
    reason = Box.available()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Box.start(folder)


class Desk(Laptop):
    """A laptop whose short commands run in this very process: the same entry, without starting Python anew."""

    def run(self, *words, limit_s=90, **env):
        if env:
            return super().run(*words, limit_s=limit_s, **env)
        out, err = io.StringIO(), io.StringIO()
        was = dict(os.environ), sys.argv, Path.cwd(), signal.getsignal(signal.SIGTERM)
        try:
            os.environ.clear()
            os.environ.update(self.env)
            sys.argv = ["babysit", *words]
            os.chdir(self.home)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                entry.main()
        except SystemExit as left:
            code = left.code
        finally:
            os.chdir(was[2])
            os.environ.clear()
            os.environ.update(was[0])
            sys.argv = was[1]
            signal.signal(signal.SIGTERM, was[3])
        return Done(words, code, out.getvalue(), err.getvalue())


class Program:
    """A script under the box's own Python, with the onbox package of this checkout on its way to modules."""

    def __init__(self, box, text, *words, tag=""):
        self.box = box
        self.folder = box.home / f"program{next(_numbers)}"
        self.folder.mkdir()
        (self.folder / "onbox.pyz").write_bytes(build_pyz()[0])
        (self.folder / "script.py").write_text(text)
        self._own(self.folder)
        env = f"PYTHONPATH=onbox.pyz {f'BABYSIT_TAG={tag}' if tag else ''}"
        done = box.run(
            f"{{ cd {self.folder.name} && {env} exec setsid python3 script.py {' '.join(words)} >out 2>&1; }}"
            " </dev/null >/dev/null 2>&1 & echo $!"
        )
        assert done.stdout.strip().isdigit(), done
        # The shell answers before what it put into the background has begun.
        wait_until((self.folder / "out").exists, 60, "the program's start")

    def _own(self, path):
        owner = self.box.home.stat()
        for each in (path, *path.rglob("*")):
            os.chown(each, owner.st_uid, owner.st_gid)

    def out(self):
        return (self.folder / "out").read_text()

    def lives(self):
        return any("script.py" in line and self._here(pid) for pid, line in self.box.processes().items())

    def _here(self, pid):
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self.folder)  # noqa: PTH121 - a link of the kernel's
        except OSError:
            return False

    def pids(self):
        """As this machine numbers them."""
        return [pid for pid, line in self.box.processes().items() if "script.py" in line and self._here(pid)]

    def end(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        wait_until(lambda: not self.pids(), 60, "the program's end")


class Loop(Program):
    """A program with one loop; `label` tells it from others."""

    def __init__(self, box, label, total=1_000_000, *, tag=""):
        super().__init__(box, LOOP, label, str(total), tag=tag)
        self.label = label
        wait_until(lambda: (self.state() or {}).get("iteration", 0) > 2, 60, f"some turns of {label}")

    @property
    def ipc(self):
        return self.box.home / ".ipc"

    def card(self):
        """Its card, as long as it has one."""
        for path in self.ipc.glob("onbox/[0-9]*.json"):
            try:
                found = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            if found["cwd"].endswith(self.folder.name) and found["loops"]:
                return found
        return None

    def state(self):
        card = self.card()
        path = self.ipc / f"{card['pid']}.state.json" if card else None
        try:
            return json.loads(path.read_bytes()) if path else None
        except FileNotFoundError:
            return None


def answer_fifos(box):
    """What an asker leaves that was not let to clean up."""
    return [path.name for path in (box.home / ".ipc/onbox").glob("*.fifo")]


def askers(box):
    """Command lines of ours that run on the box."""
    return [line for line in box.processes().values() if ".pyz ipc" in line or ".pyz runtimectl" in line]


def rows(laptop, sql):
    with contextlib.closing(
        sqlite3.connect(f"file:{laptop.state}/ledger.db?mode=ro", timeout=60, uri=True)
    ) as connection:
        return connection.execute(sql).fetchall()


def audit_lines(laptop):
    path = laptop.state / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """One box for a whole file, on which the shipped tool lies already."""
    box = start_box(tmp_path_factory.mktemp("steering") / "box")
    try:
        first = Laptop(tmp_path_factory.mktemp("first") / "laptop", (box,))
        done = first.run("ipc", "gpu1", "list")
        assert done.returncode == 0 and "the tool was sent" in done.stderr, done.said
        first.close()
        yield box
    finally:
        box.stop()


@pytest.fixture(scope="module")
def train(gpu):
    """The loop that every test of a file may ask, and none may end."""
    loop = Loop(gpu, "train")
    yield loop
    loop.end()


@pytest.fixture
def desk(tmp_path, gpu):
    """A new laptop that knows the box."""
    desk = Desk(tmp_path / "desk", (gpu,))
    yield desk
    desk.close()
