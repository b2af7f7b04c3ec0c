"""What lines say of time: bars of the tqdm kind, times to go, the age of a heartbeat's counter. Pure."""

import re
from collections.abc import Sequence

_CLOCK = r"(?:(\d{1,4}) days?, )?(?:(\d{1,5}):)?(\d{1,2}):(\d{2})"
_TIMES = re.compile(rf"\[{_CLOCK}<{_CLOCK}(?![\w:])")
_ETA = re.compile(rf"\bETA\s*[:=]?\s*{_CLOCK}(?![\w:])", re.IGNORECASE)
_NAMED = re.compile(r"\b(epoch|step|iter|batch)(?:ation)?(?:e?s)?\s*:?\s*\d{1,3}%\|", re.IGNORECASE)
# As torchvision's MetricLogger counts; mmcv's `Epoch [3][150/1251]` tells the time to the end of all epochs.
_WITHIN = re.compile(r"\bepoch:?\s*\[\d{1,9}\]\s+\[\s*\d{1,9}/\d{1,9}\]", re.IGNORECASE)
_STOOD = re.compile(r"\b(\d{1,9}) (s|min|h) ago\W*$")
_UNIT_S = {"s": 1, "min": 60, "h": 3600}


def counted(line: str) -> str | None:
    """What a bar counts that is named after it and has no number of its own: `Epoch:  37%|███ | 33/90 [`."""
    named = _NAMED.search(line)
    return named[1].lower() if named else None


def times(line: str) -> tuple[float, float] | None:
    """Seconds that a bar took so far, and seconds to go: `[00:12<00:20, 3.1it/s]`."""
    said = _TIMES.search(line)
    return (_seconds(said.groups()[:4]), _seconds(said.groups()[4:])) if said else None


def eta_s(line: str) -> float | None:
    """Seconds to go, as `ETA 0:00:20` says it."""
    said = _ETA.search(line)
    return _seconds(said.groups()) if said else None


def within_epoch(line: str) -> bool:
    """Whether its time to go is that of the epoch: `Epoch: [3]  [ 150/1251]  eta: 0:06:12`."""
    return bool(_WITHIN.search(line))


def stood_s(heartbeat: str) -> float | None:
    """How long the counter in a heartbeat has not moved: `[HEARTBEAT 12:00:31] batch 15/20, 35 min ago`."""
    said = _STOOD.search(heartbeat)
    return float(said[1]) * _UNIT_S[said[2]] if said else None


def _seconds(clock: Sequence[str | None]) -> float:
    """Days, hours, minutes and seconds as one number."""
    days, hours, minutes, seconds = (int(part or 0) for part in clock)
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds
