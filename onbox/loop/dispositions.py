"""What the kernel does with a signal, which Python's own table does not say: C code may have taken it."""

import ctypes
import signal
import sys
from typing import Any, Optional, Tuple

_NODEFER = 0x40000000  # asm-generic/signal-defs.h SA_NODEFER; faulthandler sets it with chain=True only
_NO_HANDLER = (None, 0, 1)  # <signal.h>: SIG_DFL, SIG_IGN as addresses


class _Action(ctypes.Structure):
    """<signal.h>: struct sigaction of Linux, the same in glibc and musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (1024 // 8 // ctypes.sizeof(ctypes.c_ulong))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def of_c(number: int, said: Any) -> bool:
    """Whether C code has the signal, where Python's table has `said`: faulthandler, a runtime of its own.

    Every handler in Python is one and the same to the kernel, so that of SIGINT tells ours from theirs.
    """
    now = _action(number)
    if now is None or now[0] in _NO_HANDLER:
        return False
    if not callable(said):
        return True
    known = _action(signal.SIGINT) if callable(signal.getsignal(signal.SIGINT)) else None
    return known is not None and known[0] not in _NO_HANDLER and known[0] != now[0]


def passed_on_to_default(number: int, said: Any) -> bool:
    """Whether faulthandler has it and passes it on to the default, which kills: chain=True."""
    if (
        "faulthandler" not in sys.modules
        or callable(said)
        or said == signal.SIG_IGN
        or not of_c(number, said)
    ):
        return False
    now = _action(number)
    return now is not None and bool(now[1] & _NODEFER)


def _action(number: int) -> Optional[Tuple[Optional[int], int]]:
    """Handler and flags; None where they cannot be asked for."""
    found = _Action()
    try:
        if ctypes.CDLL(None).sigaction(int(number), None, ctypes.byref(found)) != 0:
            return None
    except (OSError, AttributeError, ValueError):
        return None
    return found.handler, found.flags
