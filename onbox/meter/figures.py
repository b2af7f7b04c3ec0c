"""Figures of what was measured, as people say them. Pure."""

import math
from typing import List, Optional, Tuple

_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: float) -> str:
    """Bytes in the largest decimal unit: `84 kB`, `412 GB`."""
    scale, prefix = scaled(count)
    return "%s %sB" % (figure(count / scale), prefix)


def part_of(part: float, whole: float, between: str) -> str:
    """`31.8 of 32 GB`, both in the unit of the whole."""
    scale, prefix = scaled(whole)
    return "%s%s%s %sB" % (figure(part / scale), between, figure(whole / scale), prefix)


def scaled(value: float) -> Tuple[float, str]:
    """By what to divide so that a digit or three stand before the point, and the unit's prefix for it."""
    power = max(0, min(int(math.log10(value) // 3), 5)) if value >= 1 else 0
    return 1000.0**power, " kMGTP"[power].strip()


def figure(value: float) -> str:
    """Three digits that count; all of them above a thousand."""
    return "%.0f" % value if abs(value) >= 1000 else "%.3g" % value


def whole(value: Optional[float]) -> str:
    """Without decimals; `-` for what is not known."""
    return "-" if value is None else "%.0f" % value


def span(seconds: float) -> str:
    """A length of time in at most two units: `40 s`, `26 min`, `3 h 10 min`."""
    left = max(0, round(seconds))
    if left >= 60:
        left -= left % 60
    parts: List[str] = []
    for length, unit in _SPANS:
        if left >= length and len(parts) < 2:
            parts.append("%d %s" % (left // length, unit))
            left %= length
        elif parts:
            break
    return " ".join(parts) or "0 s"


def clock(seconds: Optional[float]) -> str:
    """`3:10:22`; below a minute with the parts of a second in which short jobs differ."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return "%.3g s" % seconds
    count = round(seconds)
    return "%d:%02d:%02d" % (count // 3600, count // 60 % 60, count % 60)
