"""How a loop ended, from the record it left; a process that is gone without one was killed."""

import re
from pathlib import Path
from typing import Any, Dict, Optional

from onbox.ipc.shown import shown
from onbox.wire import folder as place
from onbox.wire import text
from onbox.wire.identity import Identity

_CAP = 4 << 20
WELL = ("finished", "continued", "broken", "left")


def record(folder: Path, who: Identity, n: int) -> Optional[Dict[str, Any]]:
    """The end record of that loop, None where there is none (yet)."""
    path = place.ended(folder) / ("%d-%s-%d.json" % (who.pid, who.start_ticks, n))
    try:
        return text.loaded(place.read_plain(path, _CAP))
    except (OSError, ValueError):
        return None


def newest(folder: Path, pid: int, n: int) -> Optional[Dict[str, Any]]:
    """The newest end record of loop `n` of a process with that pid; None where there is none."""
    name = re.compile(r"%d-[0-9]+-%d\.json" % (pid, n))
    found: Optional[Path] = None
    try:
        paths = [path for path in place.ended(folder).iterdir() if name.fullmatch(path.name)]
        found = max(paths, key=lambda path: path.lstat().st_mtime, default=None)
        return None if found is None else text.loaded(place.read_plain(found, _CAP))
    except (OSError, ValueError):
        return None


def went_well(said: Optional[Dict[str, Any]]) -> bool:
    """Whether it ended as it was meant to, or as somebody asked."""
    return said is not None and said.get("ended") in WELL


def unsure(said: Optional[Dict[str, Any]]) -> bool:
    """Whether the record may still change: an exception on its way out has only left the loop yet."""
    return said is None or said.get("ended") == "left"


def iteration(said: Dict[str, Any]) -> Optional[int]:
    """How many iterations had ended, None where the record does not say."""
    state = said.get("state")
    count = state.get("iteration") if isinstance(state, dict) else None
    return count if isinstance(count, int) else None


def sentence(said: Optional[Dict[str, Any]]) -> str:
    """The record in a few words, `killed` without one."""
    if said is None:
        return "it left no end record: it was killed"
    words = "its end record says: %s" % shown(said.get("ended"), 40)
    if iteration(said) is not None:
        words += " after iteration %d" % (iteration(said) or 0)
    if said.get("exception"):
        words += ", %s" % shown(said["exception"], 120)
    if said.get("exit_code") is not None:
        words += ", exit code %s" % shown(said["exit_code"], 20)
    if said.get("saved"):
        words += ", saved %s" % shown(said["saved"])
    return words
