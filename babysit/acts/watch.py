"""Wait for one run's end or trouble. Always returns, with a reason and its code."""

import random
import threading
from collections.abc import Callable

from msgspec import Struct

from babysit.acts import handing
from babysit.acts.here import Here
from babysit.acts.settle import hand_on, histories_of, settle
from babysit.acts.visit import Ask, boxes_of, keep_pin, look
from fleet import clock
from fleet.ledger.ledger import Ledger
from fleet.model.probe import Reachable
from fleet.model.run import Run
from fleet.model.verdict import Verdict
from sentinels import lease
from sentinels.wait import HOLD_S, Leave, after, unseen


class Watched(Struct, frozen=True):
    """Why the wait is over. `verdict` is the newest one, None when there was no time for a single look."""

    reason: str
    exit_code: int
    verdict: Verdict | None


def watch(
    place: Here,
    run: Run,
    *,
    for_s: float,
    supersede: bool = False,
    tell: Callable[[Verdict], None] = lambda _verdict: None,
) -> Watched:
    """Wait on the box itself, in holds of 55 s, for at most `for_s` seconds.

    `tell` gets each verdict that differs from the one before and does not end the wait. Raises
    Busy (somebody waits already), LedgerError.
    """
    with place.ledger() as ledger:
        if run.disarmed_at is not None:
            return _disarmed(run)
        now = clock.now()
        mine = lease.line_up(ledger, run, deadline=now + for_s, now=now, supersede=supersede)
        try:
            return _waited(place, ledger, run, mine, for_s=for_s, tell=tell)
        finally:
            ledger.waiters.drop(mine)


def _waited(
    place: Here, ledger: Ledger, run: Run, mine: int, *, for_s: float, tell: Callable[[Verdict], None]
) -> Watched:
    """Look, hold on, look again, until it is time to leave."""
    began = clock.since_boot()
    chance = random.Random()  # noqa: S311 - spreads connections, hides nothing
    away_since: float | None = None
    away_count = 0
    said: str | None = None
    hold_s = min(HOLD_S, for_s)
    while True:
        verdict = _looked(place, ledger, run, mine, hold_s)
        if isinstance(verdict, Watched):
            return verdict
        if unseen(verdict):
            away_count += 1
            away_since = clock.since_boot() if away_since is None else away_since
        else:
            away_count, away_since = 0, None
        away_s = 0.0 if away_since is None else clock.since_boot() - away_since
        left_s = for_s - (clock.since_boot() - began)
        step = after(verdict, left_s=left_s, away_s=away_s, away_count=away_count)
        if isinstance(step, Leave):
            return Watched(step.reason, step.exit_code, verdict)
        if verdict.row != said:
            said = verdict.row
            tell(verdict)
        # Those who lost the same box at the same moment do not come back at the same moment.
        threading.Event().wait(step.pause_s * chance.uniform(0.7, 1.0))
        hold_s = step.hold_s


def _looked(place: Here, ledger: Ledger, run: Run, mine: int, hold_s: float) -> Verdict | Watched:
    """How the run is after a hold of `hold_s` on its box, kept and handed on; or why we wait no more."""
    looked_at = clock.now()
    spec = boxes_of((run,), place.spec)[run.box.name]
    wanted = Ask(spec, (run,), histories_of(ledger), ledger.pins.find(run.box.name))
    found = look(wanted, wait=(run.run_id, round(hold_s)))
    left = _no_longer(ledger, run, mine)
    if left is not None:
        return left
    if found.accepted is not None:
        keep_pin(ledger, run.box.name, found.accepted)
    settled = settle(place, ledger, ((run, found.probe),), origin="watch", began=looked_at)
    reached = {run.box.name} if isinstance(found.probe, Reachable) else set()
    if reached:
        ledger.away.answered(run.box.name)
    handing.rewrite(place, ledger, (run,), settled, reached=reached, limit_s=spec.limit_s)
    hand_on(place, ledger)
    return settled.verdicts[0]


def _no_longer(ledger: Ledger, run: Run, mine: int) -> Watched | None:
    """Why this wait is no longer wanted, whatever was seen; None: it is."""
    now = ledger.runs.find(run.run_id)
    if now is not None and now.disarmed_at is not None:
        return _disarmed(now)
    if not lease.ours(ledger, run.run_id, mine):
        return Watched("a newer watch took over", 21, None)
    if now is not None and now.superseded_by is not None:
        return Watched(f"{now.superseded_by} took this run's place", 21, None)
    return None


def _disarmed(run: Run) -> Watched:
    again = f"babysit arm {run.box.name} {run.name}"
    return Watched(f"it was disarmed, so nothing waits for it any more (watch it again: {again})", 21, None)
