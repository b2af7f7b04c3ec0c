"""The lines of pulse, from figures to text. Pure; docs/monitor.md shows each of them."""

import unicodedata
from typing import Any, List, Mapping, Optional, Tuple

from onbox.wire.state import plain

SHOWN = 8  # values in a line
_NAME, _TEXT = 60, 40
_BITS = 64

_READY = (float, int, str, type(None))


class Described(str):
    """The text of a value that is no number and no word: for the state of the loop, not for a line."""

    __slots__ = ()


Place = Tuple[str, int, Optional[int]]  # label, how many are finished, of how many


def turn_line(place: Place, values: Mapping[str, Any], rate: float, left_s: Optional[float]) -> str:
    """`Batch 15/20 - loss: 0.4987 - 3.21/s - ETA 0:00:02`. `rate` is a second; `left_s` None: not known."""
    where = _where(place)
    pieces = [where[:1].upper() + where[1:], figures(values), "%.3g/s" % rate if rate > 0 else ""]
    pieces.append("" if left_s is None else "ETA %s" % clock(left_s))
    return " - ".join(piece for piece in pieces if piece)


def epoch_line(epoch: object, epochs: object, values: Mapping[str, Any], took_s: float) -> str:
    """`[PROGRESS] Epoch 1/100 - train_loss: 0.5, val_loss: 0.51 - 0:01:12`."""
    of = "" if epochs is None else "/%s" % _one_line(epochs, _NAME)
    head = "[PROGRESS] Epoch %s%s" % (_one_line(epoch, _NAME), of)
    return " - ".join(piece for piece in (head, figures(values), clock(took_s)) if piece)


def beat_line(now: str, places: List[Place], age_s: Optional[float]) -> str:
    """`[HEARTBEAT 12:00:31] batch 15/20, 4 s ago`. `age_s`: since the newest of the counters moved."""
    said = [_where(place) for place in places] + ([] if age_s is None else ["%s ago" % age(age_s)])
    return ("[HEARTBEAT %s] %s" % (now, ", ".join(said))).rstrip()


def kept(value: Any) -> Any:
    """`value` as it is tracked: a plain number or text; nothing of a tensor's graph lives on in it."""
    if type(value) in _READY:
        return value
    made = plain(value)
    return Described(made) if isinstance(made, str) and not isinstance(value, str) else made


def figures(values: Mapping[str, Any]) -> str:
    """`loss: 0.4987, lr: 0.001`: the first eight that are a number or a word; a list is for a plot."""
    pairs: List[str] = []
    for name, value in values.items():
        text = _figure(value)
        if text and len(pairs) < SHOWN:
            pairs.append("%s: %s" % (_one_line(name, _NAME), text))
    return ", ".join(pairs)


def clock(seconds: float) -> str:
    """`0:01:12`; hours go on counting."""
    whole = max(0, int(seconds))
    return "%d:%02d:%02d" % (whole // 3600, whole // 60 % 60, whole % 60)


def age(seconds: float) -> str:
    """`4 s`, from two minutes on `35 min`, from two hours on `3 h`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return "%d s" % whole
    return "%d min" % (whole // 60) if whole < 7200 else "%d h" % (whole // 3600)


def _where(place: Place) -> str:
    label, done, total = place
    # A total that was passed is none.
    of = "/%d" % total if total is not None and done <= total else ""
    return ("%s %d%s" % (_one_line(label, _NAME), done, of)).strip()


def _figure(value: object) -> str:
    """One value as it stands in a line; empty for what has no place there."""
    if isinstance(value, float):
        return "%.6g" % value
    if isinstance(value, int) and not isinstance(value, bool):
        return "%d" % value if value.bit_length() <= _BITS else ""
    spoken = isinstance(value, (str, bool)) and not isinstance(value, Described)
    return _one_line(value, _TEXT) if spoken else ""


def _one_line(value: object, most: int) -> str:
    """The text of `value` on one line, at most so long."""
    text = str(value)[: 4 * most]
    kept = "".join(one if unicodedata.category(one)[0] not in "CZ" else " " for one in text)
    return " ".join(kept.split())[:most]
