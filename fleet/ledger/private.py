"""Folders and files that only their owner can read, whatever the umask says."""

import os
import stat
from pathlib import Path

from fleet.errors import LedgerError
from fleet.text.quote import sh

_OTHERS_MAY_WRITE = 0o022


def private_folder(folder: Path) -> None:
    """Make `folder` and the missing ones above it, each 0700; one that is there must be ours.

    Raises LedgerError when it cannot be made, is a link, belongs to someone else or can be written by others.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        _make(folder)
        return
    except OSError as error:
        raise LedgerError(f"cannot look at {folder}: {error.strerror}", where=str(folder)) from None
    if stat.S_ISLNK(found.st_mode):
        # Whoever may change the link decides what we believe; and it may have been put there before us.
        says = f"{folder} is a symbolic link"
        hint = f"BABYSIT_STATE={sh(str(folder.resolve()))} names the folder itself"
        raise LedgerError(says, where=str(folder), hint=hint, next=(f"ls -ld {sh(str(folder))}",))
    if not stat.S_ISDIR(found.st_mode):
        raise LedgerError(f"{folder} is no folder", where=str(folder), next=(f"ls -ld {sh(str(folder))}",))
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
        # Who can write here can swap the ledger, and with it what we believe and which key we trust.
        says = f"other users can write in {folder} (mode {found.st_mode & 0o7777:04o}, owner {found.st_uid})"
        raise LedgerError(says, where=str(folder), next=(f"chmod 700 {sh(str(folder))}",))


def _make(folder: Path) -> None:
    missing = [folder, *(above for above in folder.parents if not above.exists())]
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            hint = "BABYSIT_STATE=FOLDER names another place"
            raise LedgerError(f"cannot make {each}: {error.strerror}", where=str(each), hint=hint) from None


def tighten(path: Path) -> None:
    """Only its owner may read, write or enter `path` from now on; a link is left as it is.

    Raises LedgerError.
    """
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & 0o700)
    except OSError as error:
        raise LedgerError(f"cannot protect {path}: {error.strerror}", where=str(path)) from None


def private_file(path: Path) -> None:
    """Make `path` empty and 0600 unless it is there.

    Raises LedgerError when it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise LedgerError(f"cannot make {path}: {error.strerror}", where=str(path)) from None
