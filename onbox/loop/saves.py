"""A snapshot of a loop's state in the program's own folder, and what is said of it."""

import datetime as dt
import os
from pathlib import Path
from typing import Any, Dict, NamedTuple

from onbox.loop.answers import FAILED, Asker
from onbox.wire import folder as place
from onbox.wire.text import dumped


class Saved(NamedTuple):
    """What a save gave: the facts for who asked, and why it is not whole, empty when it is."""

    facts: Dict[str, Any]
    why: str


def tell(asker: Asker, saved: Saved) -> None:
    """Nothing comes back: `asker` knows what came of it."""
    if saved.why:
        asker.cannot(FAILED, saved.why, **saved.facts)
    else:
        asker.done(**saved.facts)


def snapshot(kind: str, state: Dict[str, Any]) -> str:
    """The path of the state as a file in the program's folder. Raises OSError."""
    stamp = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%S")
    path = Path.cwd() / ("loopmonitor_%s_%d_%s.json" % (kind, os.getpid(), stamp))
    place.write_whole(path, dumped(state, indent=2))
    return str(path)
