"""The records of a run: believed only when they carry this run's nonce. Pure."""

import re
from collections.abc import Sequence

from fleet.model.probe import Attempt, End, Marker, Stopping
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import NOT_THERE, fields, figure, text_of

_STAGE = re.compile(r"[0-9]{2}-[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BOOT = re.compile(r"[0-9a-f-]{1,40}")
_WHY = {
    "done": frozenset({"-"}),
    "failed": frozenset({"exit", "signal", "leftovers", "cannot-stamp", "marker-target", "disk", "cwd"}),
    "stopped": frozenset({"stopped", "-"}),
}
_MAX_PIDS = 256
_MAX_SIGNAL = 64
_MAX_STATUS = 255
_NONE = "-"


def read_exists(section: Section | None, at: float) -> Reading[bool]:
    """Whether the run's folder is on the box."""
    text = text_of(section, "the run's folder")
    if isinstance(text, Missing):
        return text
    word = text.strip()
    if word not in {"yes", "no"}:
        return Missing("the run's folder: neither yes nor no was answered")
    return Known(word == "yes", at, "run folder")


def read_attempt(section: Section | None, nonce: str, at: float) -> Reading[Attempt | None]:
    """The newest start; Known None when the run was never started."""
    record = _record(section, nonce, "the attempt record")
    if isinstance(record, Missing):
        return record
    if record is None:
        return Known(None, at, "attempt")
    number, pid, born, started = (figure(record.get(key)) for key in ("attempt", "pid", "born", "started_at"))
    boot = record.get("boot", "")
    if not number or pid is None or born is None or started is None or not _BOOT.fullmatch(boot):
        return Missing("the attempt record is malformed")
    return Known(Attempt(number, pid, born, boot, float(started)), at, "attempt")


def read_budget(section: Section | None, at: float) -> Reading[int]:
    """How many starts the box allows in all: what the spec said, and what was granted since."""
    text = text_of(section, "the budget")
    if isinstance(text, Missing):
        return text
    starts = figure(text.strip())
    return Known(starts, at, "budget") if starts else Missing("the budget is no number")


def read_end(section: Section | None, nonce: str, at: float) -> Reading[End | None]:
    """How an attempt ended; Known None when there is no end record."""
    record = _record(section, nonce, "the end record")
    if isinstance(record, Missing):
        return record
    if record is None:
        return Known(None, at, "end")
    state, why, stage = (record.get(key, _NONE) for key in ("state", "why", "stage"))
    number, started, ended = (figure(record.get(key)) for key in ("attempt", "started_at", "ended_at"))
    known = why in _WHY.get(state, ()) and (stage == _NONE or _STAGE.fullmatch(stage))
    try:
        rc, signal = _optional(record.get("rc"), _MAX_STATUS), _optional(record.get("signal"), _MAX_SIGNAL)
        left = tuple(_optional(word) for word in record.get("leftovers", "").split())
    except ValueError:
        return Missing("the end record is malformed")
    if not known or not number or started is None or ended is None or len(left) > _MAX_PIDS:
        return Missing("the end record is malformed")
    pids = tuple(pid for pid in left if pid is not None)
    name = None if stage == _NONE else stage
    return Known(End(state, number, name, rc, signal, why, float(started), float(ended), pids), at, "end")


def read_stopping(section: Section | None, nonce: str, at: float) -> Reading[Stopping | None]:
    """The newest wish to stop an attempt; Known None when nobody ever asked."""
    record = _record(section, nonce, "the wish to stop")
    if isinstance(record, Missing):
        return record
    if record is None:
        return Known(None, at, "stopping")
    number, asked = figure(record.get("attempt")), figure(record.get("at"))
    if not number or asked is None:
        return Missing("the wish to stop is malformed")
    return Known(Stopping(number, float(asked)), at, "stopping")


def read_markers(
    listing: Section | None, sections: Sequence[Section], nonce: str, at: float
) -> Reading[tuple[Marker, ...]]:
    """The stages that ended well, in the order of their names. Missing when one of them cannot be believed.

    `listing` holds how many there are, `sections` one each: its name on the first line, then the record.
    """
    count = text_of(listing, "the markers")
    if isinstance(count, Missing):
        return count
    if figure(count.strip()) != len(sections):
        return Missing("the markers: not all of them are in the answer")
    markers: list[Marker] = []
    for section in sections:
        name, _, text = section.text.partition("\n")
        what = f"the marker of {name}" if _STAGE.fullmatch(name) else "a marker"
        read = text_of(section, what)
        record = read if isinstance(read, Missing) else _checked(text, nonce, what)
        if isinstance(record, Missing):
            return record
        attempt, started, ended = (figure(record.get(key)) for key in ("attempt", "started_at", "ended_at"))
        if not attempt or started is None or ended is None or record.get("stage") != name:
            return Missing(f"{what} is malformed")
        markers.append(Marker(name, attempt, float(started), float(ended)))
    return Known(tuple(sorted(markers, key=lambda marker: marker.stage)), at, "markers")


def _record(section: Section | None, nonce: str, what: str) -> dict[str, str] | Missing | None:
    if section is not None and section.status == NOT_THERE:
        return None
    text = text_of(section, what)
    return text if isinstance(text, Missing) else _checked(text, nonce, what)


def _checked(text: str, nonce: str, what: str) -> dict[str, str] | Missing:
    record = fields(text)
    if record is None:
        return Missing(f"{what} is malformed")
    if "nonce" not in record:
        return Missing(f"{what} carries no nonce")
    if record["nonce"] != nonce:
        return Missing(f"{what} carries another run's nonce")
    return record


def _optional(text: str | None, most: int | None = None) -> int | None:
    """None for `-` and for a missing key. Raises ValueError for what is no figure, or above `most`."""
    if text is None or text in {"", _NONE}:
        return None
    number = figure(text)
    if number is None or (most is not None and number > most):
        raise ValueError(text)
    return number
