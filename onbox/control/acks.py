"""The file of acknowledgements: which ids it names, and what still has to be written into it."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from onbox.control import files
from onbox.control.lines import Ack, encoded, key, parsed
from onbox.wire.folder import gone

IDS = 1 << 16  # the newest that are remembered; older ones are past every sensible expiry
_TAIL = 16 << 20  # bytes of an old file that are read at the start: more than that many acknowledgements
_PIECE = 1 << 20


class Waiting(NamedTuple):
    """Lines that could not be written yet, and the mark to be removed once they are."""

    content: bytes
    mark: Optional[Path]


class Acks:
    """The ids in the file at `path`, read as it grows; and a way to add to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: "OrderedDict[bytes, None]" = OrderedDict()
        self._file: Tuple[int, int] = (0, 0)
        self._offset = 0
        self._torn = b""
        self.waiting: List[Waiting] = []

    def knows(self, identity: Any) -> bool:
        """Whether that id was acknowledged, or taken by us."""
        return key(identity) in self._known

    def any(self) -> bool:
        """Whether anything was ever acknowledged here, as far as we know."""
        return bool(self._known)

    def remember(self, identity: Any) -> None:
        """Nothing comes back: the id counts as acknowledged from now on."""
        self._known[key(identity)] = None
        while len(self._known) > IDS:
            self._known.popitem(last=False)

    def refresh(self) -> None:
        """Nothing comes back: what others added is known.

        A file that was cut or replaced is read anew; what we know stays known.
        Raises Unsafe, OSError.
        """
        descriptor = files.reading(self._path)
        if descriptor is None:
            return
        try:
            about = os.fstat(descriptor)
            if self._file != (about.st_dev, about.st_ino) or about.st_size < self._offset:
                self._file = (about.st_dev, about.st_ino)
                self._offset, self._torn = max(0, about.st_size - _TAIL), b""
            while True:
                piece = os.pread(descriptor, _PIECE, self._offset)
                if not piece:
                    break
                self._offset += len(piece)
                whole = (self._torn + piece).split(b"\n")
                self._torn = whole.pop()[-4 * _PIECE :]
                for line in whole:
                    self._learn(line)
        finally:
            os.close(descriptor)

    def add(self, acks: Sequence[Ack], mark: Optional[Path] = None) -> None:
        """Nothing comes back: the acknowledgements of one command wait for `flush`, its mark for them."""
        for ack in acks:
            self.remember(ack["id"])
        self.waiting.append(Waiting(b"".join(map(encoded, acks)), mark))

    def flush(self) -> None:
        """Nothing comes back: nothing waits any more. Raises Unsafe, OSError; the rest waits on."""
        while self.waiting:
            first = self.waiting[0]
            files.append(self._path, first.content)
            self.waiting.pop(0)
            if first.mark is not None:
                gone(first.mark)

    def _learn(self, line: bytes) -> None:
        identity = parsed(line).get("id")  # a torn line gets a fresh id, which harms nobody
        if identity:
            self.remember(identity)
