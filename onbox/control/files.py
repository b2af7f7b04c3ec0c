"""The two files of a queue, opened so that nothing but a plain file of ours is read or written."""

import fcntl
import os
import stat
from pathlib import Path
from typing import Optional

from onbox.wire.folder import Unsafe

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(folder: Path) -> Path:
    """`folder`, made 0700 where it is missing.

    Raises Unsafe where it is another's or all may write to it, OSError.
    """
    for missing in [*reversed(folder.parents), folder]:
        missing.mkdir(mode=0o700, exist_ok=True)
    _check(folder, folder.stat())
    return folder


def commands(folder: Path) -> Path:
    """The file of commands."""
    return folder / "commands.jsonl"


def acks(folder: Path) -> Path:
    """The file of acknowledgements."""
    return folder / "acks.jsonl"


def reading(path: Path) -> Optional[int]:
    """A descriptor to read `path`; None where nothing is there. Raises Unsafe, OSError."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY | _SAFE)
    except FileNotFoundError:
        return None
    return _plain(path, descriptor)


def appending(path: Path) -> int:
    """A descriptor to read and to append to `path`, made 0600 where it is missing. Raises Unsafe, OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _SAFE
    return _plain(path, os.open(str(path), flags, 0o600))


def append(path: Path, content: bytes) -> None:
    """Nothing comes back: the whole lines of `content` stand at the end of `path`, on a line of their own.

    A line that somebody left unfinished is ended first. Where only a part could be written, it is taken back.
    Raises Unsafe, OSError.
    """
    descriptor = appending(path)
    try:
        with Locked(descriptor):
            if _moved(path, descriptor):
                append(path, content)
                return
            before = os.fstat(descriptor).st_size
            if before and os.pread(descriptor, 1, before - 1) != b"\n":
                content = b"\n" + content
            written = os.write(descriptor, content)
            try:
                while written < len(content):
                    written += os.write(descriptor, content[written:])
            except OSError:
                if os.fstat(descriptor).st_size == before + written:  # nobody else appended meanwhile
                    os.ftruncate(descriptor, before)
                raise
    finally:
        os.close(descriptor)


class Locked:
    """A context in which `descriptor` is locked against others of ours; true inside where we got the lock.

    A file system that has no locks is taken as it is.
    """

    def __init__(self, descriptor: int, *, wait: bool = True) -> None:
        self._descriptor = descriptor
        self._how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB

    def __enter__(self) -> bool:
        try:
            fcntl.flock(self._descriptor, self._how)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def __exit__(self, *_: object) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError:
            return


def _moved(path: Path, descriptor: int) -> bool:
    """Whether another file stands there by now, or none: it was moved aside."""
    try:
        now = path.lstat()
    except FileNotFoundError:
        return True
    about = os.fstat(descriptor)
    return (now.st_dev, now.st_ino) != (about.st_dev, about.st_ino)


def _plain(path: Path, descriptor: int) -> int:
    about = os.fstat(descriptor)
    try:
        if not stat.S_ISREG(about.st_mode):
            raise Unsafe("not a plain file: %s" % path)  # noqa: TRY301 - three checks, one way out
        _check(path, about)
    except Unsafe:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, about: os.stat_result) -> None:
    if about.st_uid != os.geteuid():
        raise Unsafe("%s belongs to uid %d, we are %d" % (path, about.st_uid, os.geteuid()))
    if about.st_mode & stat.S_IWOTH:
        raise Unsafe("all may write to %s: chmod o-w it" % path)
