"""Files that are either the old or the new one, whatever happens in between."""

import os
import stat
from pathlib import Path


class NotPlain(OSError):  # noqa: N818 - reads as what happened
    """The target is a link, a folder, a pipe or a device: nothing that a record may replace."""


def write_durably(path: Path, content: bytes) -> None:
    """`content` at `path`, mode 0600, on disk when this returns: temporary, sync, rename, sync of the folder.

    Killed at any moment it leaves the old or the new file; a temporary `.NAME.PID` at the worst.
    Raises NotPlain for a target that is no plain file, OSError when it cannot be written (the
    temporary is gone then).
    """
    check_plain(path)
    temporary = path.with_name(".%s.%d" % (path.name, os.getpid()))
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        check_plain(path)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_plain(path: Path) -> None:
    """Nothing comes back. Raises NotPlain when something other than a plain file stands at `path`."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise NotPlain("not a plain file: %s" % path)


def sync_folder(folder: Path) -> None:
    """Nothing comes back: the folder's names are on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
