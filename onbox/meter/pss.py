"""Memory with what is shared divided among those who share it: true of a sum, and dear to ask."""

import time
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

from onbox.meter.stat import kib_of
from onbox.meter.tree import Member

_EVERY_S = 30.0
_FIRST_S = 1.0  # before it, a short job is over
_SLICE_S = 0.002  # of processor time in one sample
_PART = 300  # a process whose memory takes a second to count is asked again after so many


class Pss:
    """Goes round the members, a few a sample; a round has a sum when each of it was asked or is gone."""

    def __init__(self, now: float, proc: str = "/proc") -> None:
        self._proc = proc
        self._due = now + _FIRST_S
        self._waiting: List[Member] = []
        self._found: Dict[Tuple[int, int], int] = {}
        self._cost_s = 0.0

    def look(self, members: Iterable[Member], now: float) -> Tuple[Dict[int, int], Optional[int]]:
        """KiB by pid of those that were asked now; the sum, where a round has ended with them."""
        if not self._waiting:
            if now < self._due:
                return {}, None
            self._waiting = [member for member in members if not member.stat.dead]
            self._found, self._cost_s = {}, 0.0
        living = {member.key for member in members}
        asked: Dict[int, int] = {}
        began = time.thread_time()
        spent = 0.0
        while self._waiting and spent < _SLICE_S:
            member = self._waiting.pop()
            if member.key not in living:
                continue
            pss = self._ask(member.pid)
            if pss is not None:
                asked[member.pid] = self._found[member.key] = pss
            spent = time.thread_time() - began
        self._cost_s += spent
        if self._waiting:
            return asked, None
        self._due = now + max(_EVERY_S, _PART * self._cost_s)
        total = sum(pss for key, pss in self._found.items() if key in living)
        return asked, total if self._found else None

    def _ask(self, pid: int) -> Optional[int]:
        try:
            return kib_of(Path(self._proc, str(pid), "smaps_rollup").read_bytes(), b"Pss")
        except OSError:
            return None  # it is gone, another user's, or the kernel is older than 4.14
