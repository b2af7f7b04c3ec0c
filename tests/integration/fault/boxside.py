"""The box's half of the sweeps: our scripts and the chain, with their shell or any of their tools hit at a point.

The scripts run as sshd would run them, without SSH and without timeout(1): so the shell that strace starts is the
very one that runs the script, and each of its own calls has one number.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import strace
from integration.chain.rig import Rig, tools
from processes import children
from small_box import SmallBox, kill_session
from sweep import Point, kills
from waiting import wait_until

from fleet.arming.place import Claim, claim, put_file, ship
from fleet.arming.preflight import preflight
from fleet.arming.ship import build_pyz, onbox_name
from fleet.arming.start import launch
from fleet.errors import BabysitError
from fleet.link.base import COMMAND, PROBE_MAX_BYTES, Reply, packed
from fleet.model.spec import BoxSpec

# What the shell itself does between two of its tools, and by its own redirections.
SHELL_CALLS = ("clone", "clone3", "vfork", "fork", "write", "openat", "dup2", "pipe2", "execve")
# What any tool does to a file. Each call of an untouched run is a point, told from the others by its path.
FILE_CALLS = (
    *("openat", "write", "fsync", "fdatasync", "mkdir", "rename", "renameat2", "symlinkat", "symlink"),
    *("unlink", "unlinkat", "link", "linkat"),
)
FAILURES = {
    "kill": FILE_CALLS,
    "ENOSPC": FILE_CALLS,
    "EIO": FILE_CALLS,
    "EINTR": ("write", "openat", "fsync"),
}
_PATH = re.compile(r'"(/[^"]*)"|<(/[^<>]*)>')
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$", re.MULTILINE)
LIMIT_S = 150.0  # of a script under strace, which takes many times its own time
FILES = {
    "plan": b"p" * 200,
    "nonce": b"0" * 33,
    "stages/01-a.sh": b"a" * 20_000,
    "stages/02-b.sh": b"",
    "spec.json": b"{}",
}


def file_points(log: bytes, below: Path, short: str = "") -> list[Point]:
    """Each call in the log of an untouched run that touched a file under `below`; `{short}` for a visit's own token."""
    found: dict[tuple[str, str], None] = {}
    for call, rest in _LINE.findall(log.decode(errors="replace")):
        if call not in FILE_CALLS or (call == "openat" and "O_CREAT" not in rest) or "ENOENT" in rest:
            continue
        for match in _PATH.finditer(rest):
            path = match[1] or match[2]
            if path.startswith(f"{below}/"):
                name = path.removeprefix(f"{below}/")
                found[call, name.replace(short, "{short}") if short else name] = None
                break
    return [
        Point(call, 1, what, (path,))
        for what, calls in FAILURES.items()
        for call, path in found
        if call in calls
    ]


class TracedLink:
    """A link on which one call of the script is hit. `cripple` takes a guard out of the script: (old, new)."""

    def __init__(
        self, env: dict[str, str], below: Path, point: Point | None, cripple: tuple[str, str] | None = None
    ):
        self._env = env
        self._below = below
        self._point = point
        self._cripple = cripple
        self.hit = False
        self.counts: list[tuple[str, int]] = []
        self.files: list[Point] = []

    def run(self, script, request, *, limit_s, max_bytes=PROBE_MAX_BYTES):
        script = crippled(script, self._cripple)
        words = ["/bin/sh", "-c", COMMAND]
        short = request.split(b"\n")[0].split()[1][:8].decode()
        how = {"env": self._env, "stdin": packed(script, request, limit_s), "limit_s": LIMIT_S}
        if self._point is None:
            # A point is a visit of its own: who wants counts makes one without any.
            result, log = strace._run(words, ["-y", "-e", f"trace={','.join(FILE_CALLS)}"], **how)
            self.files = file_points(log, self._below, short)
        else:
            paths = [str(self._below / path.replace("{short}", short)) for path in self._point.paths]
            call, nth, what, _ = self._point
            result = strace.run_injected(words, call, nth, what, paths=paths, follow=bool(paths), **how)
            self.hit = result.hit
        return Reply(result.status, result.stdout[:max_bytes], result.stderr, 0.0)

    def close(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class CountingLink(TracedLink):
    """A link that counts what the script's own shell calls."""

    def run(self, script, request, *, limit_s, max_bytes=PROBE_MAX_BYTES):  # noqa: ARG002
        words = ["/bin/sh", "-c", COMMAND]
        how = {
            "env": self._env,
            "stdin": packed(crippled(script, self._cripple), request, limit_s),
            "follow": False,
            "limit_s": LIMIT_S,
        }
        self.counts = strace.points(words, syscalls=SHELL_CALLS, **how)
        raise CountedError


class CountedError(BabysitError):
    """The visit was only made to be counted."""

    def __init__(self) -> None:
        super().__init__("counted")


def crippled(script: bytes, cripple: tuple[str, str] | None) -> bytes:
    """The script without its guard; a guard that is not there is an error."""
    if cripple is None:
        return script
    old, new = (text.encode() for text in cripple)
    assert old in script, f"no {cripple[0]!r} in the script"
    return script.replace(old, new)


class StoppedLink:
    """A link whose script stops at its point; `meanwhile` is done, then it goes on."""

    def __init__(self, env, point: Point, meanwhile: Callable[[], None], cripple=None):
        self._env = env
        self._point = point
        self._meanwhile = meanwhile
        self._cripple = cripple
        self.hit = False

    def run(self, script, request, *, limit_s, max_bytes=PROBE_MAX_BYTES):
        call, nth = self._point[:2]
        with tempfile.NamedTemporaryFile(prefix="strace-") as log:
            words = [shutil.which("strace"), "-q", "-o", log.name, "-e", f"trace={call}"]
            words += ["-e", f"inject={call}:signal=STOP:when={nth}", "--", "/bin/sh", "-c", COMMAND]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            child = subprocess.Popen(words, env=self._env, start_new_session=True, **pipes)
            said: list[bytes] = []
            talk = threading.Thread(
                target=lambda: said.append(
                    child.communicate(packed(crippled(script, self._cripple), request, limit_s))[0]
                )
            )
            talk.start()
            try:
                stopped = lambda: b"stopped by SIGSTOP" in Path(log.name).read_bytes()  # noqa: E731 - a condition
                wait_until(lambda: stopped() or not talk.is_alive(), 90, "the script stops at its point")
                self.hit = stopped()
                if self.hit:
                    shell = children(child.pid)
                    self._meanwhile()
                    for pid in shell:
                        os.kill(pid, signal.SIGCONT)
                talk.join(90)
            finally:
                if talk.is_alive():
                    kill_session(child.pid)
                    talk.join(30)
        assert said, "the script did not go on"
        return Reply(child.returncode, said[0][:max_bytes], b"", 0.0)

    def close(self) -> None:
        pass


class Claiming:
    """One name on a small box, claimed with a fault in it; `before` owned the name already, or nobody did."""

    def __init__(self, folder: Path, path: str, *, before: str | None = None, cripple=None) -> None:
        self.folder = folder
        self.path = path
        self.before = before
        self.cripple = cripple
        self._numbers = count(1)

    def _box(self) -> SmallBox:
        box = SmallBox(self.folder / f"box{next(self._numbers)}", self.path)
        if self.before:
            assert _take(box, box.link(), self.before) == Claim(self.before, fresh=True)
        return box

    def points(self) -> tuple[list[tuple[str, int]], list[Point]]:
        """Counts of the script's own shell, and every call of any tool on a file."""
        box = self._box()
        counting = CountingLink(box.env, box.home, None, self.cripple)
        with suppress(CountedError):
            _take(box, counting, "train-n1", self.before)
        box = self._box()
        traced = TracedLink(box.env, box.home, None, self.cripple)
        assert _take(box, traced, "train-n1", self.before).owner == "train-n1"
        return counting.counts, traced.files

    def judge(self, point: Point) -> bool:
        """The name is nobody's new or the claimer's, each owner whole, and everybody who asks later agrees."""
        box = self._box()
        link = TracedLink(box.env, box.home, point, self.cripple)
        with suppress(BabysitError):
            told = _take(box, link, "train-n1", self.before)
            assert told.owner == "train-n1", f"told {told}"
        _whole(box, "train-n1")
        other = _take(box, box.link(), "train-o2", self.before)
        assert other.owner in {"train-n1", "train-o2"}, other
        assert other.fresh is (other.owner == "train-o2"), other
        _whole(box, other.owner, must=True)
        again = _take(box, box.link(), "train-n1", self.before)
        assert again == Claim(other.owner, fresh=False), f"{again} after {other}"
        assert str((box.state / "names/train").readlink()) == other.owner
        if self.before:
            _whole(box, self.before, must=True)
        return link.hit

    def race(self, point: Point) -> bool:
        """The claimer stands still at the point while another one claims: one of them is told that it won."""
        box = self._box()
        others: list[Claim] = []
        link = StoppedLink(
            box.env,
            point,
            lambda: others.append(_take(box, box.link(), "train-o2", self.before)),
            self.cripple,
        )
        mine = _take(box, link, "train-n1", self.before)
        if others:
            assert mine.owner == others[0].owner, f"two owners: {mine} and {others[0]}"
            assert mine.fresh + others[0].fresh == 1, f"{mine} and {others[0]}"
        assert str((box.state / "names/train").readlink()) == mine.owner
        _whole(box, mine.owner, must=True)
        return link.hit


def _take(box: SmallBox, link, run_id: str, expect: str | None = None) -> Claim:
    return claim(
        link, state_dir=None, run_name="train", run_id=run_id, files=FILES, expect_owner=expect, limit_s=90
    )


def _whole(box: SmallBox, run_id: str, *, must: bool = False) -> None:
    """A run's folder has every byte, or (unless it must) is not there."""
    folder = box.state / "runs" / run_id
    if must or folder.exists():
        for path, content in FILES.items():
            file = folder / path
            assert file.is_file() and file.read_bytes() == content, f"half a run: {run_id}/{path}"


class Putting:
    """One file of a run, or the shipped tool, replaced with a fault in it: a reader finds the old or the new one."""

    def __init__(self, folder: Path, path: str, what: str) -> None:
        self.folder = folder
        self.path = path
        self.what = what
        self._numbers = count(1)

    def _box(self) -> tuple[SmallBox, Callable[[object], None], Path, bytes | None, bytes]:
        """A box, the act over a link, the file that it is about, what stands there and what shall."""
        box = SmallBox(self.folder / f"box{next(self._numbers)}", self.path)
        _take(box, box.link(), "train-a1")
        if self.what == "tool":
            pyz = build_pyz()[0][:20_000]  # under strace each of its bytes costs its time
            name = onbox_name(hashlib.sha256(pyz).hexdigest()[:12])
            report = preflight(
                box.link(), box=BoxSpec("gpu1", "h"), run_name="train", onbox_name=name, limit_s=90
            )
            return box, lambda link: ship(link, report, pyz, name), box.share / name, None, pyz
        old, new = b"old page\n" * 500, b"new page\n" * 900
        how = {"state_dir": None, "run_id": "train-a1", "name": "handbook.md"}
        put_file(box.link(), **how, content=old)
        page = box.state / "runs/train-a1/handbook.md"
        return box, lambda link: put_file(link, **how, content=new), page, old, new

    def points(self) -> list[Point]:
        """Each call of the script's own shell, and of any tool on a file."""
        box, act, *_ = self._box()
        counting = CountingLink(box.env, box.home, None)
        with suppress(CountedError):
            act(counting)
        box, act, *_ = self._box()
        traced = TracedLink(box.env, box.home, None)
        act(traced)
        return [*kills(counting.counts, SHELL_CALLS), *traced.files]

    def judge(self, point: Point) -> bool:
        """One point: the file is the old or the new one, and the same act again makes it the new one."""
        box, act, file, old, new = self._box()
        link = TracedLink(box.env, box.home, point)
        done = False
        with suppress(BabysitError):
            act(link)
            done = True
        found = file.read_bytes() if file.exists() else None
        assert found in ((new,) if done else (old, new)), f"{len(found or b'')} bytes, done: {done}"
        act(box.link())
        assert file.read_bytes() == new
        return link.hit


class Starting:
    """One run on this machine, started by `launch` (or by its chain alone) with a fault in it."""

    def __init__(self, folder: Path, *, detach: str = "setsid", cripple: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.detach = detach
        self.cripple = cripple
        self.path = str(tools(folder / "bin", but=("timeout",)))
        self._numbers = count(1)

    def _run(self, *, fails: bool = False) -> tuple[Rig, dict[str, str]]:
        home = self.folder / f"home{next(self._numbers)}"
        home.mkdir()
        rig = Rig(home, cripple=self.cripple, train=f"work train; sleep 0.2; over; exit {3 if fails else 0}")
        return rig, {"HOME": str(rig.home), "PATH": self.path, "TMUX_TMPDIR": str(home)}

    def points(self) -> tuple[list[tuple[str, int]], list[Point]]:
        """Of a launch: its shell's own counts, and every call of any tool, chain and stage on a file."""
        rig, env = self._run()
        counting = CountingLink(env, rig.dir, None)
        with suppress(CountedError):
            self._launch(rig, counting, "0")
        self._ended(rig)
        rig.end()
        rig, env = self._run()
        traced = TracedLink(env, rig.dir, None)
        self._launch(rig, traced, "0")
        self._ended(rig)
        rig.end()
        return counting.counts, traced.files

    def chain_points(self) -> list[tuple[str, int]]:
        """Of the chain itself: its shell's own counts."""
        rig, env = self._run()
        words, how = ["sh", str(rig.chain), "0"], {"env": env, "follow": False, "limit_s": LIMIT_S}
        found = strace.points(words, syscalls=SHELL_CALLS, **how)
        rig.end()
        return found

    def judge(self, point: Point) -> bool:
        """A launch with the fault in it, then the same again: one launch of the job.

        Every second job that is hit in its launching shell alone fails, so that nothing but the fence is in the
        way of the repeat.
        """
        fails = not point.paths and point.nth % 2 == 0
        rig, env = self._run(fails=fails)
        try:
            link = TracedLink(env, rig.dir, point)
            with suppress(BabysitError):
                self._launch(rig, link, "0")
            if fails:
                self._failed_once(rig)
            else:
                self._once(rig, "0")
            return link.hit
        finally:
            rig.end()

    def judge_chain(self, point: Point) -> bool:
        """The chain with the fault in it, then launches until it is done."""
        rig, env = self._run()
        try:
            words, how = ["sh", str(rig.chain), "0"], {"env": env, "follow": False, "limit_s": LIMIT_S}
            result = strace.run_injected(words, point.syscall, point.nth, point.what, **how)
            self._once(rig, "0")
            return result.hit
        finally:
            rig.end()

    def _once(self, rig: Rig, expect: str) -> None:
        """Started again by whoever did it, then resumed with proof until it is done; never two, never invented."""
        self._launch(rig, None, expect)
        wait_until(lambda: rig.verdict() == "free", 90, "what was started ends")
        for _ in range(3):
            if rig.seen().endswith(":done"):
                break
            stamped, launched = "01-train" in rig.stamped(), len(rig.launches())
            self._launch(rig, None, rig.seen())
            wait_until(lambda: rig.verdict() == "free", 90, "what was started ends")
            assert not stamped or len(rig.launches()) == launched, "a stamped stage ran again"
        assert rig.seen().endswith(":done"), f"{rig.seen()}\n{rig.log()}"
        assert "01-train" in rig.stamped(), "done, and nothing stamped"
        assert not rig.collisions(), "two were alive at once"

    def _failed_once(self, rig: Rig) -> None:
        """Started again as whoever armed it would: one launch, and it is never taken for a finished one."""
        self._launch(rig, None, "0")
        wait_until(lambda: rig.seen().endswith(":failed") and rig.verdict() == "free", 90, "it fails")
        assert len(rig.launches()) == 1, f"{len(rig.launches())} launches of a job that failed"
        assert rig.seen() == "1:failed"
        assert not rig.stamped()

    def _launch(self, rig: Rig, link, expect: str):
        if link is None:
            return rig.launch(expect, detach="setsid")
        return launch(
            link, state_dir=str(rig.state), run_id=rig.run_id, expect=expect, detach=self.detach, limit_s=60
        )

    def _ended(self, rig: Rig) -> None:
        wait_until(lambda: rig.seen().endswith(":done"), 90, "the run ends")
