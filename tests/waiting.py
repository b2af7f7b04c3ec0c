"""Waiting for a condition, with a bound and a message that says what never happened."""

import socket
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], bound_s: float, message: str) -> None:
    """Return as soon as `condition()` is true; fail the test when it is not, asked once more after `bound_s` seconds.

    What takes long to ask is asked less often: a wait must not be the load that it waits for.
    """
    deadline = time.monotonic() + bound_s
    while True:
        asked = time.monotonic()
        if condition():
            return
        if asked > deadline:
            raise AssertionError(f"not within {bound_s:g} s: {message}")
        time.sleep(min(0.2, max(0.01, time.monotonic() - asked)))


def listens(path: Path | str) -> bool:
    """Whether somebody accepts at this Unix socket; its file is there before that."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0
