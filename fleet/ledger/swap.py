"""One ledger put in place of another, with the log that SQLite keeps beside it: wholly, or not begun.

The new file is complete, on the disk and named `ledger.db.next` before anything of the old one goes. Then
whoever opens the ledger finishes the change, and whoever only reads it reads the new file.
"""

import os
from pathlib import Path

from fleet.errors import LedgerError

# What SQLite keeps beside a file; read with another file than their own they would spoil it.
BESIDE = ("-wal", "-shm", "-journal")


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def pending(path: Path) -> bool:
    """Whether a change of the file at `path` was begun and not finished."""
    return _next(path).exists()


def current(path: Path) -> Path:
    """The file that holds what the ledger at `path` says now."""
    return _next(path) if pending(path) else path


def begin(path: Path, whole: Path) -> None:
    """`whole` (closed, nothing beside it) takes the place of `path`. The ledger's lock must be held alone.

    Raises LedgerError; nothing was changed then, or `finish` will do the rest.
    """
    try:
        synced(whole)
        whole.rename(_next(path))
        synced(path.parent)
    except OSError as error:
        raise LedgerError(f"cannot replace {path}: {error.strerror}", where=str(path)) from None
    finish(path)


def finish(path: Path) -> None:
    """What `begin` began, if it did, is done. The ledger's lock must be held alone. Raises LedgerError."""
    try:
        if not pending(path):
            return
        for ending in BESIDE:
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
        _next(path).rename(path)
        synced(path.parent)
    except OSError as error:
        raise LedgerError(f"cannot replace {path}: {error.strerror}", where=str(path)) from None


def synced(path: Path) -> None:
    """The file or folder is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
