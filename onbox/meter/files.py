"""Small files of /proc that are read again and again: opened once as long as few are open."""

import errno
import os
import resource
from typing import Dict, List

_MOST_OPEN = 1024
_PIECE = 16384
_SMALL = 1024
_FULL = (errno.EMFILE, errno.ENFILE)


class Files:
    """Files by path. One that stays open means the process it was opened for, whoever has its pid later."""

    def __init__(self, most: int = -1) -> None:
        """So many stay open; -1: half of what the limit of the process allows, at most 1024."""
        self._open: Dict[str, int] = {}
        self.most = _half_of_the_limit() if most < 0 else most

    def read(self, path: str, most: int = _SMALL) -> bytes:
        """The first `most` bytes at `path` as they are now. Raises OSError."""
        descriptor = self._open.get(path)
        if descriptor is not None:
            return os.pread(descriptor, most, 0)
        descriptor = self._opened(path)
        try:
            content = os.read(descriptor, most)
        except OSError:
            os.close(descriptor)
            raise
        self._keep(path, descriptor)
        return content

    def read_all(self, path: str, *, kept: bool) -> bytes:
        """All of `path`, which the kernel gives in pieces; it stays open if `kept`. Raises OSError."""
        pieces: List[bytes] = []
        at = 0
        descriptor = self._open.get(path)
        ours = descriptor is None
        if descriptor is None:
            descriptor = self._opened(path)
        try:
            while True:
                piece = os.pread(descriptor, _PIECE, at)
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
        except OSError:
            if ours:
                os.close(descriptor)
            raise
        if ours and kept:
            self._keep(path, descriptor)
        elif ours:
            os.close(descriptor)
        return b"".join(pieces)

    def forget(self, path: str) -> None:
        """Nothing comes back: `path` is not kept open any longer."""
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Nothing comes back: all are closed."""
        for path in list(self._open):
            self.forget(path)

    def __len__(self) -> int:
        return len(self._open)

    def _keep(self, path: str, descriptor: int) -> None:
        if len(self._open) < self.most:
            self._open[path] = descriptor
        else:
            os.close(descriptor)

    def _opened(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _FULL or not self._open:
                raise
        self.close()  # the program that we live in needs them more
        self.most = 0
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _half_of_the_limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_OPEN if soft == resource.RLIM_INFINITY else min(_MOST_OPEN, soft // 2)
