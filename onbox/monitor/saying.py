"""Lines about a command that has ended, for whoever reads them."""

import os
import select
import sys
from typing import Any

_PATIENCE_MS = 2000
_PIECE_CHARS = 1000  # within a page: a pipe that takes anything takes that


def say(text: str, stream: Any = None) -> None:
    """Nothing comes back. Who reads us may be gone, stuck, or never was: the command ended as it did."""
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return
    try:
        for at in range(0, len(text) + 1, _PIECE_CHARS):
            if not _takes(stream):
                return
            last = at + _PIECE_CHARS > len(text)
            print(text[at : at + _PIECE_CHARS], end="\n" if last else "", file=stream, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # or Python tries again as it ends, and makes it our status
        os.close(nowhere)


def _takes(stream: Any) -> bool:
    """Whether a page goes out without waiting, now or before long."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return True  # in memory
    door = select.poll()
    door.register(descriptor, select.POLLOUT)
    return bool(door.poll(_PATIENCE_MS))
