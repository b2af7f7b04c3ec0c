"""Whether the state folder takes what a command that acts must write. Asked before its first effect."""

import contextlib
import errno
import os
from pathlib import Path

from fleet.errors import MachineShort
from fleet.ledger.private import private_folder
from fleet.text.quote import sh
from fleet.text.say import size

FILE_NAME = ".room"
# An arming writes some hundred pages of 4 KiB into the ledger's log, its pages and its audit lines.
LEAST_BYTES = 1024 * 1024
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))


def room_to_act(folder: Path) -> None:
    """Nothing comes back when `folder` takes LEAST_BYTES just now: tried, since no number knows a quota.

    Raises MachineShort with what is free, LedgerError when the folder is none to be used.
    """
    private_folder(folder)
    path = folder / FILE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            left = LEAST_BYTES
            while left > 0:
                left -= os.write(descriptor, bytes(left))
        finally:
            os.close(descriptor)
            with contextlib.suppress(
                FileNotFoundError
            ):  # another that looked at the same moment took it away
                path.unlink()
    except OSError as error:
        if error.errno in _FULL:
            raise _short(folder, error.strerror or "full") from None
        # Anything else is for who opens the ledger to say: it knows what may be wrong with a folder.


def _short(folder: Path, why: str) -> MachineShort:
    says, free = f"{folder} takes nothing more ({why})", _free(folder)
    if free < LEAST_BYTES:  # a read-only disk may have plenty
        says = f"{says}: {size(free)} free, {size(LEAST_BYTES)} needed"
    return MachineShort(says, where=str(folder), hint="nothing was done", next=(f"df -h {sh(str(folder))}",))


def _free(folder: Path) -> int:
    with contextlib.suppress(OSError):
        left = os.statvfs(folder)
        return left.f_bavail * left.f_frsize
    return 0
