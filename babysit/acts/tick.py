"""One tick of the patrol: every box once, side by side, and a line for every run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from babysit.acts import armed, check, handing
from babysit.acts.here import Here
from babysit.acts.loose_ends import told
from babysit.acts.pauses import left_alone
from babysit.acts.settle import finished, hand_on, histories_of, settle, undelivered
from babysit.acts.visit import look_at_runs
from fleet import clock
from fleet.errors import TICK_PRECEDENCE, BabysitError, LedgerDamaged, LedgerError
from fleet.ledger.lock import tick_lock
from fleet.model.probe import Reachable
from fleet.model.run import Run
from fleet.model.spec import DEFAULT_TICK_LIMIT_S
from fleet.model.verdict import Verdict

if TYPE_CHECKING:
    from fleet.link.answers import Answers

_LEAST_S = 10.0  # what a look gets after a repair, however long that took


class Tick(Struct, frozen=True):
    """What a tick found. `cursor` grows with every tick; `armed` says what was seen to fire lately.

    `missed` counts the slots in which cron should have fired since it last did, and did not. `kept` is
    false when the ledger could not be written: then all of it is seen anew by the next tick.
    """

    at: float
    took_s: float
    verdicts: tuple[Verdict, ...]
    exit_code: int
    cursor: int
    armed: tuple[str, ...]
    errors: tuple[BabysitError, ...]
    missed: int = 0
    kept: bool = True


def tick(place: Here, *, origin: str, every_box: bool = False, limit_s: float = DEFAULT_TICK_LIMIT_S) -> Tick:
    """Ask, judge, commit, hand on, report. A damaged ledger is moved aside first, and that is said.

    A box that failed lately is left alone for its pause, unless `every_box` is to be asked.
    Where the disk takes nothing, the report comes all the same. Raises Busy when another tick is at it,
    LedgerError when there is nothing to start from.
    """
    began, started = clock.now(), clock.monotonic()
    with tick_lock(place.folder, at=began):
        try:
            return _tick(place, origin, began, started, limit_s, every_box=every_box)
        except LedgerDamaged as damage:
            # Nobody is there at this hour, and a ledger that stays broken watches nothing until somebody is.
            news = check.mend_unasked(place, damage)
        left_s = max(_LEAST_S, limit_s - (clock.monotonic() - started))
        return _tick(place, origin, began, started, left_s, news, every_box=every_box)


def _tick(
    place: Here,
    origin: str,
    began: float,
    started: float,
    limit_s: float,
    *news: BabysitError,
    every_box: bool,
) -> Tick:
    deadline = clock.monotonic() + limit_s
    with place.ledger_to_look() as (ledger, unwritable):
        slept = armed.missed(ledger, began)
        runs = ledger.runs.all()
        before = ledger.ticks.verdicts()
        kept = tuple(before[run.run_id] for run in runs if finished(before.get(run.run_id)))
        open_runs = [run for run in runs if not finished(before.get(run.run_id))]
        alone = () if every_box else left_alone(ledger, open_runs, before, began)
        kept = (*kept, *alone)
        open_runs = [run for run in open_runs if run.run_id not in {verdict.run_id for verdict in alone}]
        answers = _answers(place, open_runs)
        probes = look_at_runs(
            ledger, open_runs, place.spec, histories_of(ledger), limit_s=limit_s, answers=answers
        )
        seen = [(run, probes[run.box.name]) for run in open_runs]
        settled = settle(place, ledger, seen, origin=origin, began=began, kept=kept, anyway=True)
        left_s = deadline - clock.monotonic()
        reached = {name for name, probe in probes.items() if isinstance(probe, Reachable)}
        failed: BabysitError | None = unwritable or settled.unkept
        if failed is None:
            try:
                handing.rewrite(
                    place, ledger, open_runs, settled, reached=reached, limit_s=left_s, answers=answers
                )
            except BabysitError as error:  # a page not written is said; it holds up no notice and no report
                failed = error
            hand_on(place, ledger)
        if answers is not None:
            answers.keep()
        ends = told(place, ledger)
        grave = [*news, *((failed,) if failed else ()), *(e for e in ends if isinstance(e, LedgerError))]
        errors = (
            *news,
            *((failed,) if failed else ()),
            *ends,
            *undelivered(ledger),
            *((place.broken,) if place.broken else ()),
        )
        fires = armed.phrases(armed.triggers(ledger, clock.now()))
        order = {run.run_id: number for number, run in enumerate(runs)}
        verdicts = tuple(sorted(settled.verdicts, key=lambda verdict: order[verdict.run_id]))
        code = min(settled.exit_code, 10 if grave else 0, key=TICK_PRECEDENCE.index)
        took_s = clock.monotonic() - started
        kept_all = settled.unkept is None
        return Tick(began, took_s, verdicts, code, settled.cursor, fires, errors, slept, kept_all)


def _answers(place: Here, runs: Sequence[Run]) -> "Answers | None":
    if not runs:
        return None
    from fleet.link.answers import Answers  # noqa: PLC0415 - nothing to ask: nothing of ssh is loaded

    return Answers(place.folder)
