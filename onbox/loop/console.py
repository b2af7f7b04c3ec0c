"""Lines on the program's standard output, as loopmonitor 0.1.x prints them; never blocking, never raising."""

import fcntl
import select
import struct
import sys
import termios
from typing import Optional

from onbox.loop.faults import Faults

_WAITING = 16384  # what the stream may hold back already: its own buffer, twice
_GETPIPE_SZ = 1032  # linux/fcntl.h F_GETPIPE_SZ; Python names it from 3.10 on


def say(text: str, faults: Faults) -> bool:
    """Whether the lines of `text` stand on standard output; else they are dropped and counted."""
    try:
        stream = sys.stdout
        if not takes(stream, len(text) * 4):
            faults.note("standard output takes nothing now")
            return False
        encoding = getattr(stream, "encoding", None) or "ascii"
        # One call for all of it: what the program prints at the same time comes before or behind.
        stream.write((text + "\n").encode(encoding, "replace").decode(encoding))
        stream.flush()
    except Exception as error:  # noqa: BLE001 - the stream may be anything
        faults.note(error)
        return False
    return True


def takes(stream: object, length: int) -> bool:
    """Whether `stream` takes so many bytes now. Raises what a closed or foreign stream raises."""
    return stream is not None and _has_room(_descriptor(stream), length)


def _descriptor(stream: object) -> Optional[int]:
    """The descriptor under the stream, None for one in memory."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        if getattr(stream, "closed", False):
            raise
        return None


def _has_room(descriptor: Optional[int], length: int) -> bool:
    """Whether so many bytes, and what the stream holds back, go out at once and to someone."""
    if descriptor is None:
        return True
    asked = select.poll()
    asked.register(descriptor, select.POLLOUT)
    seen = asked.poll(0)
    if not seen or seen[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        return False
    try:
        size = fcntl.fcntl(descriptor, _GETPIPE_SZ)
    except OSError:  # not a pipe
        return True
    held = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0]
    # A pipe of one page, as a user of many pipes gets it, is never so large: empty is all that it can be.
    return bool(size - held >= length + _WAITING or (not held and length <= size))
