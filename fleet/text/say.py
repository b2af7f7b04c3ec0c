"""Figures as people say them: ages, sizes, counts. Pure."""

import math

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """A length of time in at most two units: `40 s`, `26 min`, `3 h 10 min`, `2 d 4 h`."""
    left = max(0, round(seconds))
    if left >= 60:
        left = left // 60 * 60
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def ago(seconds: float) -> str:
    """An age: `now` below five seconds, else `4 min ago`."""
    return "now" if seconds < 5 else f"{duration(seconds)} ago"


def size(count: float) -> str:
    """Bytes in the largest decimal unit that keeps a digit before the point: `84 kB`, `412 GB`."""
    rounded = float(f"{count:.3g}")  # first, since it may be what takes it to the next unit
    if rounded < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(rounded) // 3), 5)
    return f"{rounded / 1000**power:.3g} {' kMGTP'[power]}B"


def plural(count: int, word: str) -> str:
    """`1 run`, `3 runs`, `2 processes`."""
    several = f"{word}es" if word.endswith(("s", "x", "tch")) else f"{word}s"
    return f"{count} {word if count == 1 else several}"
