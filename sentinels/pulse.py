"""What a machine that slept or a clock that was set leaves undone, and when the next firing is due. Pure."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from fleet.text.say import duration, plural

_DASH = "\N{EN DASH}"
_LATE_BEATS = 3  # so many beats without a sign of ours: we did not run. Fewer happen on a busy machine.


class Beat(Struct, frozen=True):
    """One moment. `wall` is host time, epoch seconds; `boot` seconds that no setting of the clock changes."""

    wall: float
    boot: float


class Gap(Struct, frozen=True):
    """A time in which nothing could fire, or by which the clock was set: `since` to `until`, host time."""

    kind: Literal["asleep", "clock"]
    since: float
    until: float
    missed: int


def gap(before: Beat, now: Beat, slot: Beat, *, every_s: float, beat_s: float) -> Gap | None:
    """What happened between two beats that were meant to be `beat_s` apart; None: nothing worth a word.

    `slot` is the newest firing. A sleep in which none was due is none.
    """
    passed_s = now.boot - before.boot
    if passed_s > _LATE_BEATS * beat_s:
        missed = int((now.boot - slot.boot) // every_s)
        return Gap("asleep", before.wall, now.wall, missed) if missed else None
    if abs(now.wall - before.wall - passed_s) > max(beat_s, every_s / 2):
        return Gap("clock", before.wall, now.wall, 0)
    return None


def too_late(next_at: float, now: Beat, slot: Beat, *, wait_s: float) -> float | None:
    """When the next firing should be, host time, where `next_at` is too far off; None: it is not.

    `wait_s` is the longest wait that is meant between two. Only a clock that was set back leads to more.
    """
    latest = now.wall + max(0.0, slot.boot + wait_s - now.boot)
    return latest if next_at > latest + 1.0 else None


def says(found: Gap) -> str:
    """`asleep 23:10-07:10: 16 checks missed` (with an en dash), local time."""
    if found.kind == "asleep":
        day = found.until - found.since >= 86400
        span = f"{_local(found.since, day=day)}{_DASH}{_local(found.until, day=day)}"
        return f"asleep {span}: {plural(found.missed, 'check')} missed"
    jump_s = found.until - found.since
    way = "ahead" if jump_s > 0 else "back"
    return f"the clock was set {way} by {duration(abs(jump_s))}, to {_local(found.until, day=True)}"


def _local(at: float, *, day: bool) -> str:
    here = datetime.fromtimestamp(at).astimezone()
    return here.strftime("%b %d %H:%M" if day else "%H:%M")
