"""Where the lines of a watch go: a file in one of three formats, memory, both, or nowhere.

An error of writing is remembered and raised to nobody: the command and its samples go on.
"""

import collections
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Deque, Dict, Iterable, List, Optional, Union

from onbox.meter.table import HEAD, is_sample, row

FORMATS = ("jsonl", "json", "csv")
_CHILDREN = 1000  # child lines that are kept in memory; in the file are all
_RETRY_LINES = 200  # between two tries to make room in a file at its cap


class Sink:
    """What the watch hands its lines to. `metadata` is that line as it came."""

    def __init__(self, file: Optional["LineFile"] = None, *, memory: bool = False) -> None:
        self.file = file
        self._memory = memory
        self.samples: List[str] = []
        self.children: Deque[str] = collections.deque(maxlen=_CHILDREN)
        self.metadata = b""

    def take(self, lines: Iterable[bytes]) -> None:
        """Nothing comes back; each line ends with a newline."""
        lines = list(lines)
        for line in lines:
            if is_sample(line):
                if self._memory:
                    self.samples.append(line.decode().rstrip("\n"))
            elif line.startswith(b'{"kind":"child"'):
                self.children.append(line.decode().rstrip("\n"))
            elif line.startswith(b'{"kind":"metadata"'):
                self.metadata = line
        if self.file is not None and lines:
            self.file.take(lines)

    def errors(self) -> List[str]:
        """What could not be written, and why."""
        return [] if self.file is None else self.file.errors()

    def close(self) -> None:
        """Nothing comes back: the file is whole and closed."""
        if self.file is not None:
            self.file.close()


class LineFile:
    """A file of lines, begun anew, 0600. With a cap, every second line goes when it would be outgrown.

    Raises OSError when it cannot be opened; never later.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"], cap_bytes: Optional[int] = None) -> None:
        self.path, self.thinned = Path(os.fspath(path)), 0
        self._cap = cap_bytes
        self._lost: Dict[str, int] = {}
        self._size = self._since = 0
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        # No waiting for the reader of a pipe, and no terminal of ours to be.
        self._open: Optional[int] = os.open(str(self.path), flags | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
        self._plain = stat.S_ISREG(os.fstat(self._open).st_mode)
        if self._plain:
            with contextlib.suppress(PermissionError):  # another's file that we may write to
                os.fchmod(self._open, 0o600)

    def take(self, lines: List[bytes]) -> None:
        """Nothing comes back."""
        self._put(b"".join(lines), len(lines))

    def close(self) -> None:
        """Nothing comes back."""
        if self._open is not None:
            try:
                os.close(self._open)
            except OSError as error:  # a file system that says only now that it is full
                self._failed(error, 0)
        self._open = None

    def errors(self) -> List[str]:
        """A sentence for each kind of error."""
        return [
            "cannot write %s: %s (%d line%s lost)" % (self.path, why, lost, "" if lost == 1 else "s")
            for why, lost in self._lost.items()
        ]

    def _put(self, content: bytes, count: int) -> None:
        if self._open is None or not content:
            return
        if self._cap is not None and self._size + len(content) > self._cap and not self._make_room():
            self._lose("it is at its limit of %d bytes" % self._cap, count)
            return
        if self._torn:
            content = b"\n" + content
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._open, left) :]
        except OSError as error:
            whole = self._whole(content[: len(content) - len(left)])
            self._failed(error, count - content[:whole].count(b"\n"))
            self._size += whole
            if self._plain:
                self._cut()
            else:
                self._torn = self._torn or len(left) < len(content)
            return
        self._torn = False
        self._size += len(content)

    def _whole(self, written: bytes) -> int:
        """How much of what came through are whole lines."""
        return written.rfind(b"\n") + 1

    def _cut(self) -> None:
        """Half a line would spoil the next one."""
        try:
            os.ftruncate(-1 if self._open is None else self._open, self._size)
        except OSError:
            self._torn = True

    def _failed(self, error: OSError, count: int) -> None:
        self._lose(error.strerror or os.strerror(error.errno or errno.EIO), count)

    def _lose(self, why: str, count: int) -> None:
        self._lost[why] = self._lost.get(why, 0) + max(0, count)

    def _make_room(self) -> bool:
        """Whether the file was halved; it is tried again only after many lines."""
        self._since -= 1
        if self._since > 0:
            return False
        other = self.path.with_name(".%s.%d" % (self.path.name, os.getpid()))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        opened = None
        try:
            other.unlink(missing_ok=True)
            opened = os.open(str(other), flags, 0o600)
            _halve(self.path, opened)
            other.replace(self.path)
        except OSError as error:
            self._failed(error, 0)
            self._since = _RETRY_LINES
            if opened is not None:
                os.close(opened)
                other.unlink(missing_ok=True)
            return False
        if self._open is not None:
            os.close(self._open)
        self._open, self._size = opened, os.fstat(opened).st_size
        self.thinned += 1
        return True


def _halve(path: Path, target: int) -> None:
    """Every second sample and every second child line of `path` go; all else stays."""
    seen: Dict[bool, int] = {True: 0, False: 0}
    with path.open("rb") as source, os.fdopen(os.dup(target), "ab") as kept:
        for line in source:
            if is_sample(line) or line.startswith(b'{"kind":"child"'):
                sample = is_sample(line)
                seen[sample] += 1
                if seen[sample] % 2 == 0:
                    continue
            kept.write(line)


class ListFile(LineFile):
    """The same lines as one JSON list, which is whole when it is closed."""

    _begun = False

    def take(self, lines: List[bytes]) -> None:
        """Nothing comes back."""
        size = self._size
        content = b",\n".join(line.rstrip(b"\n") for line in lines)
        self._put((b",\n" if self._begun else b"[\n") + content, len(lines))
        self._begun = self._begun or self._size > size

    def close(self) -> None:
        """Nothing comes back: the list is whole."""
        self._put(b"\n]\n" if self._begun else b"[]\n", 0)
        super().close()

    def _whole(self, written: bytes) -> int:
        """None: a comma would stand alone."""
        del written
        return 0


class TableFile(LineFile):
    """The samples alone, as comma-separated values under a head."""

    _begun = False

    def take(self, lines: List[bytes]) -> None:
        """Nothing comes back."""
        rows = [found for found in map(row, lines) if found is not None]
        size = self._size
        self._put((("" if self._begun else HEAD) + "".join(rows)).encode(), len(rows))
        self._begun = self._begun or self._size > size


def file_of(path: Union[str, "os.PathLike[str]"], form: str) -> LineFile:
    """The file at `path` in one of FORMATS. Raises OSError."""
    return {"jsonl": LineFile, "json": ListFile, "csv": TableFile}[form](path)
