"""What dead loops left in the folder, taken away; nothing of a living process, or of another machine."""

import os
import re
import stat
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set

from onbox.ipc import known
from onbox.ipc.known import Known, Roll
from onbox.wire import card as cards
from onbox.wire import folder as place
from onbox.wire import identity, registry

_OF_A_PID = re.compile(r"([1-9][0-9]{0,9})\.(fifo|state\.json|cmd)")
_ANSWER = re.compile(r"[0-9a-f]{16}\.fifo")
_VOTE = re.compile(r"[0-9a-f]{16}")
_DRAFT = re.compile(r"\..+\.([1-9][0-9]{0,9})\.[0-9]+")
_YOUNG_S = 60.0  # an asker that has made its FIFO and not opened it yet
_VOTE_S = 86400.0


def cleaned(folder: Path) -> List[int]:
    """The pids whose traces were removed, ascending. Raises Torn, OSError."""
    found = known.roll(folder)
    removed = _entries(folder, found) | _files(folder, found)
    inside = place.card(folder, 1).parent
    for path in [*_names(folder), *_names(inside)]:
        match = _DRAFT.fullmatch(path.name)
        if match and identity.of(int(match.group(1))) is None and _aged(path, _YOUNG_S):
            _dropped(path, stat.S_ISREG)
        elif path.parent == inside and _ANSWER.fullmatch(path.name) and not _in_use(path):
            _dropped(path, stat.S_ISFIFO)
    forgotten(folder, found.living)
    return sorted(removed)


def forgotten(folder: Path, living: Sequence[Known]) -> None:
    """Nothing comes back: votes older than a day are gone, if no living rank can still have to read them."""
    ranks = [one.card.started_at for one in living if one.card is not None and one.card.group is not None]
    for path in _names(place.vote(folder, "0").parent):
        old = _VOTE.fullmatch(path.name) and _aged(path, _VOTE_S)
        if old and all(began > _made_at(path) for began in ranks):
            _dropped(path, stat.S_ISREG)


def _entries(folder: Path, found: Roll) -> Set[int]:
    """The pids whose entries were taken out: dead when we looked, and still the same entry."""
    dead = {entry.pid: entry.start_time for entry in found.entries if entry.pid in found.gone}
    dead = {pid: start for pid, start in dead.items() if found.gone[pid].dead}
    removed: Set[int] = set()

    def without(document: Dict[str, Any]) -> None:
        for key in list(document):
            value = document[key]
            pid: Optional[Any] = value.get("pid") if isinstance(value, dict) else None
            if type(pid) is int and pid in dead and (value.get("start_time") or "") == dead[pid]:
                del document[key]
                removed.add(pid)

    if dead:
        registry.changed(folder, without)
    return removed


def _files(folder: Path, found: Roll) -> Set[int]:
    """The pids of which a FIFO, state, command file or card was removed."""
    removed: Set[int] = set()
    for path in _names(folder):
        match = _OF_A_PID.fullmatch(path.name)
        if match and _is_dead(folder, int(match.group(1)), found):
            kind = stat.S_ISFIFO if match.group(2) == "fifo" else stat.S_ISREG
            if _dropped(path, kind):
                removed.add(int(match.group(1)))
    for pid in known.card_pids(folder):
        path = place.card(folder, pid)
        if _is_dead(folder, pid, found) and _dropped(path, stat.S_ISREG):
            removed.add(pid)
    return removed


def _is_dead(folder: Path, pid: int, found: Roll) -> bool:
    """Whether nothing of that number can still need its files."""
    if any(one.pid == pid for one in found.living):
        return False
    if pid in found.gone:
        return found.gone[pid].dead
    card = cards.read(folder, pid)
    if card is not None and known.elsewhere(card):
        return False
    return identity.of(pid) is None or (card is not None and not identity.same(card.identity))


def _names(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()


def _dropped(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether it was of that kind and ours, and is gone now."""
    try:
        about = path.lstat()
    except OSError:
        return False
    return kind(about.st_mode) and about.st_uid == os.geteuid() and place.gone(path)


def _aged(path: Path, seconds: float) -> bool:
    return time.time() - _made_at(path) > seconds


def _made_at(path: Path) -> float:
    """Unix time of its last change; now for what is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _in_use(path: Path) -> bool:
    """Whether somebody reads that FIFO, or may be about to."""
    if not _aged(path, _YOUNG_S):
        return True
    try:
        os.close(os.open(str(path), os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError:
        return False
    return True
