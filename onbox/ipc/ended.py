"""How a loop ended, from the record it left; a process that is gone without one was killed."""

import contextlib
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

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


def newest(folder: Path, pid: int, n: Optional[int]) -> Optional[Dict[str, Any]]:
    """The newest end record of loop `n` (None: of any) of a process with that pid; None without one."""
    name = re.compile(r"%d-[0-9]+-%s\.json" % (pid, "[0-9]+" if n is None else n))
    found: List[Dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for path in place.ended(folder).iterdir():
            if name.fullmatch(path.name):
                with contextlib.suppress(OSError, ValueError):
                    found.append(text.loaded(place.read_plain(path, _CAP)))
    return max(found, key=_ended_at, default=None)


def _ended_at(said: Dict[str, Any]) -> float:
    at = said.get("ended_at")
    return float(at) if isinstance(at, (int, float)) else 0.0


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
