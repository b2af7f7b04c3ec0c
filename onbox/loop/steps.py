"""`ipc_range`: a loop of the program's own, one step at a time."""

import operator
import sys
from types import TracebackType
from typing import Any, Callable, Generator, Iterable, Iterator, Optional, Type, Union

from onbox.loop import ends, ranks
from onbox.loop.here import here
from onbox.loop.running import BROKEN, FINISHED, Loop, Save
from onbox.loop.stretch import Stretch

EXIT_BROKEN = 88
_held = getattr(sys, "getrefcount", None)


class IPCStep:
    """One turn of the loop: `index` counts from `initial`, `item` is what the iterable gave."""

    __slots__ = ("__weakref__", "_loop", "index", "track")

    # Takes values by name: the newest of each stands in the state, of numbers a bounded history is kept.
    # It is the dict's own method, nothing of ours runs in it; what is new is seen when the iteration ends.
    track: Callable[..., None]

    def __init__(self, index: int, loop: Loop) -> None:
        self.index = index
        self._loop = loop
        self.track = loop.tracked.update

    @property
    def item(self) -> Any:
        """What the iterable gave: for a number as for `range`, the index."""
        return self.index

    def get(self, key: str, default: Any = None) -> Any:
        """What was set from outside on this loop or on one around it, else `default`."""
        loop: Optional[Loop] = self._loop
        while loop is not None:
            if key in loop.injected:
                return loop.injected[key]
            loop = loop.parent
        return default

    @property
    def should_stop(self) -> bool:
        """Whether this is the last turn, because somebody asked for it."""
        return self._loop.stopping

    def __repr__(self) -> str:
        return "IPCStep(index=%d)" % self.index


class _Carrying(IPCStep):
    """A step with an item of its own."""

    __slots__ = ("item",)

    item: Any

    def __init__(self, index: int, item: Any, loop: Loop) -> None:
        super().__init__(index, loop)
        self.item = item


class ipc_range:  # noqa: N801 - stands where range() stood
    """The steps of a loop that can be asked and steered while it runs.

    `iterable_or_stop` is an iterable, or a number as for `range`. `save(state)` is called between two
    iterations by `checkpoint` and `break`; what it returns is told to who asked. `break` ends the program
    with `break_code`. `initial` is how many iterations an earlier process did. `group` names ranks that
    leave together.
    """

    def __init__(
        self,
        iterable_or_stop: Union[int, Iterable[Any]],
        *,
        label: str = "",
        state_every: int = 1,
        group: Optional[str] = None,
        rank: Optional[int] = None,
        world: Optional[int] = None,
        save: Optional[Save] = None,
        break_code: int = EXIT_BROKEN,
        initial: int = 0,
    ) -> None:
        self._source: Iterable[Any]
        if hasattr(type(iterable_or_stop), "__index__") and not hasattr(iterable_or_stop, "__iter__"):
            self._total: Optional[int] = operator.index(iterable_or_stop)
            self._source = range(initial, self._total)
        else:
            self._source = iterable_or_stop  # type: ignore[assignment]
            self._total = _length(self._source, initial)
        self._label = str(label) if label else str((getattr(sys, "argv", None) or [""])[0])
        self._every = max(1, int(state_every))
        self._group = (group, rank, world)
        self._save, self._code, self._initial = save, break_code, initial

    def __iter__(self) -> Iterator[IPCStep]:
        source, life = self._source, self._life()
        if isinstance(source, range) and source.start == self._initial and source.step == 1:
            return _counted(life, life.loop, source)
        return _carried(life, life.loop, source)

    def _life(self) -> "_Life":
        """One run through the source, to be entered by the generator that gives its items."""
        loop = Loop(self._label, self._total, self._initial, self._every, self._save, self._code)
        return _Life(loop, self._group)


def _counted(life: "_Life", loop: Loop, source: range) -> Generator[IPCStep, None, None]:
    """The steps of a range. Two take turns: one that nobody holds is used again, a new one costs more.

    Whoever keeps a step gets one of his own.
    """
    with life:
        held = _held or _one
        step, other = IPCStep(0, loop), IPCStep(0, loop)
        free = held(step) if _held else 0
        index, last = loop.index, source.stop - 1
        loop.stop = source.stop
        stretch = Stretch(source.start, source.start + 1)  # the first turn is taken whatever is asked
        while index < last:
            for index in stretch.turns:
                step, other = other, step
                if held(step) > free:
                    step = IPCStep(index, loop)
                else:
                    step.index = index
                yield step
            loop.index = index
            if life.left():
                break
            stretch = loop.stretch
        else:
            life.how = FINISHED
    life.over()


def _carried(life: "_Life", loop: Loop, source: Iterable[Any]) -> Generator[IPCStep, None, None]:
    """The steps of anything else: a new one each turn: no item lives longer than in a loop without us."""
    with life:
        index = loop.index
        for item in source:
            index += 1
            yield _Carrying(index, item, loop)
            loop.index = index
            if index >= loop.stop_at and life.left():
                break
        else:
            life.how = FINISHED
    life.over()


class _Life:
    """The loop as the process knows it, from its first step to its end, however that comes."""

    def __init__(self, loop: Loop, group: Any) -> None:
        self.how = ends.LEFT
        self.loop, self._group, self._process = loop, group, here()

    def __enter__(self) -> None:
        self._process = here()
        try:
            self.loop.begun()
            self.loop.group = ranks.group(*self._group)
            self._process.begin(self.loop)
            self.loop.turning()
        except Exception as error:  # noqa: BLE001 - a loop that cannot be steered is still a loop
            self._process.faults.note(error)

    def left(self) -> bool:
        """Whether somebody asked for the end, and this is where it is."""
        how = self.loop.boundary()
        self.how = how or self.how
        return bool(how)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        where = None
        try:
            if kind is GeneratorExit:
                self.how = ends.LEFT
                error = None
                # Two frames above stands who ran the loop, or whoever let go of it; nobody, as a thread ends.
                runner = sys._getframe(1).f_back  # noqa: SLF001 - nothing else sees the for statement
                where = None if runner is None else (runner.f_code, runner.f_lineno)
            elif kind is not None:
                self.how = ends.SIGNAL if issubclass(kind, KeyboardInterrupt) else ends.EXCEPTION
            self._process.end(self.loop, self.how, error, where)
        except Exception as failed:  # noqa: BLE001 - as at the beginning
            self._process.faults.note(failed)

    def over(self) -> None:
        """Nothing comes back. Raises SystemExit behind the last iteration of a loop that was broken off."""
        if self.how == BROKEN:
            raise SystemExit(self.loop.break_code)


def _length(source: Any, initial: int) -> Optional[int]:
    try:
        return len(source) + initial
    except Exception:  # noqa: BLE001 - a __len__ that raises knows nothing
        return None


def _one(_step: object) -> int:
    return 1
