"""The way into a loop: its FIFO, opened without following, waiting or creating, and proven to be ours."""

import array
import errno
import fcntl
import os
import stat
import termios
from pathlib import Path

MAX_LINE = 4095


class Refused(Exception):  # noqa: N818 - reads as what happened
    """What stands there is not a thing that we write to."""


class Nobody(Exception):  # noqa: N818 - reads as what happened
    """No FIFO is there, or nobody reads it."""


class Channel:
    """The writing end of one FIFO. To be closed."""

    def __init__(self, path: Path) -> None:
        """Raises Refused for anything but a FIFO of our own, Nobody where none is there or read."""
        self._path = path
        self._descriptor = _opened(path)
        about = os.fstat(self._descriptor)
        self._key = (about.st_dev, about.st_ino)
        try:
            _proven(path, about)
        except Refused:
            self.close()
            raise

    def put(self, line: str) -> bool:
        """Whether the line was written, whole; False for a full pipe. Raises Nobody, Refused."""
        content = encoded(line)
        if not self.same():
            raise Nobody("%s was replaced meanwhile" % self._path)
        try:
            return os.write(self._descriptor, content) == len(content)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            raise Nobody("nobody reads %s any more" % self._path) from None

    def same(self) -> bool:
        """Whether the path still names the FIFO that is open here, with no second name."""
        try:
            about = self._path.lstat()
        except OSError:
            return False
        return (about.st_dev, about.st_ino) == self._key and about.st_nlink == 1

    def unread(self) -> int:
        """Bytes in it that nobody has read yet."""
        count = array.array("i", [0])
        fcntl.ioctl(self._descriptor, termios.FIONREAD, count, True)
        return count[0]

    def taken(self) -> bool:
        """Whether it is ours alone from now until it is closed: one asker of a loop at a time."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Nothing comes back: the end is let go, and the lock with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def encoded(line: str) -> bytes:
    """The bytes of one command. Raises Refused for what would be cut, or be more than one."""
    if line.splitlines() != [line] or any(ord(char) < 0x20 or ord(char) == 0x7F for char in line):
        raise Refused("a line break or control character stands in it")
    try:
        content = line.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("it is no text that UTF-8 can write") from None
    if len(content) > MAX_LINE:
        raise Refused("it is %d bytes long, at most %d fit" % (len(content), MAX_LINE))
    return content + b"\n"


def _opened(path: Path) -> int:
    try:
        _proven(path, path.lstat())  # opening a device could already do something
        return os.open(str(path), os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Nobody("%s is not there" % path) from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise Nobody("nobody reads %s" % path) from None
        raise Refused("%s: %s" % (path, error.strerror)) from None


def _proven(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISFIFO(about.st_mode):
        link = stat.S_ISLNK(about.st_mode)
        raise Refused("%s is %s, not a FIFO" % (path, "a symbolic link" if link else "another kind of file"))
    if about.st_uid != os.geteuid():
        raise Refused("%s belongs to uid %d, we are %d" % (path, about.st_uid, os.geteuid()))
    if about.st_nlink != 1:
        raise Refused("%s has %d names: somebody linked it" % (path, about.st_nlink))
