"""What lies in the folder while a loop lives: card, registry entry, live state; and how loops ended."""

import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from onbox.loop import ends
from onbox.loop.running import Loop
from onbox.wire import card as cards
from onbox.wire import folder as place
from onbox.wire import identity, registry
from onbox.wire.text import dumped

_DURABLE_S = 1.0  # between two records that wait for the disk: a program of many short loops must not


class Presence:
    """One process in one folder. Everything here may raise OSError: who calls counts it."""

    def __init__(self, folder: Path, pid: int, outermost: Loop, why: Optional[str]) -> None:
        self.folder, self._pid = folder, pid
        self._card = _card(pid, outermost, why)
        self._registered = 0
        self._wrote: Tuple[int, int] = (outermost.n, outermost.iteration())
        self._durable_at = 0.0

    def describe(self, loops: List[Loop]) -> None:
        """Nothing comes back: card and registry name the loops that live, outermost first; one at least."""
        named = tuple(cards.Loop(loop.n, loop.label, loop.total, loop.started_at) for loop in loops)
        self._card = self._card._replace(loops=named)
        cards.write(self.folder, self._card)
        if self._registered != loops[0].n:
            registry.changed(self.folder, lambda entries: self._list(entries, loops[0]))
            self._registered = loops[0].n

    def write_state(self, loop: Loop) -> None:
        """Nothing comes back: the state is there, if enough iterations were finished since the last."""
        n, wrote = self._wrote
        now = loop.iteration()
        if n == loop.n and now - wrote < (loop.state_every if wrote > loop.initial else 1):
            return
        self._wrote = (loop.n, now)
        place.write_whole(place.state(self.folder, self._pid), dumped(loop.state(), indent=2))

    def record(self, loop: Loop, *, durably: bool) -> None:
        """Nothing comes back: how the loop ended lies there, synced when that is asked and not too often."""
        now = time.monotonic()
        waits = durably and now - self._durable_at > _DURABLE_S
        ends.write(self.folder, ends.record(loop, self._card), durably=waits)
        if waits:
            self._durable_at = now

    def unregister(self) -> None:
        """Nothing comes back: the registry does not name the process."""
        registry.changed(self.folder, lambda entries: entries.pop(str(self._pid), None))

    def remove(self) -> None:
        """Nothing comes back: state and card are gone."""
        place.gone(place.state(self.folder, self._pid))
        place.gone(place.card(self.folder, self._pid))

    def _list(self, entries: Dict[str, Any], loop: Loop) -> None:
        started = dt.datetime.fromtimestamp(loop.started_at, dt.timezone.utc)
        entries.pop(str(self._pid), None)
        entries[str(self._pid)] = {
            "pid": self._pid,
            "label": loop.label[: cards.LABEL],
            "script": _script(),
            "language": "python",
            "start_time": started.isoformat(),
            "ppid": os.getppid(),
        }


def _card(pid: int, loop: Loop, why: Optional[str]) -> cards.Card:
    try:
        cwd = os.getcwd()  # noqa: PTH109 - a folder that is gone has none
    except OSError:
        cwd = ""
    return cards.Card(
        identity=identity.of(pid) or identity.Identity(pid, None, None),
        host=os.uname().nodename,
        cwd=cwd,
        script=_script(),
        started_at=time.time(),
        tag=os.environ.get("BABYSIT_TAG"),
        group=loop.group.group,
        rank=loop.group.rank,
        world=loop.group.world,
        loops=(),
        why=why,
    )


def _script() -> str:
    words = getattr(sys, "argv", None) or [""]
    return str(words[0])
