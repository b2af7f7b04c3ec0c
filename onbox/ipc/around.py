"""What surrounds the command: the streams it was given, and the signals that end it."""

import os
import signal
import sys
from types import FrameType
from typing import Any, Dict, NoReturn, Optional

_ENDING = ("SIGHUP", "SIGINT", "SIGTERM")
_AGAIN_S = 0.01


class ReaderGone(Exception):  # noqa: N818 - reads as what happened
    """Nobody reads what we would say, or who started us has closed our standard input."""


class Ended(BaseException):
    """A signal wants us gone: what we made is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def open_streams() -> None:
    """Nothing comes back: no file of ours gets the number of a stream that was closed before we began."""
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def listen_to_signals(before: Dict[int, Any]) -> None:
    """Nothing comes back: what ends us is an exception from now on, once; who listened goes into `before`.

    One that meets a callback of the interpreter (an import lock) cannot be raised there: it comes again.
    """

    def end(number: int, _frame: Optional[FrameType]) -> NoReturn:
        for name in _ENDING:
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # nothing may cut the clearing up
        raise Ended(number)

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, Ended):
            sys.__unraisablehook__(lost)
            return
        number = lost.exc_value.number
        signal.signal(signal.SIGALRM, lambda _signal, frame: end(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    sys.unraisablehook = again
    for name in _ENDING:
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            before[number] = signal.signal(number, end)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
