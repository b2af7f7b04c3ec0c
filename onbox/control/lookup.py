"""What a queue holds, for its reader from outside; and moving it aside."""

import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Optional

from onbox.control import files, listener
from onbox.control.lines import key, parsed
from onbox.wire.folder import gone


class Listening(Exception):  # noqa: N818 - reads as what happened
    """A living program takes the commands of this queue."""


def status(folder: Path, last: int) -> Dict[str, Any]:
    """The document of 0.1.0, then how many commands nobody acknowledged, and who listens. Raises OSError."""
    kept: Deque[bytes] = deque(maxlen=last if last > 0 else None)
    acks, known = 0, set()
    for line in _lines(files.acks(folder)):
        acks += 1
        kept.append(line)
        identity = _whole(line).get("id")
        if identity:
            known.add(key(identity))
    commands = pending = 0
    for line in _lines(files.commands(folder)):
        commands += 1
        identity = _whole(line).get("id")
        pending += bool(identity) and key(identity) not in known
    shown = list(kept)[-last:]  # as 0.1.0 cuts it: 0 is all, below 0 all but the first
    return {
        "queue_dir": str(folder),
        "commands": commands,
        "acks": acks,
        "last_acks": [ack for ack in map(_whole, shown) if ack],
        "pending": pending,
        "listener": _listener(folder),
    }


def commands_in(folder: Path) -> int:
    """How many commands were ever written into the file that is there. Raises OSError."""
    return sum(1 for _ in _lines(files.commands(folder)))


def archive(folder: Path) -> List[str]:
    """The names to which the files of the queue were moved. Raises Listening while there is one, OSError."""
    found = listener.announced(folder / "onbox")
    if found is not None and listener.lives(found) is not False:
        raise Listening("nothing was moved: pid %d on %s takes the commands" % (found.who.pid, found.host))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    moved = []
    for path in (files.commands(folder), files.acks(folder)):
        descriptor = files.reading(path)
        if descriptor is None:
            continue
        try:
            with files.Locked(descriptor):
                moved.append(_aside(path, stamp).name)
        finally:
            os.close(descriptor)
    gone(folder / "onbox" / "place.json")  # of a file that is no more
    return moved


def _aside(path: Path, stamp: str) -> Path:
    """Where `path` went: a name that was free."""
    number = 1
    while True:
        suffix = "" if number == 1 else "-%d" % number
        target = path.with_name("%s.%s%s%s" % (path.stem, stamp, suffix, path.suffix))
        try:
            os.link(str(path), str(target))
        except FileExistsError:
            number += 1
            continue
        path.unlink()
        return target


def _listener(folder: Path) -> Optional[Dict[str, Any]]:
    found = listener.announced(folder / "onbox")
    if found is None:
        return None
    said = {"pid": found.who.pid, "alive": listener.lives(found), "host": found.host, "since": found.since}
    return {**said, "polled": found.polled, "world": found.world}


def _lines(path: Path) -> Iterator[bytes]:
    descriptor = files.reading(path)
    if descriptor is None:
        return
    with os.fdopen(descriptor, "rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def _whole(line: bytes) -> Dict[str, Any]:
    """The object in a line; nothing for one that was torn."""
    document = parsed(line)
    return {} if document.get("op") == "invalid" and "ts" not in document else document
