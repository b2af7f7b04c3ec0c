"""SIGUSR1: one that comes with a line of loopmonitor 0.1.x is ours, any other is for who was there before.

The sender writes its line first and signals then. So whoever sees a signal reads the FIFO before judging it:
a line read is a credit, a signal takes one. Several signals may arrive as one, which leaves credits behind;
those are let go a second later. A main thread stuck in C hears its signal late: until it moves, credits
stay.
"""

import collections
import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Deque, Optional

from onbox.loop import dispositions

_SIGNAL = signal.SIGUSR1
_LEFT_OVER_S = 1.0
_LATE_S = 0.05
_STEP_S = 0.001
_IGNORE = 1  # <signal.h>: SIG_IGN as an address

_earlier: Any = None
_arrived: Deque[int] = collections.deque()
_passed_on: Deque[int] = collections.deque()
_wake: Optional[Callable[[], None]] = None


# Where nobody was there before, a signal only has to be survived. A handler in Python would not do: under a
# flood the next signal interrupts its first line, until the stack ends. This one runs no line of Python.
_NOBODY = {0: None}.get


def _on_signal(number: int, frame: Optional[FrameType]) -> None:
    """Nothing comes back: the signal waits to be judged or is passed on, and what that raises is raised."""
    wake = _wake
    if wake is not None and not _passed_on:
        try:
            _arrived.append(number)
            wake()
        except RecursionError:  # a flood: the calls in between are the signals that are counted already
            pass
        return
    if _passed_on:
        _passed_on.popleft()
    if callable(_earlier):
        _earlier(number, frame)


def installed() -> str:
    """Why the signal can still kill, empty when it cannot.

    Off the main thread it is ignored where nobody takes it. What C code
    put there gets every signal as before: the FIFO is read without one.
    """
    global _earlier  # noqa: PLW0603 - there is one disposition in a process
    now = signal.getsignal(_SIGNAL)
    if dispositions.passed_on_to_default(_SIGNAL, now):
        return "faulthandler passes it on to the default (chain=True, registered before the loop)"
    if threading.current_thread() is not threading.main_thread():
        return "" if _taken() or _ignored() else "a loop in a thread, and the signal cannot be ignored"
    if (
        now is not None
        and now is not _on_signal
        and now is not _NOBODY
        and not dispositions.of_c(_SIGNAL, now)
    ):
        _earlier = now
        signal.signal(_SIGNAL, _on_signal if callable(now) else _NOBODY)
    return ""


def heard_by(wake: Optional[Callable[[], None]]) -> None:
    """Nothing comes back: `wake` is called for each signal; None: the earlier handler gets them at once."""
    global _wake  # noqa: PLW0603 - as above
    _wake = wake


def put_back(still: "Credits") -> None:
    """Nothing comes back: the earlier handler is there again if there was one; the default never is.

    A signal whose line was read but that is not here yet is waited for, 50 ms at most.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    now = signal.getsignal(_SIGNAL)
    if now is _NOBODY and _earlier is signal.SIG_IGN:
        signal.signal(_SIGNAL, signal.SIG_IGN)
    if now is not _on_signal or dispositions.of_c(_SIGNAL, now):  # faulthandler, registered inside the loop
        return
    deadline = time.monotonic() + _LATE_S
    while still.open() and time.monotonic() < deadline:
        time.sleep(_STEP_S)  # a handler of ours runs in here
        still.settle(len(_arrived))
    _arrived.clear()
    signal.signal(_SIGNAL, _earlier)


def at_exit() -> None:
    """Nothing comes back: the end of the interpreter puts no default there that a late signal would find."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(_SIGNAL) is _NOBODY:
        signal.signal(_SIGNAL, signal.SIG_IGN)


def forked() -> None:
    """Nothing comes back: a child hears for itself."""
    heard_by(None)
    _arrived.clear()
    _passed_on.clear()


class Credits:
    """Lines of 0.1.x whose signal is still to come; used by the one thread that reads the FIFO."""

    def __init__(self) -> None:
        self._read_at: Deque[float] = collections.deque()

    def open(self) -> int:
        """How many signals are still to come."""
        return len(self._read_at)

    def lines(self, count: int) -> None:
        """Nothing comes back: so many lines were read."""
        self._read_at.extend([time.monotonic()] * count)

    def settle(self, arrived: int) -> None:
        """Nothing comes back: so many signals, seen before the FIFO was read, are swallowed or passed on."""
        now = time.monotonic()
        for _ in range(arrived):
            if _arrived:
                _arrived.popleft()
            if self._read_at:
                self._read_at.popleft()
                self._read_at = collections.deque([now] * len(self._read_at))
            elif callable(_earlier):
                _passed_on.append(_SIGNAL)
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def moved(self) -> None:
        """Nothing comes back: the main thread ran, so what was sent long before was heard, or never sent."""
        now = time.monotonic()
        while self._read_at and now - self._read_at[0] > _LEFT_OVER_S:
            self._read_at.popleft()


def arrived() -> int:
    """How many signals wait to be judged: asked before the FIFO is read."""
    return len(_arrived)


def _taken() -> bool:
    """Whether the kernel knows a handler for it, or ignores it."""
    bit = 1 << (_SIGNAL - 1)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return callable(signal.getsignal(_SIGNAL))
    masks = [line.split()[1] for line in lines if line.startswith(("SigCgt:", "SigIgn:"))]
    return any(int(mask, 16) & bit for mask in masks)


def _ignored() -> bool:
    """Whether it could be ignored: `signal.signal` works in the main thread only."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.signal.restype = ctypes.c_void_p
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.signal(int(_SIGNAL), _IGNORE)
    except (OSError, AttributeError, ValueError):
        return False
    return _taken() and os.name == "posix"
