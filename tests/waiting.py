"""Waiting for a condition, with a bound and a message that says what never happened."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], bound_s: float, message: str) -> None:
    """Return as soon as `condition()` is true; fail the test after `bound_s` seconds."""
    deadline = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {bound_s:g} s: {message}")
        time.sleep(0.01)
