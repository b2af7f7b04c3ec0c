"""Waiting for what became of a command, and taking it back when nobody takes it."""

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from onbox.control import files, listener, marks
from onbox.control.lines import Ack, parsed
from onbox.wire.folder import gone

APPLIED, REFUSED, DIED, NO_ANSWER = 0, 22, 23, 124
_LOOK_S = 0.05
_PIECE = 1 << 20


class Answer(NamedTuple):
    """How the waiting ended: the exit code, and a sentence for the reader, empty where the acks say all."""

    code: int
    says: str = ""


class Acknowledged:
    """The acknowledgements that come for one command; to be made before the command is given."""

    def __init__(self, folder: Path) -> None:
        self._path = files.acks(folder)
        self._file, self._offset = self._now()
        self._torn = b""
        self._of: Dict[int, Ack] = {}

    def new(self, identity: Any) -> List[Ack]:
        """Those that came since the last look. Raises Unsafe, OSError."""
        return [ack for ack in map(parsed, self._lines()) if ack.get("id") == identity and self._counts(ack)]

    def code(self) -> Optional[int]:
        """The exit code, once every rank has answered; None before."""
        acks = list(self._of.values())
        if not acks:
            return None
        # What rank 0 rejects reaches no other rank.
        wanted = 1 if self._of.get(0, {}).get("status") == "rejected" else max(map(_world, acks))
        if len(acks) < wanted:
            return None
        return APPLIED if all(ack.get("status") == "applied" for ack in acks) else REFUSED

    def _counts(self, ack: Ack) -> bool:
        rank = ack.get("rank", 0)
        self._of[rank if isinstance(rank, int) else 0] = ack
        return True

    def _lines(self) -> List[bytes]:
        file, size = self._now()
        if file != self._file or size < self._offset:
            self._file, self._offset, self._torn = file, 0, b""
        descriptor = files.reading(self._path)
        if descriptor is None:
            return []
        try:
            whole: List[bytes] = []
            while True:
                piece = os.pread(descriptor, _PIECE, self._offset)
                if not piece:
                    return whole
                self._offset += len(piece)
                *ended, self._torn = (self._torn + piece).split(b"\n")
                whole += ended
        finally:
            os.close(descriptor)

    def _now(self) -> Tuple[Tuple[int, int], int]:
        try:
            about = self._path.stat()
        except OSError:
            return (0, 0), 0
        return (about.st_dev, about.st_ino), about.st_size


def departed(folder: Path) -> Optional[listener.Listener]:
    """The program that listened and is gone; None where one lives, or there is no telling."""
    found = listener.announced(folder / "onbox")
    return found if found is not None and listener.lives(found) is False else None


def wait(
    folder: Path, identity: Any, acknowledged: Acknowledged, limit_s: float, show: Callable[[Ack], None]
) -> Answer:
    """How it ended within `limit_s` seconds; each acknowledgement is shown when it comes."""
    deadline = time.monotonic() + limit_s
    while True:
        dead, late = (
            departed(folder),
            time.monotonic() > deadline,
        )  # before the look: what it wrote last is seen
        code = _seen(identity, acknowledged, show)
        if code is not None:
            return Answer(code)
        if dead is not None or late:
            break
        time.sleep(_LOOK_S)
    fate = withdrawn(folder, identity)
    code = _seen(identity, acknowledged, show)
    if code is not None:  # the last moment: a mark that we made then means nothing
        _unmark(folder, identity)
        return Answer(code)
    if dead is not None:
        return Answer(DIED, "pid %d, which took the commands, is gone: %s" % (dead.who.pid, fate))
    return Answer(NO_ANSWER, "no answer in %g s: %s" % (limit_s, fate))


def withdrawn(folder: Path, identity: Any) -> str:
    """What becomes of a command that nobody waits for any more. Raises OSError."""
    own = folder / "onbox"
    if not own.is_dir():
        return "the command stays in the queue (a runtimectl of its own cannot be told)"
    before = marks.withdraw(own, identity, time.time())
    if before is None or before.get("withdrawn"):
        return "the command was withdrawn"
    return "the command was taken already and cannot be withdrawn"


def _seen(identity: Any, acknowledged: Acknowledged, show: Callable[[Ack], None]) -> Optional[int]:
    for ack in acknowledged.new(identity):
        show(ack)
    return acknowledged.code()


def _unmark(folder: Path, identity: Any) -> None:
    path = marks.mark(folder / "onbox", identity)
    if marks.read(path).get("withdrawn"):
        gone(path)


def _world(ack: Ack) -> int:
    world = ack.get("world", 1)
    return world if isinstance(world, int) else 1
