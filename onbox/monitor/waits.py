"""Waiting for the end of one process, with a limit: by a descriptor of it, by our signals, or by looking."""

import os
import select
import signal
import time
from typing import Callable, Iterable, Optional, Union

from onbox.monitor.kernel import pidfd

_LOOK_S = 0.01  # between two looks, where nothing tells us
_LONGEST_S = 3600.0  # one wait; the kernel counts no further than some weeks


class Wait:
    """What every kind of waiting answers; this one looks again and again."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self.ended = ended

    def until(self, moment: float) -> bool:
        """Whether the process has ended, asked until `time.monotonic()` is at `moment` at the latest.

        It may come back earlier, and is asked again then.
        """
        while not self.ended():
            left = moment - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK_S))
        return True

    def pause(self, seconds: float) -> None:
        """Nothing comes back: so much later, whatever the process does."""
        time.sleep(max(0.0, seconds))

    def close(self) -> None:
        """Nothing comes back: what it held open is closed."""


class DescriptorWait(Wait):
    """Waits on a pidfd, so that the end is seen at once and nothing is asked meanwhile."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(lambda: bool(self._poll.poll(0)))
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def until(self, moment: float) -> bool:
        """As it is said above."""
        return bool(self._poll.poll(_left(moment) * 1000))

    def close(self) -> None:
        """As it is said above."""
        self.ended = lambda: True  # asked again, the number may be another file's
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class SignalWait(Wait):
    """Waits for signals that are blocked in every thread: SIGCHLD, and those that `told` is called with.

    It comes back early when `told` answers true or some other child has ended.
    """

    def __init__(
        self, pid: int, waited: Iterable[int], told: Callable[["signal.struct_siginfo"], bool]
    ) -> None:
        super().__init__(child_ended(pid))
        self._waited, self._told = tuple(waited), told

    def until(self, moment: float) -> bool:
        """As it is said above."""
        if not self.ended():
            self._next(moment)
        return self.ended()

    def pause(self, seconds: float) -> None:
        """As it is said above."""
        self._next(time.monotonic() + seconds)

    def _next(self, moment: float) -> None:
        while True:
            seen = signal.sigtimedwait(self._waited, _left(moment))
            # Stopped (SIGSTOP) until the time was over Python gives no None, but whatever stood in memory.
            if seen is None or seen.si_signo not in self._waited:
                return
            if seen.si_signo == signal.SIGCHLD or self._told(seen):
                return


def _left(moment: float) -> float:
    return min(_LONGEST_S, max(0.0, moment - time.monotonic()))


def child_ended(pid: int) -> Callable[[], bool]:
    """Asks whether our own child has ended, without collecting it; one that somebody else collected has."""

    def ended() -> bool:
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    return ended


def stranger_ended(pid: int, start: Optional[int]) -> Callable[[], bool]:
    """Asks whether the process that began at `start` (clock ticks since boot) has ended; a zombie has."""

    def ended() -> bool:
        words = stat_words(pid)
        return not words or words[0] in ("Z", "X") or (start is not None and int(words[19]) != start)

    return ended


def stat_words(pid: Union[int, str]) -> "list[str]":
    """The fields of /proc/PID/stat from the state on (the 3rd of proc(5)); empty when it is gone."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:  # noqa: PTH123 - no path arithmetic, and often called
            return file.read().rpartition(b")")[2].decode("ascii", "replace").split()
    except OSError:
        return []


def for_child(pid: int) -> Wait:
    """The best way there is to wait for a child of ours that stands at its gate."""
    descriptor = pidfd(pid)
    return Wait(child_ended(pid)) if descriptor is None else DescriptorWait(descriptor)


def for_stranger(pid: int) -> Wait:
    """The best way there is to wait for any process. Raises ProcessLookupError: there is none."""
    words = stat_words(pid)
    if not words:
        raise ProcessLookupError(3, "no process %d" % pid)
    descriptor = pidfd(pid)
    ended = stranger_ended(pid, int(words[19]))
    return Wait(ended) if descriptor is None else DescriptorWait(descriptor)
