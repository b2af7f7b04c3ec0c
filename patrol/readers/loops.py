"""Loops that can be asked, by the cards of living processes and their state files. Pure."""

import math
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Loop
from fleet.model.reading import Known, Missing, Reading
from fleet.text.boxjson import from_box
from fleet.text.frame import Section
from patrol.readers.section import text_of

MAX_LOOPS = 32
_CARD_BYTES = 8192
_STATE_BYTES = 4096
_TRACKED = 16
_NAME_CHARS = 64
_LABEL_CHARS = 200
_ODD = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_HEAD = re.compile(rb"(\d{1,9}) (\d{1,18}) ([A-Za-z]) (\d{1,15}) (\d{1,5}) (\d{1,5})\n")


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


class _State(Struct, frozen=True):
    iteration: int
    total: int | None = None
    eta_sec: float | None = None
    tracked: dict[str, Any] = {}


def read_loops(section: Section | None, boot: Reading[str], at: float) -> Reading[tuple[Loop, ...]]:
    """The living loops of the box; empty when the answer holds no such section, as there is no folder then.

    A card that its process did not write, or not as we would, is no loop.
    """
    if section is None:
        return Known((), at, "loops")
    text = text_of(section, "the loops")
    if isinstance(text, Missing):
        return text
    boot_id = boot.value.strip() if isinstance(boot, Known) else None
    found = [_loop(*entry, boot_id, at) for entry in _entries(section.content)]
    return Known(tuple(loop for loop in found if loop is not None), at, "loops")


def loops_of(loops: Reading[tuple[Loop, ...]], tag: str) -> Reading[tuple[Loop, ...]]:
    """Those of the run with that tag (a stage adds its name to it), the lowest rank first."""
    if isinstance(loops, Missing):
        return loops
    mine = [loop for loop in loops.value if loop.tag is not None and loop.tag.partition("/")[0] == tag]
    return Known(tuple(sorted(mine, key=lambda loop: (loop.rank or 0, loop.pid))), loops.at, loops.vantage)


def _entries(content: bytes) -> Iterator[tuple[re.Match[bytes], bytes, bytes]]:
    """Head, card and state of each entry; what follows a malformed one cannot be told apart and is left."""
    at = 0
    for _ in range(MAX_LOOPS):
        head = _HEAD.match(content, at)
        if head is None:
            return
        card_at = head.end()
        state_at = card_at + int(head[5]) + 1
        at = state_at + int(head[6]) + 1
        if at > len(content) + 1:
            return
        yield head, content[card_at : state_at - 1], content[state_at : at - 1]


def _loop(
    head: re.Match[bytes], card_text: bytes, state_text: bytes, boot_id: str | None, at: float
) -> Loop | None:
    try:
        card = from_box(card_text, _Card, max_bytes=_CARD_BYTES, where="", what="a card", odd_numbers=True)
    except ProbeUnreadable:
        return None
    same = card.start_ticks in (None, int(head[2])) and (boot_id is None or card.boot_id in (None, boot_id))
    if card.format != 1 or card.pid != int(head[1]) or not same or not card.loops:
        return None
    state = _state(state_text)
    outermost = card.loops[0]
    return Loop(
        pid=card.pid,
        label=outermost.label[:_LABEL_CHARS],
        tag=card.tag,
        rank=card.rank,
        iteration=state.iteration if state else None,
        total=_count(state.total if state else outermost.total),
        eta_s=_seconds(state.eta_sec if state else None),
        moved_at=min(float(head[4]), at),
        paused=head[3] in (b"T", b"t"),
        tracked=tuple(_scalars(state.tracked)) if state else (),
    )


def _state(text: bytes) -> _State | None:
    """What a state file says; of one that was cut, what stands before the tracked values."""
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
