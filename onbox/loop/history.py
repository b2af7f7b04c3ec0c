"""What a tracked number was in earlier iterations: bounded, and cheap to add to."""

from typing import Any, Dict, List, Optional, Tuple

from onbox.wire.state import plain
from onbox.wire.text import dumped

POINTS = 1024
KEYS = 64
_NO_NUMBER = (bool, str, bytes, list, tuple, dict, set, type(None))
_NOTHING = object()
_BITS = 1024  # a longer whole number has no word in a plot

Point = Tuple[int, float]
Points = Dict[str, List[Point]]


class Series:
    """The points of one key. At 1024 every second goes, and from then on half as many are taken."""

    __slots__ = ("foreign", "left", "points", "seen", "stride")

    def __init__(self) -> None:
        self.left = 0  # how many values to pass over until the next point
        self.stride = 1
        self.points: List[Point] = []
        self.foreign: Optional[Tuple[int, Any]] = None
        self.seen: Any = _NOTHING  # the newest value: one that is still the same object was not tracked again

    def take(self, iteration: int, value: Any) -> None:
        """Nothing comes back: a number is a point; what might be one waits for `settle`."""
        self.seen = value
        if self.left:
            self.left -= 1
            return
        if type(value) is float or (type(value) is int and value.bit_length() <= _BITS):
            self._add(iteration, value)
        elif not isinstance(value, _NO_NUMBER) and type(value) is not int:
            # Only the newest: a tensor may hold a whole graph, and to look at it may take a while.
            self.foreign = (iteration, value)

    def settle(self) -> None:
        """Nothing comes back: the newest foreign value is a point if it is a number. Beside the loop."""
        waiting, self.foreign = self.foreign, None
        if waiting is None:
            return
        number = plain(waiting[1])  # an array of one row becomes a list, and that is no point
        if type(number) in (int, float):
            self._add(waiting[0], number)

    def _add(self, iteration: int, value: float) -> None:
        points = self.points
        points.append((iteration, value))
        self.left = self.stride - 1
        if len(points) >= POINTS:
            del points[1::2]
            self.stride *= 2


def newest(series: Dict[str, Series], most: int) -> Points:
    """The newest `most` points of each key that has any, 0 for all."""
    taken = {key: list(one.points) for key, one in list(series.items())}
    return {key: points[-most:] if most else points for key, points in taken.items() if points}


def fitting(history: Points, cap: int) -> Points:
    """`history` with every second point left out until it is at most `cap` bytes of JSON; the newest stay."""
    while len(dumped(history)) > cap and history:
        history = {key: points[::-2][::-1] for key, points in history.items() if len(points) > 1}
    return history
