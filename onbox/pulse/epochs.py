"""`report`: an epoch's figures on standard output and, the same line, in a file."""

import os
import time
from pathlib import Path
from typing import Any, Optional, Set, Union

from onbox.fs import check_plain
from onbox.loop import console
from onbox.loop.faults import Faults
from onbox.pulse import beat, words
from onbox.wire.folder import write_whole

FILE = "PROGRESS.txt"
_PATIENCE_S, _AGAIN_S = 0.2, 0.01

Where = Union[str, "os.PathLike[str]"]

_reported_at = time.monotonic()
_unwritten: Set[str] = set()


def report(epoch: int, epochs: Optional[int] = None, *, file: Optional[Where] = FILE, **values: Any) -> None:
    """Nothing comes back: the epoch, counted from 1, stands in one line on standard output and in `file`.

    The time in it is since the report before, for the first one since this module was imported. `file`
    None: no file. In a loop of `progress` the values are tracked as well.
    """
    global _reported_at
    here = beat.here()
    try:
        now = time.monotonic()
        took_s, _reported_at = now - _reported_at, now
        counter = here.running()
        kept = {name: words.kept(value) for name, value in values.items()}
        if counter is not None:
            counter.track(kept)
        here.reported = ("epoch", epoch, epochs), now
        if not here.quiet and beat.speaks():
            say(words.epoch_line(epoch, epochs, kept, took_s), file, here.faults, patience_s=_PATIENCE_S)
    except Exception as error:  # noqa: BLE001 - the program must never hear of it
        here.faults.note(error)


def say(line: str, file: Optional[Where], faults: Faults, patience_s: float = 0.0) -> None:
    """Nothing comes back: the line stands on standard output and in `file`, or it is counted why not.

    A full pipe is waited for so long at most.
    """
    until = time.monotonic() + patience_s
    while not console.say(line, faults) and time.monotonic() < until:
        time.sleep(_AGAIN_S)
    if file is None:
        return
    path = Path(os.path.realpath(os.fspath(file)))
    try:
        check_plain(path)
        write_whole(path, line.encode("utf-8", "replace") + b"\n")
        _unwritten.discard(str(path))
    except OSError as error:
        faults.note(error)
        if str(path) not in _unwritten:  # once: whoever reads the file would believe an old line
            _unwritten.add(str(path))
            console.say("[PROGRESS] %s cannot be written: %s" % (path.name, error.strerror or error), faults)
