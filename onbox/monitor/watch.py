"""One command under watch: when it is looked at, who of its orphans is collected, and how it ended."""

import os
import resource
import signal
import threading
import time
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from onbox.meter.sampler import Ended, Sampler
from onbox.monitor import pace
from onbox.monitor.sink import Sink
from onbox.monitor.waits import Wait, stat_words

_GLEAN_S = 0.25  # between two collections of ended orphans, however many end
_UNTOLD_S = 1.0  # the same, where nobody tells us that one has ended
_FLOOR_SLACK_KB = 256  # what the child may still touch between our look at it and its exec

_left: List[Tuple[int, str]] = []  # children of ours that outlived their command: pid, start; collected later
_left_lock = threading.Lock()


class Death(NamedTuple):
    """How the command ended; None where nobody told us."""

    exit_code: Optional[int] = None
    signal: Optional[int] = None
    core: bool = False

    @property
    def code(self) -> Optional[int]:
        """As `subprocess` has it: minus the signal's number for who died of one."""
        return self.exit_code if self.signal is None else -self.signal


class Watch:
    """Samples on schedule between `begin` and `finish`. Its methods are called by one thread."""

    def __init__(self, sampler: Sampler, sink: Sink, base_ms: float, max_ms: float) -> None:
        self.sampler, self.sink = sampler, sink
        self._base_s, self._max_s = base_ms / 1000.0, max_ms / 1000.0
        self.pid = 0
        self.wait: Wait = Wait(lambda: True)
        self.errors: List[str] = []
        self.end = b""  # the line of its end
        self.cost_s = 0.0
        self.looked: Callable[[], None] = lambda: None
        self._ours = True
        self._death: Optional[Death] = None
        self._floor_kb = 0
        self._adopted: List[Any] = []
        self._glean_at = float("inf")
        self._gleaned = float("-inf")
        self._thinned = 0
        self.released()

    def begin(self, pid: int, words: Sequence[str], executable: str, wait: Wait) -> None:
        """Nothing comes back: sample zero of a child at its gate was taken. Raises what the sampler does."""
        sweep()
        self.wait.close()
        self.wait = wait
        before = time.thread_time()
        lines = self.sampler.zero(pid, words, executable)
        self.pid = pid  # by which one knows whether this is to be done again, after an interrupt
        self.sink.take(lines)
        self._floor_kb = _high_water_kb(pid) + _FLOOR_SLACK_KB
        self.cost_s += time.thread_time() - before

    def attach(self, pid: int, wait: Wait) -> None:
        """Nothing comes back: the same of a process that runs already, whose end is no business of ours."""
        self.pid, self.wait, self._ours = pid, wait, False
        self.sink.take(self.sampler.attach(pid))
        self.released()

    def released(self) -> None:
        """Nothing comes back: the command runs from now on, and the schedule begins."""
        self.began = time.monotonic()
        self._pace = pace.first(self._base_s, self._max_s, self.began)

    def turn(self, moment: float = float("inf")) -> bool:
        """Whether the command has ended; comes back by `moment`, with one sample taken where one was due."""
        alarm = min(self._pace.due, moment, self._glean_at)
        if self.wait.until(alarm):
            return True
        now = time.monotonic()
        if now < alarm:  # something else ended, or a signal came
            self._glean_at = max(now, self._gleaned + _GLEAN_S)
        if now >= min(self._glean_at, max(self._pace.due, self._gleaned + _UNTOLD_S)):
            self.glean()
        self.look_if_due()
        return False

    def look_if_due(self) -> None:
        """Nothing comes back: a sample was taken if it was time for one."""
        if time.monotonic() >= self._pace.due:
            self.look()

    def look(self) -> List[bytes]:
        """The lines of a sample that was taken now; none when that failed, which is remembered."""
        before = time.thread_time()
        lines: List[bytes] = []
        moved = False
        try:
            lines = self.sampler.sample()
            moved = self.sampler.moved()
            self.sink.take(lines)
            self.looked()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the command its watcher
            self.remember("a sample failed: %r" % error)
        cost = time.thread_time() - before
        self.cost_s += cost
        self._pace = pace.following(self._pace, time.monotonic(), cost, moved=moved)
        if self.sink.file is not None and self.sink.file.thinned > self._thinned:
            self._thinned = self.sink.file.thinned
            self._pace = pace.slower(self._pace)
        return lines

    def glean(self) -> None:
        """Nothing comes back: orphans of the tree that have ended were collected, and counted."""
        self._glean_at, self._gleaned = float("inf"), time.monotonic()
        if not self._ours:
            return
        try:
            orphans = self.sampler.orphans()
        except Exception as error:  # noqa: BLE001 - as above
            self.remember("orphans were not collected: %r" % error)
            return
        for pid in orphans:
            try:
                found, _, usage = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:
                continue
            if found:
                self._adopted = [_summed([*self._adopted, usage])]

    def finish(
        self,
        killed: Optional[str] = None,
        *,
        died: Optional[Callable[[Death], None]] = None,
        death: Optional[Death] = None,
        cpu_s: Optional[float] = None,
    ) -> Death:
        """How the command ended: collected, its end record written, everything closed.

        `killed`: `timeout` or `user` where we ended it, `told` where we passed a signal on. `died` is told
        first of all. `death`: it is known already. `cpu_s`: what watching cost, where that is known better
        than by the samples.
        """
        usage, wall_s = None, time.monotonic() - self.began
        if self._ours and death is None and self._death is None:
            self.looked = lambda: None  # who looks on is told the end itself
            self.glean()  # the sample has the IO of who was collected before it
            self.look()  # while it waits to be collected the last sample has the totals to its end
        stat, counters = (_raw(self.pid, "stat"), _raw(self.pid, "io")) if self._ours else (None, None)
        if death is None and self._death is None:
            death, usage = collected(self.pid) if self._ours else (Death(), None)
        death = self._death = self._death or death or Death()  # an interrupt may bring us here again
        if died is not None:
            died(death)
        left: List[Tuple[int, str]] = []
        try:
            left = self.sampler.living(fresh=True)
        except Exception as error:  # noqa: BLE001 - as above: how it ended is known
            self.remember("what is left running is not known: %r" % error)
        self.glean()  # behind the look, or who ended between the two would be in neither
        if self._ours:
            _keep([pid for pid, _ in left])
        ended = Ended(
            exit_code=death.exit_code,
            signal=death.signal,
            core=death.core,
            rusage=usage,
            killed=_whose(killed, death),
            left=left,
            dropped=self._pace.dropped,
            errors=self.errors + self.sink.errors(),
            monitor_cpu_s=self.cost_s if cpu_s is None else cpu_s,
            wall_s=wall_s,
            stat=stat,
            io=counters,
            floor_kb=self._floor_kb,
            adopted=self._adopted,
        )
        try:
            self.end = self.sampler.end(ended)
            self.sink.take([self.end])
        except Exception as error:  # noqa: BLE001 - as above
            self.remember("the end record failed: %r" % error)
        self.sink.close()
        self.wait.close()
        return death

    def remember(self, what: str) -> None:
        """Nothing comes back: the end record names it, once."""
        if what not in self.errors and len(self.errors) < 20:
            self.errors.append(what)


def collected(pid: int) -> Tuple[Death, Optional[resource.struct_rusage]]:
    """How our child ended and what it used; nothing of both where it lives, or somebody else collected it."""
    try:
        found, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Death(), None
    if not found:
        return Death(), None
    if os.WIFSIGNALED(status):
        return Death(signal=os.WTERMSIG(status), core=os.WCOREDUMP(status)), usage
    return Death(exit_code=os.WEXITSTATUS(status)), usage


def send(pids: Sequence[int], number: "signal.Signals") -> None:
    """Nothing comes back: each of them was told, if it was there and we may."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # noqa: PERF203 - one that is gone hides none of the rest
            continue


def sweep() -> None:
    """Nothing comes back: what earlier commands left running, and has ended since, is collected."""
    with _left_lock:
        for pid, start in list(_left):
            words = stat_words(pid)
            if len(words) < 20 or words[19] != start or words[1] != str(os.getpid()):
                _left.remove((pid, start))
            elif words[0] == "Z":
                _left.remove((pid, start))
                collected(pid)


def _keep(pids: Sequence[int]) -> None:
    with _left_lock:
        for pid in pids:
            words = stat_words(pid)
            if len(words) >= 20 and words[1] == str(os.getpid()):
                _left.append((pid, words[19]))


def _whose(killed: Optional[str], death: Death) -> Optional[str]:
    """Our part in it: who was only told may have died of something else, or ended well."""
    if killed != "told":
        return killed
    return None if death.exit_code == 0 or death.signal == signal.SIGKILL else "user"


def _summed(usages: Sequence[Any]) -> Any:
    """One that stands for all: sums, and of memory the largest."""
    sums = [sum(values) for values in zip(*usages)]
    sums[2] = max(usage.ru_maxrss for usage in usages)
    return resource.struct_rusage(sums)


def _raw(pid: int, name: str) -> Optional[bytes]:
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:  # noqa: PTH123 - as in waits
            return file.read()
    except OSError:
        return None


def _high_water_kb(pid: int) -> int:
    """VmHWM of the child at its gate: the kernel counts it into ru_maxrss of what it becomes."""
    for line in (_raw(pid, "status") or b"").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1])
    return 0
