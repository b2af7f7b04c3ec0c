"""How a loop ended, on disk: so that "done" and "never there" look different."""

import contextlib
import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any, Dict, List, Tuple

from onbox.fs import write_durably
from onbox.loop.history import fitting, newest
from onbox.loop.running import Loop
from onbox.wire import folder as place
from onbox.wire.card import Card
from onbox.wire.text import dumped

KEPT = 64
_CAP = 4 << 20
_SPARED = 16  # beyond those: what ended a stage must not be pushed out by short loops of other programs
_HISTORY = 64 << 10
LEFT, EXCEPTION, SIGNAL = "left", "exception", "signal"
_FAILED = 1  # the exit status of Python for an exception that nobody caught
_INTERRUPTED = 130

Where = Tuple[CodeType, int]  # the code that ran the loop, and the line it was at when the loop was left


def record(loop: Loop, card: Card) -> Dict[str, Any]:
    """The end record of `loop`, in the order in which it lies on disk."""
    return {
        "format": 1,
        **card.identity._asdict(),
        "host": card.host,
        "cwd": card.cwd,
        "script": card.script,
        "tag": card.tag,
        **loop.group._asdict(),
        "n": loop.n,
        "label": loop.label[:200],
        "ended": loop.how,
        "exception": loop.exception,
        "exit_code": loop.exit_code,
        "saved": None if loop.parting is None else loop.parting.facts.get("saved"),
        "started_at": loop.started_at,
        "ended_at": loop.ended_at,
        "state": loop.state(),
        "history": fitting(newest(loop.series, 0), _HISTORY),
    }


def write(folder: Path, said: Dict[str, Any], *, durably: bool) -> None:
    """Nothing comes back: the record lies in `ended/`, where the newest are kept. Raises OSError."""
    place.ours(folder)
    ended = place.private(place.ended(folder))
    name = "%d-%s-%d.json" % (said["pid"], said["start_ticks"], said["n"])
    content = dumped(said)
    if durably:
        write_durably(ended / name, content)
    else:
        place.write_whole(ended / name, content)
    _prune(ended)


def explained(loop: Loop, where: Where) -> bool:
    """Whether more is known now: the program ended by an exception that went through the loop's own line."""
    kind, trace = getattr(sys, "last_type", None), getattr(sys, "last_traceback", None)
    if kind is None or loop.how != LEFT:
        return False
    while trace is not None:
        if (trace.tb_frame.f_code, trace.tb_lineno) == where:
            interrupted = issubclass(kind, KeyboardInterrupt)
            loop.how = SIGNAL if interrupted else EXCEPTION
            loop.exception = kind.__name__
            loop.exit_code = _INTERRUPTED if interrupted else _FAILED
            return True
        trace = trace.tb_next
    return False


def _prune(ended: Path) -> None:
    found: List[Tuple[int, str]] = []
    with os.scandir(str(ended)) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
    spared = 0
    for _, path in sorted(found, reverse=True)[KEPT:]:
        if spared < _SPARED and _broken(Path(path)):
            spared += 1
        else:
            place.gone(Path(path))


def _broken(path: Path) -> bool:
    try:
        return b'"ended": "broken"' in place.read_plain(path, _CAP).partition(b', "state": ')[0]
    except OSError:
        return False
