"""Since when memory has been rising, from a history of bounded length. Pure."""

from typing import List, Optional

_MOST = 128  # points; each then stands for twice the time
_FELL = 0.95
_ROSE = 1.1
_RESTED = 0.1  # of the whole rise
_STIRRED = 0.02
_REST_PART = 4  # a rest is a quarter of the time
_REST_POINTS = 3  # fewer are no history


class _Point:
    """A stretch of time: its highest, the lowest until that was reached, and how far it fell after it."""

    __slots__ = ("at_ms", "fell", "high", "last_ms", "low")

    def __init__(self, at_ms: int, value: int) -> None:
        self.at_ms = self.last_ms = at_ms
        self.low = self.high = self.fell = value

    def extend(self, later: "_Point") -> None:
        """Nothing comes back: `later` follows it at once and is part of it from now on."""
        if later.high > self.high:
            self.low, self.high, self.fell = min(self.low, self.fell, later.low), later.high, later.fell
        else:
            self.fell = min(self.fell, later.low, later.fell)
        self.last_ms = later.last_ms


class Rising:
    """Takes memory moment by moment; `since()` looks back from the highest."""

    def __init__(self) -> None:
        self._points: List[_Point] = []
        self._width_ms = 0
        self.peak = 0
        self.peak_at_ms: Optional[int] = None

    def add(self, at_ms: int, value: int) -> None:
        """Nothing comes back: `value` was reached at `at_ms`."""
        if value > self.peak or self.peak_at_ms is None:
            self.peak, self.peak_at_ms = value, at_ms
        last = self._points[-1] if self._points else None
        if last is not None and at_ms - last.at_ms < self._width_ms:
            last.extend(_Point(at_ms, value))
            return
        self._points.append(_Point(at_ms, value))
        if len(self._points) >= _MOST:
            self._halve()

    def since(self) -> Optional[int]:
        """The moment since when it only went up until its peak; None where it did not rise by a tenth.

        It went up as long as it never fell 5 % below what it had reached; a rest of a quarter of that time,
        in which it made less than a tenth of its rise, begins it anew.
        """
        if self.peak_at_ms is None:
            return None
        points = [point for point in self._points if point.at_ms <= self.peak_at_ms]
        lowest = self.peak
        first = len(points)
        for index in range(len(points) - 1, -1, -1):
            point = points[index]
            if index < len(points) - 1:  # what it fell after the peak does not count
                lowest = min(lowest, point.fell)
            if point.high * _FELL > lowest:
                break
            first, lowest = index, min(lowest, point.low)
        points = self._rested(points[first:])
        if not points or points[0].low * _ROSE > self.peak:
            return None
        return points[0].at_ms

    def _rested(self, points: List[_Point]) -> List[_Point]:
        """`points` from the end of their last long rest on."""
        if not points or self.peak_at_ms is None:
            return points
        rise = self.peak - points[0].low
        rest_ms = (self.peak_at_ms - points[0].at_ms) / _REST_PART
        for end in range(len(points) - 1, _REST_POINTS, -1):
            begin = end
            while begin > 0 and points[end].high - points[begin - 1].low <= rise * _RESTED:
                begin -= 1
            if end - begin >= _REST_POINTS and points[end].last_ms - points[begin].at_ms >= rest_ms:
                level = points[begin].low + rise * _STIRRED
                return points[max(at for at in range(begin, end + 1) if points[at].low <= level) :]
        return points

    def _halve(self) -> None:
        kept: List[_Point] = []
        for first, second in zip(self._points[::2], self._points[1::2]):
            first.extend(second)
            kept.append(first)
        if len(self._points) % 2:
            kept.append(self._points[-1])
        self._points = kept
        self._width_ms = max(2 * self._width_ms, 2 * (kept[-1].at_ms - kept[0].at_ms) // _MOST, 1)
