"""Where steering lies: the folder, the names in it, and the two ways to touch a file there."""

import os
import stat
import threading
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Unsafe(OSError):  # noqa: N818 - reads as what happened
    """The folder belongs to another, or others may write to it: nothing in it can be believed."""


def directory() -> Path:
    """The folder as the environment says it, unchecked, perhaps not there: `$LOOPCTL_DIR`, else `~/.ipc`.

    Raises Unsafe where there is no home.
    """
    said = os.environ.get("LOOPCTL_DIR")
    if said:
        return Path(said)
    try:
        return Path.home() / ".ipc"
    except (RuntimeError, KeyError):  # as Python 3.8 says it
        what = "no home folder: HOME is not set, and uid %d has no account" % os.getuid()
        raise Unsafe(what) from None


def opened() -> Path:
    """The folder, there and ours, by a path that holds when the program goes elsewhere.

    Raises Unsafe, or OSError where it cannot be made.
    """
    return _made(directory().absolute())


def ours(folder: Path) -> Path:
    """`onbox/` inside `folder`, there and ours. Raises Unsafe, OSError."""
    return _made(folder / "onbox", follow=False)


def registry(folder: Path) -> Path:
    """Where the living loops of 0.1.x and ours are listed."""
    return folder / "registry.json"


def fifo(folder: Path, pid: int) -> Path:
    """The FIFO that takes commands for `pid`."""
    return folder / ("%d.fifo" % pid)


def state(folder: Path, pid: int) -> Path:
    """The live state of `pid`."""
    return folder / ("%d.state.json" % pid)


def r_commands(folder: Path, pid: int) -> Path:
    """The file that a loop in R polls."""
    return folder / ("%d.cmd" % pid)


def card(folder: Path, pid: int) -> Path:
    """The card of `pid`."""
    return folder / "onbox" / ("%d.json" % pid)


def answer(folder: Path, question: str) -> Path:
    """The FIFO of the asker of `question`, 16 hex digits."""
    return folder / "onbox" / (question + ".fifo")


def ended(folder: Path) -> Path:
    """The folder of end records; it may not be there."""
    return folder / "onbox" / "ended"


def vote(folder: Path, ballot: str) -> Path:
    """The word on which the ranks of a group agree; `ballot` is 16 hex digits."""
    return folder / "onbox" / "votes" / ballot


def private(path: Path) -> Path:
    """`path` as a 0700 folder of ours, made where it is missing. Raises Unsafe, OSError."""
    return _made(path, follow=False)


def read_plain(path: Path, cap: int) -> bytes:
    """At most `cap` bytes of the plain file of ours at `path`.

    Raises FileNotFoundError; OSError for a link, Unsafe for a pipe, another's file or one longer than `cap`.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(str(path), flags)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise Unsafe("not a plain file of ours: %s" % path)
        pieces = []
        left = cap + 1
        while left:
            piece = os.read(descriptor, min(left, 1 << 16))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    if not left:
        raise Unsafe("longer than %d bytes: %s" % (cap, path))
    return b"".join(pieces)


def write_whole(path: Path, content: bytes) -> None:
    """`content` at `path`, mode 0600: the old file or the new one at any moment, unsynced. Raises OSError."""
    temporary = path.with_name(".%s.%d.%d" % (path.name, os.getpid(), threading.get_ident()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(str(temporary), flags, 0o600)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        gone(temporary)
        raise


def gone(path: Path) -> bool:
    """Whether nothing stands at `path` any more: removed as far as that is possible."""
    try:
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _made(path: Path, *, follow: bool = True) -> Path:
    """`path` as a folder of ours. The folder itself may be reached by a link where `follow`."""
    try:
        about = path.stat() if follow else path.lstat()
    except FileNotFoundError:
        for missing in [*reversed(path.parents), path]:
            if not missing.exists():
                try:
                    missing.mkdir(mode=0o700)
                except FileExistsError:
                    continue
        about = path.stat() if follow else path.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise Unsafe("not a folder: %s" % path)
    if about.st_uid != os.geteuid():
        raise Unsafe("%s belongs to uid %d, we are %d" % (path, about.st_uid, os.geteuid()))
    if about.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(about.st_mode)
        raise Unsafe("others may write to %s (mode %o): chmod 700 it" % (path, mode))
    return path
