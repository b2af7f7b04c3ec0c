"""The live state of a loop, in the form of loopmonitor 0.1.x, and what a tracked value becomes in it."""

import datetime as dt
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from onbox.wire import folder as place
from onbox.wire.text import patiently

_CAP = 64 << 20  # 0.1.x writes tracked lists in full
TAIL = 1000  # elements of a list that are kept, and parts of one value in all
TEXT = 200
_DEPTH = 4
_BITS = 1024  # a longer whole number is text: its digits could fill the file


def live(folder: Path, pid: int) -> Optional[Dict[str, Any]]:
    """The state of `pid`; None where none is there, or it stayed torn for 50 ms. Raises Unsafe, OSError."""
    try:
        return patiently(place.state(folder, pid), _CAP)
    except (FileNotFoundError, ValueError):
        return None


def document(
    pid: int,
    iteration: int,
    total: Optional[int],
    *,
    elapsed_s: float,
    tracked: Dict[str, Any],
    now: float,
    initial: int = 0,
) -> Dict[str, Any]:
    """The state as 0.1.x writes it, in its order. `iteration` counts finished ones; `now` is Unix time.

    The rate is taken over the iterations of this process, those after `initial`. `tracked` must be plain.
    """
    eta = None
    if total and iteration > initial:
        eta = round(elapsed_s / (iteration - initial) * (total - iteration), 1)
    updated = dt.datetime.fromtimestamp(now, dt.timezone.utc)
    return {
        "pid": pid,
        "iteration": iteration,
        "total": total,
        "elapsed_sec": round(elapsed_s, 1),
        "eta_sec": eta,
        "tracked": tracked,
        "updated": updated.isoformat(),
    }


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers, the last 1000 elements of a list, else at most 200 characters.

    Nothing is raised, whatever the value does when it is looked at.
    """
    return _plain(value, _DEPTH, [TAIL])


def _plain(value: Any, depth: int, left: List[int]) -> Any:  # noqa: PLR0911 - one line a kind of value
    left[0] -= 1
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)[:TEXT]
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int):
            whole = int(value)
            return whole if whole.bit_length() <= _BITS else "a whole number of %d bits" % whole.bit_length()
        if depth and isinstance(value, (list, tuple)):
            return _elements(value[-TAIL:], depth, left)
        if depth and isinstance(value, dict):
            # A copy in one step: the program may change its own object while we read it.
            return _pairs(list(value.copy().items())[:TAIL], depth, left)
        number = _number(value)
        return _text(value) if number is None else _plain(number, depth and depth - 1, left)
    except Exception:  # noqa: BLE001 - foreign code runs in every line above
        return _text(value)


def _elements(values: Iterable[Any], depth: int, left: List[int]) -> List[Any]:
    """The last elements, as many as the value may still have parts."""
    kept = []
    for value in reversed(list(values)):
        if left[0] <= 0:
            break
        kept.append(_plain(value, depth - 1, left))
    kept.reverse()
    return kept


def _pairs(pairs: Iterable[Tuple[Any, Any]], depth: int, left: List[int]) -> Dict[str, Any]:
    kept = {}
    for key, value in pairs:
        if left[0] <= 0:
            break
        kept[_text(key)] = _plain(value, depth - 1, left)
    return kept


def _number(value: Any) -> Any:
    """What an array or tensor holds: one number, or the last of one row as a list; None for anything else."""
    size = getattr(value, "ndim", None)
    if size == 0:
        return value.item()
    if size == 1:
        return value[-TAIL:].tolist()
    if size is None and hasattr(type(value), "__float__"):
        return float(value)
    return None


def _text(value: Any) -> str:
    try:
        return str(value)[:TEXT]
    except Exception:  # noqa: BLE001 - as above
        return "a value of type %s that cannot be shown" % type(value).__name__[:TEXT]
