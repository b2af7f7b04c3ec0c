"""The real peers: their interpreter, their `ipc` and ours, and one script under either library."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from waiting import wait_until

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/integration/steering"))

from loops import Program  # noqa: E402 - found by the line above

# Read when the tests are collected: no test keeps a setting of the user's.
PYTHON = os.environ.get("BABYSIT_INTEROP_PYTHON") or str(ROOT / ".venv-interop/bin/python")
OURS, THEIRS = "onbox", "loopmonitor"
BOTH = (OURS, THEIRS)
WITHIN_S = 90.0

# Turns until a file `stop` lies in its folder; MODULE is the library under test.
TURNING = """
import itertools, time
from pathlib import Path
from MODULE import ipc_range
for step in ipc_range(itertools.count(), label="turning"):
    lr = step.get("lr", 0.1)
    step.track(loss=1.0 / (step.index + 1), lr=lr)
    if Path("stop").exists():
        break
    while Path("hold").exists():
        Path("held").touch()
        time.sleep(0.005)
    Path("held").unlink(missing_ok=True)
    time.sleep(0.005)
print("behind the loop", lr, flush=True)
"""


class Said(subprocess.CompletedProcess):
    """What a command printed, and how it ended."""

    @property
    def answer(self):
        """The one answer of a document of ours."""
        (answer,) = json.loads(self.stdout)["answers"]
        return answer


class Folder:
    """A folder of steering, with programs that loop in it, and both commands that ask them."""

    def __init__(self, home):
        self.home, self.ipc = home, home / "ipc"
        self.ipc.mkdir(mode=0o700)
        self._programs = []

    def program(self, module, text=TURNING, **options):
        """A script that runs under the peers' Python with the one library or the other."""
        home = self.home / f"{module}-{len(self._programs)}"
        env = {"MPLBACKEND": "Agg", "MPLCONFIGDIR": str(self.home / "matplotlib"), **options.pop("env", {})}
        script = text.replace("MODULE", module)
        self._programs.append(Program(home, script, python=PYTHON, ipc=self.ipc, env=env, **options))
        return self._programs[-1]

    def turning(self, module, text=TURNING, **options):
        """One whose first iteration has ended, as its state file says."""
        one = self.program(module, text, **options)
        wait_until(lambda: state(one) or one.process.poll() is not None, WITHIN_S, f"a state; {one.err()}")
        assert one.process.poll() is None, one.err()
        return one

    def command(self, kind, *words):
        """The command line, and its environment, that ask by `ipc WORDS` of the one project or the other."""
        command = (
            [sys.executable, "-m", "onbox", "ipc"] if kind == OURS else [PYTHON, "-m", "loopmonitor.cli"]
        )
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "PYTHONUNBUFFERED": "1",
            "LOOPCTL_DIR": str(self.ipc),
        }
        return [*command, *map(str, words)], env

    def asked(self, kind, *words, env=(), within_s=WITHIN_S):
        """What `ipc WORDS` printed, and its exit code."""
        command, around = self.command(kind, *words)
        done = subprocess.run(
            command,
            cwd=self.home,
            env={**around, **dict(env)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=within_s,
            check=False,
        )
        return Said(done.args, done.returncode, done.stdout, done.stderr)

    def started(self, kind, *words):
        """`ipc WORDS`, running: for those that go on until they are stopped."""
        command, env = self.command(kind, *words)
        pipe = subprocess.PIPE
        self._programs.append(_Running(command, cwd=self.home, env=env, stdout=pipe, stderr=pipe, text=True))
        return self._programs[-1]

    def close(self):
        for one in self._programs:
            one.close()


class _Running(subprocess.Popen):
    def close(self):
        if self.poll() is None:
            self.kill()
        self.communicate()


def state(program):
    """Its state file as an object; None where there is none, or it is torn at this moment."""
    try:
        return json.loads((program.ipc / f"{program.pid}.state.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def held(program):
    """Its loop stands inside of an iteration meanwhile: the published one reads no state that it is just writing."""
    (program.home / "hold").touch()
    wait_until((program.home / "held").exists, WITHIN_S, f"the loop stands; {program.err()}")
    yield
    (program.home / "hold").unlink()
    # It says itself that it goes on: who took that away for it could find it there again.
    wait_until(
        lambda: not (program.home / "held").exists() or program.process.poll() is not None,
        WITHIN_S,
        "the loop goes on",
    )


def moves(program):
    """Nothing comes back: three of its iterations ended after this was called."""
    at = _iteration(program)
    wait_until(lambda: _iteration(program) > at + 2, WITHIN_S, f"more iterations than {at}; {program.err()}")


def stops(program):
    """Its exit status, after a file told it to leave its loop by itself."""
    (program.home / "stop").touch()
    return program.end(WITHIN_S)


def _iteration(program):
    found = []
    wait_until(
        lambda: found.append(state(program)) or found[-1],
        WITHIN_S,
        f"a state of {program.pid}; {program.err()}",
    )
    return found[-1]["iteration"]
