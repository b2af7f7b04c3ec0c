"""What is worth telling, and when again: news are compared with what is already open. Pure.

An incident is told for a named reason: it is the first, it got worse, it holds for long (pages only, after
one hour, then two, four, six), or it is over. What could not be seen is told from the second look in a
row, in whatever way it could not; while it cannot be seen, nothing else of the run is taken as over.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fleet.model.verdict import Health, Severity, Verdict

Kind = Literal["first", "worse", "repeat", "resolved"]
_AWAY_LOOKS = 2
_REPEAT_MOST = 6
_RANK = {Severity.QUIET: 0, Severity.NOTE: 1, Severity.PAGE: 2}
_AS_WANTED = frozenset({Health.FINISHED, Health.STOPPED})
_NO_CLAIM = frozenset({Health.UNREACHABLE, Health.UNKNOWN})


class Incident(Struct, frozen=True):
    """One row of the table that holds for one run. Times are host time.

    `count` is in how many looks in a row it was seen, `told` how often it was told.
    """

    run_id: str
    row: str
    attempt: int | None
    health: Health
    severity: Severity
    opened: float
    last_seen: float
    count: int = 1
    told: int = 0
    last_told: float | None = None


class Tell(Struct, frozen=True):
    """One message to send. Its `event_id` is the same however often the same news is computed."""

    event_id: str
    kind: Kind
    severity: Severity
    verdict: Verdict


def incidents(
    old: Sequence[Incident], verdicts: Iterable[Verdict], now: float, repeat_s: float
) -> tuple[tuple[Incident, ...], tuple[Tell, ...]]:
    """The incidents that are open now, and what to tell. Those of runs without a verdict stay as they are."""
    judged = {verdict.run_id: verdict for verdict in verdicts}
    kept = [incident for incident in old if incident.run_id not in judged]
    tells: list[Tell] = []
    for verdict in judged.values():
        mine = [incident for incident in old if incident.run_id == verdict.run_id]
        stay, told = _run(mine, verdict, now, repeat_s)
        kept += stay
        tells += told
    return tuple(kept), tuple(tells)


def _run(
    mine: list[Incident], verdict: Verdict, now: float, repeat_s: float
) -> tuple[list[Incident], list[Tell]]:
    same = [old for old in mine if (old.row, old.attempt) == (verdict.row, verdict.attempt)]
    others = [old for old in mine if old not in same]
    told_others = [old for old in others if old.told]
    if verdict.severity is Severity.QUIET:
        return [], [_tell(old, "resolved", old.severity, verdict) for old in told_others if _bad(old)]
    # Nothing is over because we cannot see it.
    stay = [old for old in others if old.health not in _NO_CLAIM] if verdict.health in _NO_CLAIM else []
    over = [old for old in told_others if old not in stay]
    tells = [
        _tell(old, "resolved", old.severity, verdict)
        for old in over
        if _bad(old) and old.severity is Severity.PAGE and verdict.severity is not Severity.PAGE
    ]
    now_open = (
        replace(same[0], last_seen=now, count=same[0].count + 1) if same else _opened(verdict, others, now)
    )
    kind = _due(now_open, told_others, now, repeat_s)
    if kind:
        now_open = replace(now_open, told=now_open.told + 1, last_told=now)
        tells.append(_tell(now_open, kind, verdict.severity, verdict))
    return [*stay, now_open], tells


def _opened(verdict: Verdict, others: list[Incident], now: float) -> Incident:
    """A new incident. A box that is away now so and now so is away all the while: told is told."""
    fresh = Incident(
        verdict.run_id,
        verdict.row,
        verdict.attempt,
        verdict.health,
        verdict.severity,
        opened=now,
        last_seen=now,
    )
    was = next((old for old in others if _unseen(old)), None)
    if was is None or not _unseen(fresh):
        return fresh
    if was.health is fresh.health is Health.UNREACHABLE:
        return replace(was, row=fresh.row, attempt=fresh.attempt, last_seen=now, count=was.count + 1)
    return replace(fresh, count=was.count + 1)


def _due(incident: Incident, told_others: list[Incident], now: float, repeat_s: float) -> Kind | None:
    """Why `incident` is to be told now, or None."""
    if incident.last_told is None:
        if _unseen(incident) and incident.count < _AWAY_LOOKS:
            return None
        rank = _RANK[incident.severity]
        worse = any(_bad(old) and _RANK[old.severity] <= rank for old in told_others)
        return "worse" if worse and incident.severity is Severity.PAGE else "first"
    if incident.severity is not Severity.PAGE:
        return None
    wait_s = repeat_s * min(2 ** (incident.told - 1), _REPEAT_MOST)
    since_s = now - incident.last_told
    # Told by a clock that was set back since: when that was, nobody knows any more.
    return "repeat" if since_s >= wait_s or since_s <= -repeat_s else None


def _unseen(incident: Incident) -> bool:
    """Whether this look saw nothing, and the next one may."""
    return incident.health in _NO_CLAIM and incident.severity is Severity.NOTE


def _bad(incident: Incident) -> bool:
    """What was wanted is never over: nobody is told that a run is no longer finished, or stopped."""
    return incident.health not in _AS_WANTED


def _tell(incident: Incident, kind: Kind, severity: Severity, verdict: Verdict) -> Tell:
    words = (incident.run_id, incident.row, incident.attempt or 0, f"{incident.opened:.0f}", kind)
    number = f".{incident.told}" if kind == "repeat" else ""
    return Tell(".".join(str(word) for word in words) + number, kind, severity, verdict)
