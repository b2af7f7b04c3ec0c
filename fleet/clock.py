"""Now. The one place where time is read; everything else gets it as a value."""

import time


def now() -> float:
    """Wall-clock time, epoch seconds: for what is shown and stored."""
    return time.time()


def monotonic() -> float:
    """Seconds that never go back: for every limit and deadline."""
    return time.monotonic()
