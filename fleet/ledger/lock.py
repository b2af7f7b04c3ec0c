"""Kernel locks between processes of this machine. The kernel frees them however their holder ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import Busy, LedgerError
from fleet.ledger.private import private_folder

_LOOK_AGAIN_S = 0.02


def tick_lock(folder: Path, *, at: float) -> contextlib.AbstractContextManager[None]:
    """Held: this is the only tick on the ledger in `folder`. `at` is what the next one is told as "since".

    Raises Busy when another tick has it, LedgerError where the folder cannot be written.
    """
    return kernel_lock(folder / "tick.lock", what="another tick", at=at)


@contextmanager
def kernel_lock(path: Path, *, what: str, at: float | None = None, wait_s: float = 0.0) -> Iterator[None]:
    """Held for the block, after at most about `wait_s` seconds. The file stays; only its lock counts.

    Raises Busy naming `what`, its pid and since when; LedgerError where the file cannot be locked.
    """
    private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot open the lock {path}: {error.strerror}", where=str(path)) from None
    try:
        for _ in range(1 + round(wait_s / _LOOK_AGAIN_S)):
            if _taken(descriptor, path):
                break
            time.sleep(_LOOK_AGAIN_S if wait_s else 0)
        else:
            raise Busy(f"{what} is at it: {_holder(descriptor)}", where=str(path), next=("babysit status",))
        since = (
            "" if at is None else f" since {datetime.fromtimestamp(at, UTC).isoformat(timespec='seconds')}"
        )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}{since}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
