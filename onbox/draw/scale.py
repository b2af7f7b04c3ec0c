"""What both kinds of chart share: which points can be drawn, and where they stand."""

import math
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

MAX_PANELS = 6
Point = Tuple[float, float]


class Panel(NamedTuple):
    """One key's drawable points, by iteration; `skipped` counts values that are no finite number."""

    key: str
    points: List[Point]
    skipped: int
    low: float
    high: float
    first: float
    last: float


def panels(series: Mapping[str, Any]) -> List[Panel]:
    """At most six panels of `[iteration, value]` pairs in the order of `series`, those with points first.

    They share their first and last iteration, so that what happened at once stands one below the other.
    """
    found = [_panel(str(key), pairs) for key, pairs in series.items()]
    drawn = [panel for panel in found if panel.points]
    first = min((panel.first for panel in drawn), default=0.0)
    last = max((panel.last for panel in drawn), default=0.0)
    shared = [panel._replace(first=first, last=last) for panel in drawn]
    return (shared + [panel for panel in found if not panel.points])[:MAX_PANELS]


def spot(value: float, low: float, high: float, steps: int) -> int:
    """Which of `steps` steps from `low` to `high` holds `value`; the middle one where all values are one."""
    if not high > low:
        return (steps - 1) // 2
    # Halved first: the distance between two finite numbers may not be one. Of the least two there are, the
    # halves are alike.
    tall = high / 2 - low / 2
    share = (value / 2 - low / 2) / tall if tall else 0.5
    return min(steps - 1, max(0, round(share * (steps - 1))))


def number_text(value: float) -> str:
    """`value` in at most ten characters."""
    if value == int(value) and abs(value) < 1e9:
        return "%d" % value
    text = "%.4g" % value
    return text if len(text) <= 10 else "%.3g" % value


def _panel(key: str, pairs: Any) -> Panel:
    points: List[Point] = []
    skipped = 0
    for pair in pairs if isinstance(pairs, (list, tuple)) else ():
        point = _point(pair)
        if point is None:
            skipped += 1
        else:
            points.append(point)
    points.sort(key=lambda point: point[0])
    if not points:
        return Panel(key, [], skipped, 0.0, 0.0, 0.0, 0.0)
    heights = [y for _, y in points]
    return Panel(key, points, skipped, min(heights), max(heights), points[0][0], points[-1][0])


def _point(pair: Any) -> Optional[Point]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return None
    x, y = _finite(pair[0]), _finite(pair[1])
    return None if x is None or y is None else (x, y)


def _finite(value: Any) -> Optional[float]:
    if not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def columns(panel: Panel, width: int) -> List[Optional[Tuple[float, float]]]:
    """Lowest and highest value in each of `width` columns; a column between two points holds the first.

    A value that was not tracked anew has no point of its own: it was what it had been, up to the next one.
    """
    held: List[Optional[Tuple[float, float]]] = [None] * width
    places = [(spot(x, panel.first, panel.last, width), y) for x, y in panel.points]
    for at, y in places:
        before = held[at]
        held[at] = (y, y) if before is None else (min(before[0], y), max(before[1], y))
    for (left, y), (right, _) in zip(places, [*places[1:], (width, 0.0)]):
        for at in range(left + 1, right):
            held[at] = (y, y)
    return held


def joined(spans: Sequence[Optional[Tuple[int, int]]]) -> List[Optional[Tuple[int, int]]]:
    """`spans` of rows, each stretched to meet the one to its left: a steep line has no holes."""
    met: List[Optional[Tuple[int, int]]] = []
    before: Optional[Tuple[int, int]] = None
    for span in spans:
        if span is not None and before is not None:
            low, high = span
            low, high = min(low, before[1] + 1), max(high, before[0] - 1)
            met.append((low, high))
        else:
            met.append(span)
        before = span
    return met
