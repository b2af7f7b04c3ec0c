"""How far a file of commands was read, and the whole lines behind that place."""

import hashlib
import json
import os
from typing import Any, Iterator, NamedTuple, Optional

from onbox.control.lines import MAX_LINE

LINES = 1000  # of one batch; the rest is taken at the next poll
_BUFFER = 4 * MAX_LINE  # read at once: more than the longest line
_SKIPPED = 64 * MAX_LINE  # of one line that is too long, in one batch
_BEFORE = 4096  # bytes before the place; equal commands differ in their ids alone, which stand in front


class Place(NamedTuple):
    """A place in a file. `within`: it is in the middle of a line that is too long.

    Up to the offset `retold` the file was read before, nobody knows how far.
    """

    device: int
    inode: int
    offset: int
    before: str  # hash of the 4096 bytes before the offset, or fewer at the file's beginning
    within: bool = False
    retold: int = 0

    def behind(self, other: "Place") -> bool:
        """Whether this one is farther in the file than `other`; the beginning is that of every file."""
        one_file = (self.device, self.inode) == (other.device, other.inode)
        return (one_file or other.offset == 0) and self.offset > other.offset


BEGINNING = Place(0, 0, 0, "")


class Line(NamedTuple):
    """What was found up to the offset `end`; `content` is None for a line too long, b"" for a part of one."""

    content: Optional[bytes]
    end: int
    within: bool = False


def place_at(descriptor: int, line: Line, retold: int) -> Place:
    """The place behind `line`."""
    about = os.fstat(descriptor)
    return Place(
        about.st_dev, about.st_ino, line.end, _hash_before(descriptor, line.end), line.within, retold
    )


def still(descriptor: int, place: Place) -> bool:
    """Whether it is that file still, and neither cut nor grown anew behind a cut."""
    if place.offset == 0:
        return True
    about = os.fstat(descriptor)
    if (about.st_dev, about.st_ino) != (place.device, place.inode) or about.st_size < place.offset:
        return False
    return _hash_before(descriptor, place.offset) == place.before


def lines_behind(descriptor: int, place: Place) -> Iterator[Line]:
    """At most 1000 lines behind `place`, whole ones only."""
    offset = place.offset
    if place.within:
        end = _newline(descriptor, offset)
        yield Line(b"", abs(end), within=end < 0)
        if end < 0:
            return
        offset = end
    content = _read(descriptor, _BUFFER, offset)
    start = 0
    for _ in range(LINES):
        newline = content.find(b"\n", start)
        if newline < 0:
            break
        line = content[start:newline]
        start = newline + 1
        yield Line(line if len(line) <= MAX_LINE else None, offset + start)
    else:
        return
    if len(content) - start > MAX_LINE:
        yield Line(None, offset + len(content), within=True)


def dumped(place: Place) -> bytes:
    """`place` as the file that keeps it."""
    return (json.dumps({"format": 1, **place._asdict()}) + "\n").encode("ascii")


def loaded(document: Any) -> Place:
    """The place that `document` holds. Raises ValueError for anything else."""
    try:
        place = Place(*(document[name] for name in Place._fields))
    except (TypeError, KeyError, IndexError):
        raise ValueError("no place") from None
    numbers = (place.device, place.inode, place.offset, place.retold)
    if not all(type(each) is int and each >= 0 for each in numbers):
        raise ValueError("no place")
    if not isinstance(place.before, str) or not isinstance(place.within, bool):
        raise ValueError("no place")  # noqa: TRY004 - one way to say it
    return place


def _newline(descriptor: int, offset: int) -> int:
    """The offset behind the next newline; negative: how far there was none."""
    limit = offset + _SKIPPED
    while offset < limit:
        content = _read(descriptor, MAX_LINE, offset)
        found = content.find(b"\n")
        if found >= 0:
            return offset + found + 1
        if not content:
            break
        offset += len(content)
    return -offset


def _hash_before(descriptor: int, offset: int) -> str:
    size = min(_BEFORE, offset)
    return hashlib.sha256(_read(descriptor, size, offset - size)).hexdigest()


def _read(descriptor: int, size: int, offset: int) -> bytes:
    pieces = []
    while size:
        piece = os.pread(descriptor, size, offset)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return b"".join(pieces)
