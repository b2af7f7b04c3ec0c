"""`progress`: a loop that says how far it is, and can be asked and steered like any of `onbox.loop`."""

import operator
import threading
import time
from types import TracebackType
from typing import Any, Dict, Generator, Iterable, Iterator, NamedTuple, Optional, Type, Union

from onbox.loop.running import FINISHED, Loop
from onbox.loop.steps import ipc_range
from onbox.pulse import beat, epochs, words
from onbox.pulse.stream import unbuffered

EVERY = 5
_CALM_S = 1.0


class Telling(NamedTuple):
    """How a loop is told. `always`: each `every`-th item was asked for, however quick they are."""

    every: int
    always: bool
    beat_s: Optional[float]
    file: Optional[epochs.Where]
    rank: Optional[int]


class progress(ipc_range):  # noqa: N801 - stands around the iterable of a for statement
    """The items of `iterable`; every `every`-th is said on standard output, every fifth if none is asked for.

    Behind the first hundred lines of a process those that nobody asked for come once a second at most.
    A line also stands there for the first item and the last, and when `heartbeat_s` passed without one; as
    often a thread of its own says that the process lives. `file` is a path that holds the newest line too.
    What else `ipc_range` takes may be said by name.
    """

    def __init__(
        self,
        iterable: Union[int, Iterable[Any]],
        label: str = "batch",
        *,
        total: Optional[int] = None,
        every: Optional[int] = None,
        heartbeat_s: Optional[float] = beat.EVERY_S,
        file: Optional[epochs.Where] = None,
        **loop: Any,
    ) -> None:
        super().__init__(iterable, label=label, **loop)
        said = _whole(total)
        self._total = self._total if said is None else said
        asked = _whole(every)
        self._told = Telling(max(1, asked or EVERY), bool(asked), heartbeat_s, file, loop.get("rank"))

    @staticmethod
    def track(**values: Any) -> None:
        """Nothing comes back: the newest of each stands in the lines and the state of the innermost loop.

        What is no plain number or text is looked at now, and nothing is kept of it: not a tensor's graph.
        """
        counter = beat.here().running()
        if counter is not None:
            counter.track(values)

    def __iter__(self) -> Iterator[Any]:
        life = self._life()
        return _items(life, Told(life.loop, self._told), self._source)


class Told:
    """One loop as it is told: who counts, when it moved, what was said of it."""

    def __init__(self, loop: Loop, how: Telling) -> None:
        self.moved_at = 0.0
        self.thread = 0
        self.quiet = False
        self._loop, self._how = loop, how
        self._due, self._late_at, self._pause_s = 0, 0.0, threading.TIMEOUT_MAX
        self._said_at = -_CALM_S
        self._said = loop.iteration()
        self._beat = beat.here()

    def __enter__(self) -> None:
        try:
            self._beat = beat.here()
            self.quiet = self._beat.quiet or not beat.speaks(self._how.rank)
            self.moved_at = time.monotonic()
            self.thread = threading.get_ident()
            self._due = self._loop.initial + 1
            self._pause_s = beat.pause_s(self._how.beat_s) or self._pause_s
            self._late_at = self.moved_at + self._pause_s
            if not self.quiet:
                unbuffered()
            self._beat.counters.append(self)
            self._beat.begin(self, None if self.quiet else self._how.beat_s)
        except Exception as error:  # noqa: BLE001 - a loop that is not told is still a loop
            self._loop.faults.note(error)

    def turned(self) -> None:
        """Nothing comes back: one more item is finished, and said if it is its turn."""
        now = self.moved_at = time.monotonic()
        if now >= self._late_at or (self._loop.index + 1 >= self._due and self._timely(now)):
            self._say(now)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            self._beat.end(self)
            if self in self._beat.counters:
                self._beat.counters.remove(self)
            # Whoever left the body by itself did not finish its item: the newest line stays true.
            if kind is None and self._said != self._loop.index + 1:
                self._say(time.monotonic())
        except Exception as failed:  # noqa: BLE001 - as at the beginning
            self._loop.faults.note(failed)

    def place(self) -> words.Place:
        """As Counter."""
        return self._loop.label, self._loop.index + 1, self._loop.total

    def track(self, values: Dict[str, Any]) -> None:
        """As Counter."""
        for name, value in values.items():
            self._loop.tracked[name] = words.kept(value)

    def _timely(self, now: float) -> bool:
        """Whether a line may come now; else the next one is due `every` items on."""
        if self._how.always or now - self._said_at >= _CALM_S:
            return True
        if self._beat.freely > 0:
            self._beat.freely -= 1
            return True
        self._due = self._behind(self._loop.index + 1)
        return False

    def _behind(self, done: int) -> int:
        return (done // self._how.every + 1) * self._how.every

    def _say(self, now: float) -> None:
        try:
            done = self._said = self._loop.index + 1
            self._due = self._behind(done)
            self._said_at, self._late_at = now, now + self._pause_s
            if self.quiet:
                return
            took_s = now - self._loop.started
            rate = (done - self._loop.initial) / took_s if took_s > 0 else 0.0
            total = self._loop.total
            left_s = (total - done) / rate if rate and total is not None and total >= done else None
            line = words.turn_line(self.place(), self._loop.tracked.copy(), rate, left_s)
            epochs.say(line, self._how.file, self._loop.faults)
        except Exception as error:  # noqa: BLE001 - the program must never hear of it
            self._loop.faults.note(error)


def _items(life: Any, told: Told, source: Iterable[Any]) -> Generator[Any, None, None]:
    """The items as the source gives them; between two of them the loop can be asked, steered, and is told."""
    loop = life.loop
    with life, told:
        index = loop.index
        for item in source:
            index += 1
            yield item
            loop.index = index
            told.turned()
            if index >= loop.stop_at and life.left():
                break
        else:
            life.how = FINISHED
    life.over()


def _whole(number: Any) -> Optional[int]:
    try:
        return operator.index(number)
    except TypeError:
        return None
