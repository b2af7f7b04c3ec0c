"""When the next sample is due: by an absolute schedule, an interval that adapts, and a share of one core."""

from typing import NamedTuple

SHARE = 0.01  # of one core: what sampling may take
_GROWTH = 1.25  # a sample, while nothing moves
_SAVED_S = 0.3  # processor time that may be saved up: half a minute's share, for a slow look now and then
_FIRST_S = 0.05


class Pace(NamedTuple):
    """Moments are of `time.monotonic()`; `credit_s` is processor time that sampling may still take."""

    base_s: float
    max_s: float
    interval_s: float
    due: float
    paid: float  # the moment up to which credit was given
    credit_s: float
    dropped: int


def first(base_s: float, max_s: float, now: float) -> Pace:
    """The pace of a watch that begins now."""
    return Pace(base_s, max(base_s, max_s), base_s, now + base_s, now, _FIRST_S, 0)


def following(pace: Pace, now: float, cost_s: float, *, moved: bool) -> Pace:
    """The pace after a sample that ended at `now` and took `cost_s` of processor time.

    Moments that have passed by then are dropped and counted. Who has overdrawn its share waits until it is
    paid, which is no dropped moment but a longer interval.
    """
    interval = pace.base_s if moved else min(pace.max_s, pace.interval_s * _GROWTH)
    due, dropped = pace.due + interval, pace.dropped
    if due <= now:
        missed = int((now - due) / interval) + 1
        due, dropped = due + missed * interval, dropped + missed
    credit = min(_SAVED_S, pace.credit_s + SHARE * (now - pace.paid)) - cost_s
    if credit < 0:
        due = max(due, now - credit / SHARE)
    return Pace(pace.base_s, pace.max_s, interval, due, now, credit, dropped)


def slower(pace: Pace) -> Pace:
    """The same with twice the base interval, and a maximum that is not below it."""
    base = pace.base_s * 2
    return pace._replace(base_s=base, max_s=max(base, pace.max_s))
