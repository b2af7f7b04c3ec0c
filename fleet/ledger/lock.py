"""Kernel locks between processes of this machine. The kernel frees them however their holder ends."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import Busy, LedgerError
from fleet.ledger.private import private_folder
from fleet.text.quote import sh

_LOOK_AGAIN_S = 0.02


def tick_lock(folder: Path, *, at: float) -> contextlib.AbstractContextManager[None]:
    """Held: this is the only tick on the ledger in `folder`. `at` is what the next one is told as "since".

    Raises Busy when another tick has it, LedgerError where the folder cannot be written.
    """
    return kernel_lock(folder / "tick.lock", what="another tick", at=at)


@contextmanager
def kernel_lock(path: Path, *, what: str, at: float | None = None, wait_s: float = 0.0) -> Iterator[None]:
    """Held for the block, after at most about `wait_s` seconds. The file stays; only its lock counts.

    On a read-only file system without that file nothing is locked: nothing can be written there either.
    Raises Busy naming `what`, its pid and since when; LedgerError where the file cannot be locked.
    """
    private_folder(path.parent)
    descriptor = lock_file(path)
    if descriptor is None:
        yield
        return
    try:
        _wait(descriptor, path, fcntl.LOCK_EX, what, wait_s)
        since = (
            "" if at is None else f" since {datetime.fromtimestamp(at, UTC).isoformat(timespec='seconds')}"
        )
        # Only what the next one is told: a full or read-only disk does not take the lock from us.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}{since}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared_lock(descriptor: int, path: Path, *, what: str, wait_s: float) -> Iterator[None]:
    """Held for the block together with others; whoever wants `path` alone waits for us. Raises as above."""
    _wait(descriptor, path, fcntl.LOCK_SH, what, wait_s)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def lock_file(path: Path) -> int | None:
    """A descriptor to lock `path` by; None where there is no such file and none can ever be made.

    Raises LedgerError.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            next_ = (f"df -h {sh(str(path.parent))}",) if error.errno == errno.ENOSPC else ()
            says = f"cannot open the lock {path}: {error.strerror}"
            raise LedgerError(says, where=str(path), next=next_) from None
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | flags)
    return None


def _wait(descriptor: int, path: Path, how: int, what: str, wait_s: float) -> None:
    for _ in range(1 + round(wait_s / _LOOK_AGAIN_S)):
        if _taken(descriptor, path, how):
            return
        time.sleep(_LOOK_AGAIN_S if wait_s else 0)
    raise Busy(f"{what} is at it: {_holder(descriptor)}", where=str(path), next=("babysit status",))


def _taken(descriptor: int, path: Path, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise LedgerError(
            f"cannot lock {path}: {error.strerror}",
            where=str(path),
            hint="BABYSIT_STATE=FOLDER on a local disk",
        ) from None
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "a process that just began"
