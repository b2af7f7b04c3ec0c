"""Which process it is: a number, the moment it started, and the boot in which it did."""

import os
from pathlib import Path
from typing import NamedTuple, Optional

_PROC = Path("/proc")
_START_TICKS = 19  # proc(5): field 22, counted behind the command's closing bracket
_GONE = (b"Z", b"X", b"x")


class Identity(NamedTuple):
    """A process; `start_ticks` (clock ticks after boot) and `boot_id` are None where there is no /proc."""

    pid: int
    start_ticks: Optional[int]
    boot_id: Optional[str]


def of(pid: int) -> Optional[Identity]:
    """The living process of that number; None for none, or one that its parent has not collected."""
    try:
        words = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None if (_PROC / "self").exists() else _without_proc(pid)
    if len(words) <= _START_TICKS or words[0] in _GONE:
        return None
    return Identity(pid, int(words[_START_TICKS]), boot_id())


def same(identity: Identity) -> bool:
    """Whether exactly that process lives; a number alone is never one, so without a start time it is not."""
    return identity.start_ticks is not None and of(identity.pid) == identity


def boot_id() -> Optional[str]:
    """The id of the running boot, None where the kernel has none."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _without_proc(pid: int) -> Optional[Identity]:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return None
    return Identity(pid, None, None)
