"""A queue as its listener sees it: what is to be applied now, each command once, and what became of it.

The order that makes it once: the mark of a command, then the place behind it (synced), then the control,
then the acknowledgement, then the mark goes. Killed before the place, a command is still to be taken; killed
behind it, the mark tells the next program what to acknowledge as failed.
"""

import json
import os
import time
from pathlib import Path
from typing import Container, Generator, Iterable, List, NamedTuple, Optional, Tuple

from onbox.control import files, lines, listener, marks
from onbox.control import place as places
from onbox.control.acks import Acks
from onbox.control.lines import Ack, Command
from onbox.control.place import BEGINNING, Line, Place
from onbox.fs import write_durably
from onbox.wire import folder as wire
from onbox.wire.folder import Unsafe, gone

_CAP = 4096
_RETOLD = "no id, in a file that was read before: it may have been applied already; give it one"


class Order(NamedTuple):
    """A command to be applied, or why it is not; `mark` goes once it is acknowledged."""

    document: Command
    start: Ack
    mark: Path
    refusal: Optional[str] = None


class Queue:
    """The queue in `folder`, for one process. Nothing is made before `open`."""

    def __init__(self, folder: Path, expire_s: Optional[float]) -> None:
        self.folder = folder
        self.expire_s = expire_s
        self.acks = Acks(files.acks(folder))
        self._commands = files.commands(folder)
        self._own: Optional[Path] = None
        self._place: Optional[Place] = None
        self._idle: Optional[Tuple[int, ...]] = None  # how the file looked when nothing more was in it
        self._listens = 0  # the process that claimed the queue

    def open(self) -> Path:
        """The folder that is ours; the files are there. Raises Unsafe, OSError."""
        if self._own is None or not self._own.is_dir():
            files.opened(self.folder)
            for path in (self._commands, files.acks(self.folder)):
                if not path.exists():
                    os.close(files.appending(path))
            self._own = wire.ours(self.folder)
        return self._own

    def announce(self) -> None:
        """Nothing comes back: the program is named as who will listen, if nobody does. Raises OSError."""
        own = self.open()
        if listener.taker(own) is None:
            listener.announce(own, polled=False, world=1)

    def idle(self) -> bool:
        """Whether nothing can have happened since the last look. Costs one call of the system."""
        if self._idle is None or self.acks.waiting or self._listens != os.getpid():
            return False
        return self._idle == self._look()

    def orders(self, controls: Container[str], *, world: int) -> Generator[Order, None, None]:
        """What is to be done now, one after the other.

        The next may be asked for when the last was acknowledged or kept. Raises Unsafe, OSError; then nothing
        was lost, the rest comes the next time.
        """
        own = self.open()
        lock = os.open(str(own / "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with files.Locked(lock, wait=False) as alone:
                if alone and self._claimed(own, world):
                    self.acks.refresh()
                    yield from self._taken(own, controls, world)
        finally:
            os.close(lock)

    def acknowledge(self, done: Iterable[Tuple[Order, List[Ack]]]) -> None:
        """Nothing comes back: what became of commands is in the file. Raises OSError; then it waits."""
        for order, acks in done:
            self.acks.add(acks, order.mark)
        self.acks.flush()

    def _claimed(self, own: Path, world: int) -> bool:
        self.acks.flush()
        other = listener.taker(own)
        if other is not None and other.who.pid != os.getpid():
            raise Unsafe("pid %d takes the commands of %s already" % (other.who.pid, self.folder))
        if self._listens != os.getpid():
            self.acks.refresh()
            self._place = self._kept(own, None)
            self._recover(own)
            listener.announce(own, polled=True, world=world)
            self._listens = os.getpid()
        return True

    def _recover(self, own: Path) -> None:
        """Nothing comes back: what a program that was killed left is acknowledged as failed."""
        now = time.time()
        for path, said in marks.left(own):
            if self.acks.knows(said["id"]):
                gone(path)
                continue
            if said.get("withdrawn"):
                at = said.get("at")
                if self.expire_s is not None and isinstance(at, (int, float)) and now - at > self.expire_s:
                    gone(path)
                continue
            end = marks.place_of(said)
            if end is not None and self._place is not None and end.behind(self._place):
                gone(path)  # not begun
                continue
            begun = lines.failed(lines.begun(said, now), marks.ENDED)
            world = said.get("world")
            world = world if isinstance(world, int) and world > 0 else 1
            extra = [{"rank": rank, "world": world, "step": None} for rank in range(world)]
            self.acks.add([{**begun, **each} for each in extra], path)
        self.acks.flush()

    def _taken(self, own: Path, controls: Container[str], world: int) -> Generator[Order, None, None]:
        look = self._look()
        descriptor = files.reading(self._commands)
        if descriptor is None:
            return
        try:
            place = self._resumed(own, descriptor)
            found = 0
            for found, line in enumerate(places.lines_behind(descriptor, place), 1):  # noqa: B007 - counted
                end = places.place_at(descriptor, line, place.retold)
                order = self._order(own, controls, line, end=end, world=world)
                if order is not None:
                    yield order
                self._place = end
            if self._place is not None and self._place != self._kept(own, None):
                self._keep(own, self._place)
            self._idle = None if found else look
        finally:
            os.close(descriptor)

    def _order(
        self, own: Path, controls: Container[str], line: Line, *, end: Place, world: int
    ) -> Optional[Order]:
        """The order in a line; None where there is none, or it was acknowledged."""
        if line.content is not None and not line.content.strip():
            return None
        document = lines.parsed(line.content or b"")
        if lines.named(document) and self.acks.knows(document["id"]):
            return None
        now = time.time()
        start = lines.begun(document, now)
        refusal = lines.why_not(document, controls) or lines.expired(document, now, self.expire_s)
        if line.content is None:
            refusal = "a line of more than %d bytes" % lines.MAX_LINE
        elif refusal is None and not lines.named(document) and line.end <= end.retold:
            refusal = _RETOLD
        mark = marks.mark(own, start["id"])  # may be there, of who withdrew it
        if refusal is not None:
            return Order(document, start, mark, refusal)
        if not self._marked(own, mark, document, start, end=end, world=world):
            return Order(document, start, mark, marks.WITHDRAWN)
        self.acks.remember(start["id"])
        self._place = end
        return Order(document, start, mark)

    def _marked(
        self, own: Path, mark: Path, document: Command, start: Ack, *, end: Place, world: int
    ) -> bool:
        """Whether it is ours: its mark and the place behind it are on disk. False: it was withdrawn.

        Raises OSError; then it comes again.
        """
        before = marks.take(own, document, start["id"], end=end, world=world)
        if before is not None and not before.get("withdrawn"):
            gone(mark)  # of a command that was not begun, perhaps at another place
            before = marks.take(own, document, start["id"], end=end, world=world)
        if before is not None:
            if before.get("withdrawn"):
                return False
            raise OSError("cannot remove %s" % mark)
        try:
            self._keep(own, end)
        except BaseException:
            kept = self._kept(own, None)
            if kept == end:  # it is there, and only was not synced
                return True
            if kept is None:  # nobody can tell: the next look treats the mark as one of a program that ended
                self._listens = 0
            else:
                gone(mark)
            raise
        return True

    def _resumed(self, own: Path, descriptor: int) -> Place:
        """Where to go on reading; that it is the beginning is on disk before anything is taken."""
        kept = self._kept(own, self._place)
        if kept is not None and places.still(descriptor, kept):
            place = kept
        else:
            seen = kept is not None or self.acks.any()
            place = BEGINNING._replace(retold=os.fstat(descriptor).st_size if seen else 0)
        if place != self._kept(own, None):
            self._keep(own, place)
        self._place = place
        return place

    def _kept(self, own: Path, otherwise: Optional[Place]) -> Optional[Place]:
        try:
            return places.loaded(json.loads(wire.read_plain(own / "place.json", _CAP).decode("ascii")))
        except (OSError, ValueError, RecursionError):
            return otherwise

    def _keep(self, own: Path, place: Place) -> None:
        write_durably(own / "place.json", places.dumped(place))

    def _look(self) -> Optional[Tuple[int, ...]]:
        try:
            about = self._commands.stat()
        except OSError:
            return None
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
