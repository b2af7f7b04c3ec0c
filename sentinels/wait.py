"""When a sentinel asks again and when it leaves. Pure: no clock, no link, and no judgement of health."""

from msgspec import Struct

from fleet.model.verdict import Health, Severity, Verdict

HOLD_S = 55.0  # one connection a minute: gateways close a silent one sooner or later
GIVE_UP_AWAY_S = 600.0
_PAUSE_FIRST_S, _PAUSE_MOST_S = 2.0, 60.0
_STAY = frozenset({Health.QUEUED, Health.STARTING, Health.RUNNING, Health.SLOW})


class Leave(Struct, frozen=True):
    """The wait is over: why, in words, and with which exit code."""

    reason: str
    exit_code: int


class Turn(Struct, frozen=True):
    """Ask again: after `pause_s` seconds here, let the box hold us for `hold_s` seconds at most."""

    pause_s: float
    hold_s: float


def after(verdict: Verdict, *, left_s: float, away_s: float, away_count: int) -> Leave | Turn:
    """What follows a verdict.

    `left_s` is what is left of the whole wait; `away_s` for how long nothing could be seen, in
    `away_count` tries in a row (0: it is seen). Who sees nothing asks again, with growing pauses.
    """
    if unseen(verdict) and away_s < GIVE_UP_AWAY_S:
        pause_s = min(_PAUSE_FIRST_S * 2.0 ** max(0, away_count - 1), _PAUSE_MOST_S)
    elif verdict.health in _STAY and verdict.severity is not Severity.PAGE:
        # Before its first attempt a run has no lock to wait for: do not spin on that.
        pause_s = 1.0 if verdict.health is Health.QUEUED else 0.0
    else:
        return Leave(verdict.summary, verdict.exit_code)
    if left_s <= pause_s:
        return Leave("the wait ran out; the run goes on without us", 124)
    return Turn(pause_s, min(HOLD_S, left_s - pause_s))


def unseen(verdict: Verdict) -> bool:
    """Whether this look saw nothing and the next one may: the box is away, or was met in mid-change."""
    if verdict.health is Health.UNREACHABLE:
        return verdict.exit_code == 11
    return verdict.health is Health.UNKNOWN and verdict.severity is Severity.NOTE
