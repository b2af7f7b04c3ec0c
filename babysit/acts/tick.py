"""One tick of the patrol: every box once, side by side, and a line for every run."""

from msgspec import Struct

from babysit.acts import armed, handing
from babysit.acts.here import Here
from babysit.acts.settle import finished, hand_on, histories_of, settle, undelivered
from babysit.acts.visit import look_at_runs
from fleet import clock
from fleet.errors import BabysitError
from fleet.ledger.lock import tick_lock
from fleet.model.probe import Reachable
from fleet.model.spec import DEFAULT_TICK_LIMIT_S
from fleet.model.verdict import Verdict


class Tick(Struct, frozen=True):
    """What a tick found. `cursor` grows with every tick; `armed` says what was seen to fire lately.

    `missed` counts the slots in which cron should have fired since it last did, and did not.
    """

    at: float
    took_s: float
    verdicts: tuple[Verdict, ...]
    exit_code: int
    cursor: int
    armed: tuple[str, ...]
    errors: tuple[BabysitError, ...]
    missed: int = 0


def tick(place: Here, *, origin: str, limit_s: float = DEFAULT_TICK_LIMIT_S) -> Tick:
    """Ask, judge, commit, hand on, report. Raises Busy when another tick is at it, LedgerError."""
    began, started = clock.now(), clock.monotonic()
    with tick_lock(place.folder, at=began), place.ledger() as ledger:
        slept = armed.missed(ledger, began)
        runs = ledger.runs.all()
        before = ledger.ticks.verdicts()
        kept = tuple(before[run.run_id] for run in runs if finished(before.get(run.run_id)))
        open_runs = [run for run in runs if not finished(before.get(run.run_id))]
        probes = look_at_runs(ledger, open_runs, place.spec, histories_of(ledger), limit_s=limit_s)
        seen = [(run, probes[run.box.name]) for run in open_runs]
        settled = settle(place, ledger, seen, origin=origin, began=began, kept=kept)
        left_s = limit_s - (clock.monotonic() - started)
        reached = {name for name, probe in probes.items() if isinstance(probe, Reachable)}
        handing.rewrite(place, ledger, open_runs, settled, reached=reached, limit_s=left_s)
        hand_on(place, ledger)
        errors = (*undelivered(ledger), *((place.broken,) if place.broken else ()))
        fires = armed.triggers(ledger, clock.now())
        order = {run.run_id: number for number, run in enumerate(runs)}
        verdicts = tuple(sorted(settled.verdicts, key=lambda verdict: order[verdict.run_id]))
        took_s = clock.monotonic() - started
        return Tick(began, took_s, verdicts, settled.exit_code, settled.cursor, fires, errors, slept)
