"""A run on this machine: rendered, started, killed and looked at, for real. Ends all it started, by pid."""

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from waiting import wait_until

from fleet.arming.chain import BoxPlan, render, tag_of
from fleet.arming.start import launch, stop
from fleet.link.local import LocalLink
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage

PYTHON = sys.executable
BOUND_S = 120  # a start that settles looks through /proc some fifty times
LAUNCH_S = 60.0
SHELLS = tuple(
    shell for shell in (("dash",), ("bash",), ("busybox", "sh")) if shutil.which(shell[0]) is not None
)

# What a stage's shell knows: `work NAME` sees whether another is alive beside it and counts its launch, which is
# the last that it does; `gate` waits for the test, `over` says that it is gone.
_PRELUDE = """W={work}; R={folder}; export W
work() {{ ( set -C; : >$W/alive ) 2>/dev/null || echo "$1" >>$W/collisions; echo "$1 $BASHPID" >>$W/launches; }}
gate() {{ read -r _ <$W/gate; }}; over() {{ rm -f $W/alive; }}
export -f work gate over
"""
LONG = "work train; gate; over"
GUARDS = ("fence", "fd8", "fd9", "environ", "mark", "nonce", "plain", "leftovers", "identity")
# A `sleep` for those who wait a while for somebody else's line: what they wait for comes before they go on.
_SLEEP = """#!/bin/sh
n=0
case $1 in
  0.05) until grep -q . {folder}/.babysit-first.*.[12] || [ $n = 600 ]; do n=$((n + 1)); {sleep} 0.1; done ;;
  0.1) until grep -qxF {line} {folder}/run.log || [ $n = 600 ]; do n=$((n + 1)); {sleep} 0.1; done ;;
esac 2>/dev/null
exec {sleep} "$@"
"""


def proc(pid, name):
    """The text of one file of a process; empty when there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
    return ""


def pids():
    """All pids there are."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def alive(pid):
    """Is there such a process, and is it no zombie?"""
    return proc(pid, "stat").rpartition(") ")[2][:1] not in ("", "Z", "X")


def kill(pid, number=signal.SIGKILL):
    """Send a signal to one process; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def without(text, *guards):
    """The chain's text with every line of the named guards taken out; a guard that is not there is an error."""
    for guard in guards:
        text, count = re.subn(rf"(?m)^.*#:{guard}\n", "", text)
        assert count, f"no line of the chain is marked #:{guard}"
    return text


class Rig:
    """One armed run in its own state folder. `stages` maps a name to a command, or to a whole Stage."""

    def __init__(
        self, home, *, cripple=(), budget=100, python=None, onbox=None, cwd=None, lockdir="-", **stages
    ):
        self.home = Path(tempfile.mkdtemp(dir=home))
        self.work = self.home / "work"
        self.work.mkdir()
        os.mkfifo(self.work / "gate")
        self.nonce = os.urandom(16).hex()
        self.run_id = f"iris-{os.urandom(4).hex()}"
        self.state = self.home / "state"
        self.dir = self.state / "runs" / self.run_id
        self.procs = []
        self.pids = set()
        spec = RunSpec(
            "iris", tuple(self._stage(name, body) for name, body in stages.items()), cwd=cwd, budget=budget
        )
        self.run = Run(
            run_id=self.run_id, spec=spec, box=BoxSpec("here", "localhost"), nonce=self.nonce,
            tag=tag_of(self.run_id, self.nonce), chain="", spec_digest="0" * 64, armed_at=0.0,
        )  # fmt: skip
        files = render(self.run, BoxPlan(str(self.state), lockdir, python, onbox))
        for path, content in files.files.items():
            target = self.dir / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_bytes(content)
        lines = files.files["plan"].decode().splitlines()
        self.marks = {str(int(line.split()[1]) * 1024) for line in lines if line.startswith("stage=")}
        self.chain = self.dir / files.chain_name
        self.chain.write_text(without(self.chain.read_text(), *cripple))

    def _stage(self, name, body):
        stage = body if isinstance(body, Stage) else Stage(name, body)
        prelude = _PRELUDE.format(work=self.work, folder=self.dir) if stage.strict else ""
        return msgspec.structs.replace(stage, command=prelude + stage.command)

    # -- starting and killing

    def start(self, expect=None, shell=None, behind=None, **env):
        """One start of the chain, not waited for; `expect` None quotes what the records say.

        `behind`: a lock file, at which it stands until nobody holds it.
        """
        expect = self.seen() if expect is None else expect
        words = [*(shell or random.choice(SHELLS)), str(self.chain), expect]
        process = subprocess.Popen(
            words if behind is None else ["sh", "-c", 'flock -s "$0" true; exec "$@"', str(behind), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "HOME": str(self.home), **env},
            text=True,
        )
        self.procs.append(process)
        return process

    def result(self, expect=None, bound_s=BOUND_S, **env):
        """Exit code and first word of one start, waited for."""
        return result(self.start(expect, **env), bound_s)

    def crash_chain(self, process):
        """The chain, and only it, is killed by -9."""
        process.kill()
        process.wait()
        process.stdout.close()

    def stop(self, attempt=1, grace_s=5, path=None):
        """What the box says when this attempt is to end; `path` stands for the box's PATH."""
        link = LocalLink({**os.environ, "PATH": str(path)} if path else None)
        return stop(
            link, state_dir=str(self.state), run_id=self.run_id, attempt=attempt, grace_s=grace_s, limit_s=100
        )

    def launch(self, expect=None, detach="setsid", path=None, env=None, prints=None):
        """What the box says to a detached start. `prints`: the job's line that is waited for, however late it is."""
        environ = {**os.environ, "HOME": str(self.home), **(env or {})}
        if path:
            environ["PATH"] = str(path)
        if prints is not None:
            environ["PATH"] = f"{self._patient(prints)}:{environ['PATH']}"
        return launch(
            LocalLink(environ), state_dir=str(self.state), run_id=self.run_id, detach=detach,
            expect=self.seen() if expect is None else expect, limit_s=LAUNCH_S,
        )  # fmt: skip

    def _patient(self, line):
        folder = self.home / "patient"
        folder.mkdir(exist_ok=True)
        text = _SLEEP.format(folder=self.dir, line=shlex.quote(line), sleep=shutil.which("sleep"))
        (folder / "sleep").write_text(text)
        (folder / "sleep").chmod(0o755)
        return folder

    def open_gate(self):
        (self.work / "gate").write_text("go\n")

    def end(self):
        """End all that this run started, by pid, and nothing else."""
        for process in self.procs:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        wait_until(self._ended, 60, "everything of the run is gone")

    def _ended(self):
        left = [pid for pid in {*self.tagged(), *self.pids, *self.marked()} if alive(pid)]
        for pid in left:
            kill(pid)
        return not left

    # -- looking

    def record(self, name):
        with contextlib.suppress(FileNotFoundError):
            lines = (self.dir / name).read_text().splitlines()
            return dict(line.split("=", 1) for line in lines if "=" in line)
        return {}

    def seen(self):
        """What the records say, as a caller quotes it."""
        number, end = self.record("attempt").get("attempt", "0"), self.record("end")
        return f"{number}:{end['state']}" if end.get("attempt") == number else number

    def launches(self, name=""):
        """Names of the work that was begun, in order."""
        return [line.split()[0] for line in self._launched() if line.startswith(name)]

    def _launched(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.work / "launches").read_text().splitlines()
        return []

    def trainer(self):
        """Pid of the newest `work train`."""
        pid = int([line for line in self._launched() if line.startswith("train")][-1].split()[1])
        self.pids.add(pid)
        return pid

    def up(self, times=1):
        wait_until(lambda: len(self.launches("train")) >= times, 60, f"launch {times} of the trainer")

    def over(self, seen):
        """The records say so, and the chain that wrote them has left."""
        wait_until(lambda: self.seen() == seen and self.verdict() == "free", 60, f"the run is at {seen}")

    def stamped(self):
        names = {path.name for path in (self.dir / "markers").glob("*")}
        return {name for name in names if self.record(f"markers/{name}").get("nonce") == self.nonce}

    def tagged(self):
        """Pids with the run's tag in their environment, found by other means than the chain's."""
        want = f"BABYSIT_TAG={self.run.tag}/"
        return {pid for pid in pids() if want in proc(pid, "environ")}

    def marked(self):
        """Pids with one of the run's marks."""
        found = set()
        for pid in pids():
            rss = re.search(r"Max resident set +(\d+) ", proc(pid, "limits"))
            if rss and rss[1] in self.marks and alive(pid):
                found.add(pid)
        return found

    def free(self, lock):
        """Does nobody hold this lock?"""
        path = self.dir / f"{lock}.lock"
        return subprocess.run(["flock", "-n", "-s", path, "true"], check=False).returncode == 0

    def verdict(self):
        if not self.free("chain"):
            return "running"
        return "free" if self.free("stage") and not self.tagged() else "orphaned"

    def collisions(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.work / "collisions").read_text().split()
        return []

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.dir / "run.log").read_text(errors="replace")
        return ""


def result(process, bound_s=BOUND_S):
    """Exit code and output of one start."""
    out, _ = process.communicate(timeout=bound_s)
    return process.returncode, out.strip()


def words(results):
    """How often each first word came."""
    counted = {}
    for _, said in results:
        word = said.partition(":")[0]
        counted[word] = counted.get(word, 0) + 1
    return counted


def tools(folder, *, but=(), busybox=False):
    """A PATH folder with links to this machine's tools, or to busybox's, except `but`; python3 is ours."""
    folder.mkdir()
    found = {}
    if busybox:
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout
        # cksum is an applet of upstream's default build that Debian leaves out.
        found = {"cksum": shutil.which("cksum")} | dict.fromkeys(applets.split(), shutil.which("busybox"))
    else:
        for place in reversed(os.get_exec_path()):
            found |= {path.name: path for path in Path(place).glob("*") if os.access(path, os.X_OK)}
    found["python3"] = PYTHON
    for name in found.keys() - set(but):
        (folder / name).symlink_to(found[name])
    return folder
