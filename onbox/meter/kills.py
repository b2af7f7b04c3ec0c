"""Whether the OOM killer was at work when a process of the tree went: by the kernel's own count."""

import signal
from typing import Optional, Sequence, Tuple

from onbox.meter.cgroup import Group
from onbox.meter.machine import Machine

_EVERY_S = {"cgroup": 1.0, "machine": 30.0}  # the machine's file is long
_DYING_S = 60.0  # the count goes up when the signal is sent; to give back much memory takes a while
_AFTER_S = 3600.0  # a command that lost a process may wait for it before it ends


class Kills:
    """The count of the command's group, else the machine's, at the beginning and whenever a process went."""

    def __init__(self, group: Group, machine: Machine, now: float) -> None:
        self._group, self._machine = group, machine
        self.scope = "machine" if group.kills() is None else "cgroup"
        self._first = self._last = self._count()
        self._again_at = now + _EVERY_S[self.scope]
        self._rose_at: Optional[float] = None
        self._hit_at: Optional[float] = None

    def look(self, now: float, gone: Sequence[object], *, last: bool = False) -> None:
        """Nothing comes back: `gone` went since the look before; at the `last` one the command has ended."""
        if not gone and not last and now < self._again_at:
            return
        self._again_at = now + _EVERY_S[self.scope]
        count = self._count()
        if count is not None and self._last is not None and count > self._last:
            self._rose_at = now
        self._last = count
        if gone and self._rose_at is not None and now - self._rose_at < _DYING_S:
            self._hit_at = now

    def seen(self) -> Optional[Tuple[int, int, str]]:
        """The count at the beginning and at the last look, and whose it is; None where nobody counts."""
        if self._first is None or self._last is None:
            return None
        return self._first, self._last, self.scope

    def hit(self, now: float, died_by: Optional[int]) -> bool:
        """Whether it took the command, which died by that signal, or lately one of its tree."""
        if died_by == signal.SIGKILL and self._rose_at is not None and now - self._rose_at < _DYING_S:
            return True
        return self._hit_at is not None and now - self._hit_at < _AFTER_S

    def _count(self) -> Optional[int]:
        return self._group.kills() if self.scope == "cgroup" else self._machine.kills()
