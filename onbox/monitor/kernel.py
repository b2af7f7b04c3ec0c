"""Two calls that Python may have no name for: a descriptor of a process, and to be the parent of orphans."""

import os
import threading
from typing import Any, Optional

_PIDFD_OPEN = 434  # one number on every architecture but alpha: Linux 5.3, pidfd_open(2)
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h

_lock = threading.Lock()
_wanted = 0  # how many watches of this process want the orphans
_before = 0  # what the process was before the first of them
_whose = 0  # pid of that process: a fork of it has these figures, and takes in no orphans


def pidfd(pid: int) -> Optional[int]:
    """A descriptor that becomes readable when `pid` ends; None where the kernel or Python has no way to one.

    Raises ProcessLookupError: no such process.
    """
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError:  # an older kernel, a filter of system calls, no descriptor left
            return None
    libc = _libc()
    if libc is None:
        return None
    import ctypes  # noqa: PLC0415 - heavy, and only Python 3.8 comes here

    found = int(libc.syscall(ctypes.c_long(_PIDFD_OPEN), ctypes.c_int(pid), ctypes.c_uint(0)))
    if found >= 0:
        os.set_inheritable(found, False)
        return found
    if ctypes.get_errno() == 3:  # ESRCH
        raise ProcessLookupError(3, os.strerror(3))
    return None


def adopt() -> bool:
    """Whether orphans below us come to us from here on. Once for each call of `disown`."""
    global _wanted, _before, _whose  # noqa: PLW0603 - it is a property of the process, and so is this
    with _lock:
        if not _wanted or _whose != os.getpid():
            before = _subreaper()
            if before is None or not _set_subreaper(1):
                return False
            _wanted, _before, _whose = 0, before, os.getpid()
        _wanted += 1
        return True


def disown() -> None:
    """Nothing comes back: after the last watch the process is again what it was before the first."""
    global _wanted  # noqa: PLW0603 - as above
    with _lock:
        _wanted -= 1
        if not _wanted:
            _set_subreaper(_before)


def _subreaper() -> Optional[int]:
    libc = _libc()
    if libc is None:
        return None
    import ctypes  # noqa: PLC0415 - only who adopts needs it

    value = ctypes.c_int(0)
    failed = libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0)
    return None if failed else value.value


def _set_subreaper(value: int) -> bool:
    libc = _libc()
    if libc is None:
        return False
    import ctypes  # noqa: PLC0415 - as above

    words = [ctypes.c_ulong(word) for word in (value, 0, 0, 0)]
    return not libc.prctl(_PR_SET_CHILD_SUBREAPER, *words)


def _libc() -> Any:
    """The C library of this process; None for a Python that was built without ctypes."""
    try:
        import ctypes  # noqa: PLC0415 - as above

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None
