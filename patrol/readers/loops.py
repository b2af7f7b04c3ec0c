"""Loops that can be asked, by cards of living processes or by the registry alone; and their states. Pure."""

import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Alive, Loop
from fleet.model.reading import Known, Missing, Reading
from fleet.text.boxjson import from_box
from fleet.text.frame import Section
from patrol.readers.section import NOT_PLAIN, text_of

MAX_LOOPS = 32
_CARD_BYTES = 8192
_STATE_BYTES = 4096
_ENTRY_BYTES = 4097
_TRACKED = 16
_NAME_CHARS = 64
_LABEL_CHARS = 200
_ODD = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
# A clock that was set, and the time a probe takes, lie between what two clocks say of one moment.
_CLOCKS_S = 60.0
# A state is worth its age from here on, and not before three turns: it is written each so many turns.
_OLD_S = 60.0
_OLD_TURNS = 3
_HEAD = re.compile(
    rb"(?P<pid>\d{1,9}) (?P<start>\d{1,18}) (?P<how>[A-Za-z]) (?P<mtime>\d{1,15}) (?P<age>-?\d{1,15})"
    rb" (?P<card>\d{1,5}) (?P<state>\d{1,5}) (?P<entry>\d{1,5})\n"
)


class _Named(Struct, frozen=True):
    label: str
    total: int | None = None


class _Card(Struct, frozen=True):
    format: int
    pid: int
    start_ticks: int | None
    boot_id: str | None
    tag: str | None
    rank: int | None
    loops: tuple[_Named, ...]


class _Entry(Struct, frozen=True):
    pid: int
    label: str = ""
    language: str = ""
    start_time: str = ""


class _State(Struct, frozen=True):
    iteration: int
    elapsed_sec: float | None = None
    total: int | None = None
    eta_sec: float | None = None
    tracked: dict[str, Any] = {}


def read_loops(section: Section | None, boot: Reading[str], at: float) -> Reading[tuple[Loop, ...]]:
    """The living loops of the box; empty when the answer holds no such section, as there is no folder then.

    A card that its process did not write, or not as we would, is none; and an entry of the registry that is
    older than the process of its number is of another one.
    """
    if section is None:
        return Known((), at, "loops")
    if section.status == NOT_PLAIN:
        return Missing("the loops lie in a folder that is not its owner's alone")
    text = text_of(section, "the loops")
    if isinstance(text, Missing):
        return text
    boot_id = boot.value.strip() if isinstance(boot, Known) else None
    found = [_loop(each, boot_id, at) or _registered(each, at) for each in _sent(section.content)]
    return Known(tuple(loop for loop in found if loop is not None), at, "loops")


def loops_of(
    loops: Reading[tuple[Loop, ...]], tag: str, alive: Reading[tuple[Alive, ...]]
) -> Reading[tuple[Loop, ...]]:
    """Those of the run with that tag (a stage adds its name to it), the lowest rank first.

    A loop that does not know its run, as one of loopmonitor's, belongs to it by being among its processes.
    """
    if isinstance(loops, Missing):
        return loops
    pids = {one.pid for one in alive.value} if isinstance(alive, Known) else set()
    mine = [
        loop
        for loop in loops.value
        if (loop.pid in pids if loop.tag is None else loop.tag.partition("/")[0] == tag)
    ]
    return Known(tuple(sorted(mine, key=lambda loop: (loop.rank or 0, loop.pid))), loops.at, loops.vantage)


class _Sent(Struct, frozen=True):
    """What a probe sent of one process; `mtime` is its state's, 0 without one, `age_s` the process's own."""

    pid: int
    start_ticks: int
    paused: bool
    mtime: float
    age_s: float
    card: bytes
    state: bytes
    entry: bytes


def _sent(content: bytes) -> Iterator[_Sent]:
    """Each process; what follows a malformed one cannot be told apart and is left."""
    at = 0
    for _ in range(MAX_LOOPS):
        head = _HEAD.match(content, at)
        if head is None:
            return
        parts, at = [], head.end()
        for size in (int(head["card"]), int(head["state"]), int(head["entry"])):
            parts.append(content[at : at + size])
            at += size + 1
        if at > len(content) + 1:
            return
        card, state, entry = parts
        yield _Sent(
            pid=int(head["pid"]),
            start_ticks=int(head["start"]),
            paused=head["how"] in (b"T", b"t"),
            mtime=float(head["mtime"]),
            age_s=float(head["age"]),
            card=card,
            state=state,
            entry=entry,
        )


def _loop(sent: _Sent, boot_id: str | None, at: float) -> Loop | None:
    """The loop by its card; None where there is none that this very process wrote."""
    try:
        card = from_box(sent.card, _Card, max_bytes=_CARD_BYTES, where="", what="a card", odd_numbers=True)
    except ProbeUnreadable:
        return None
    same = card.start_ticks in (None, sent.start_ticks) and (
        boot_id is None or card.boot_id in (None, boot_id)
    )
    if card.format != 1 or card.pid != sent.pid or not same or not card.loops:
        return None
    state = _state(sent.state)
    outermost = card.loops[0]
    return Loop(
        pid=card.pid,
        label=outermost.label[:_LABEL_CHARS],
        tag=card.tag,
        rank=card.rank,
        iteration=state.iteration if state else None,
        total=_count(state.total if state else outermost.total),
        eta_s=_seconds(state.eta_sec if state else None),
        moved_at=min(sent.mtime or at - sent.age_s, at),
        paused=sent.paused,
        tracked=tuple(_scalars(state.tracked)) if state else (),
    )


def _registered(sent: _Sent, at: float) -> Loop | None:
    """The loop that only the registry names; None where its process is younger than what is said of it.

    Entries of killed programs stay for ever, and numbers come again. A state that is older than the entry is
    of another loop.
    """
    entry = _entry(sent)
    born = at - sent.age_s
    began = _moment(entry.start_time) if entry else None
    witness = sent.mtime if began is None else began
    if entry is None or witness + _CLOCKS_S < born:
        return None
    state = _state(sent.state) if sent.mtime + _CLOCKS_S >= witness else None
    old_s = _OLD_S
    if state and state.elapsed_sec and state.iteration:
        old_s = max(_OLD_S, _OLD_TURNS * state.elapsed_sec / state.iteration)
    moved_at = min(sent.mtime if state else witness, at)
    return Loop(
        pid=sent.pid,
        label=entry.label[:_LABEL_CHARS],
        tag=None,
        rank=None,
        iteration=state.iteration if state else None,
        total=_count(state.total if state else None),
        eta_s=_seconds(state.eta_sec if state else None),
        moved_at=moved_at,
        paused=sent.paused,
        tracked=tuple(_scalars(state.tracked)) if state else (),
        kind="R" if entry.language == "R" else "loopmonitor",
        state_age_s=at - moved_at if state and at - moved_at > old_s else None,
    )


def _entry(sent: _Sent) -> _Entry | None:
    """Its lines of the registry, which stand there as `"PID": {…}` with a comma behind most."""
    text = b"{" + sent.entry.strip().removesuffix(b",") + b"}"
    try:
        named = from_box(text, dict[str, _Entry], max_bytes=_ENTRY_BYTES, where="", what="an entry")
    except ProbeUnreadable:
        return None
    entry = named.get(str(sent.pid))
    return entry if entry is not None and entry.pid == sent.pid and len(named) == 1 else None


def _moment(text: str) -> float | None:
    """Epoch seconds of an ISO time that names its offset; None for all else."""
    try:
        at = datetime.fromisoformat(text)
        return at.timestamp() if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _state(text: bytes) -> _State | None:
    """What a state file says; of one that was cut, what stands before the tracked values; None if torn."""
    if len(text) >= _STATE_BYTES:
        text = text.partition(b'"tracked"')[0].rstrip().rstrip(b",") + b"}"
    try:
        state = from_box(text, _State, max_bytes=_STATE_BYTES, where="", what="a state", odd_numbers=True)
    except ProbeUnreadable:
        return None
    return state if state.iteration >= 0 else None


def _scalars(tracked: dict[str, Any]) -> Iterator[tuple[str, int | float | str]]:
    """The first numbers among the tracked values; one that JSON has no word for is `nan`, `inf` or `-inf`."""
    left = _TRACKED
    for name, value in tracked.items():
        number = _ODD.get(value) if isinstance(value, str) else value
        if left and isinstance(number, int | float | str) and not isinstance(number, bool):
            left -= 1
            yield name[:_NAME_CHARS], number


def _count(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def _seconds(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value >= 0 else None
