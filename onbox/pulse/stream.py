"""Standard output, so that what is printed appears at once."""

import io
import os
import sys

from onbox.loop import console

FLAG, VARIABLE, LINES, NOT = "-u", "PYTHONUNBUFFERED", "line buffering", ""


def unbuffered() -> str:
    """Why what is printed from here on appears at once: `-u`, `PYTHONUNBUFFERED` or `line buffering`.

    Empty where it does not: a stream of the program's own, or one that takes nothing now. The variable
    counts where the process began with it; put into the environment later it does nothing here.
    """
    lines(sys.stderr)  # written in blocks by Python 3.8
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):  # nothing below that could wait
        named = os.environ.get("PYTHONUNBUFFERED") and not sys.flags.ignore_environment
        return VARIABLE if named else FLAG
    return LINES if lines(sys.stdout) else NOT


def lines(stream: object) -> bool:
    """Whether `stream` gives on each line as it ends. Never raises, never waits for a reader."""
    try:
        if getattr(stream, "line_buffering", False):
            return not getattr(stream, "closed", False)
        # It is flushed on the way, and a pipe without a reader would hold us up.
        if not console.takes(stream, 1):
            return False
        stream.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - the stream may be anything
        return False
    return bool(getattr(stream, "line_buffering", False))
