"""Now. The one place where time is read; everything else gets it as a value."""

import time

_COUNTS_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # outside Linux the latter does, too


def now() -> float:
    """Wall-clock time, epoch seconds: for what is shown and stored."""
    return time.time()


def monotonic() -> float:
    """Seconds that never go back: for every limit and deadline."""
    return time.monotonic()


def since_boot() -> float:
    """Seconds that never go back, however the clock is set, and that pass while the machine sleeps."""
    return time.clock_gettime(_COUNTS_SLEEP)
