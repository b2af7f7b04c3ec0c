"""Take over: say what is true, what was believed and is wrong, and the one next command; do it when told."""

import contextlib
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import Struct

from babysit.acts import armed, handing
from babysit.acts.here import Here
from babysit.acts.settle import Settled, finished, hand_on, histories_of, settle
from babysit.acts.starting import CALL_S, allow, refusal, start, verified, with_code
from babysit.acts.visit import ask, boxes_of, look_at_runs, opened
from fleet import clock
from fleet.arming.code import CodeNews, compared, look_at_code
from fleet.arming.start import Launched
from fleet.errors import BabysitError
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.probe import Reachable
from fleet.model.run import Code, Run
from fleet.model.verdict import Verdict
from handbook.reconcile import CodeStanding, Truth, WaiterBelief, may_resume, reconcile
from patrol.actions import NotNow, resume_proof
from sentinels.lease import alive

_LEAST_S = 2.0  # below this one more visit is not worth beginning


class Resumed(Struct, frozen=True):
    """A resume that was asked for. `launched` None: nothing was started. `why` says it in words.

    `news` is what is to be said of the run's code, None where nobody looked.
    """

    run: Run
    verdict: Verdict
    launched: Launched | None
    why: str
    news: CodeNews | None = None


def take_stock(place: Here, only: Run | None = None, *, limit_s: float = 60.0) -> tuple[Truth, Settled]:
    """One fresh look at every run (or at one), compared with what the ledger believed.

    Where the disk takes nothing there is an answer all the same; it is kept by the next look that can.
    """
    began = clock.now()
    with place.ledger_to_look() as (ledger, unwritable):
        runs = (only,) if only else ledger.runs.all()
        before = ledger.ticks.verdicts()
        ask_for = [run for run in runs if only or not finished(before.get(run.run_id))]
        kept = tuple(before[run.run_id] for run in runs if run not in ask_for)
        probes = look_at_runs(ledger, ask_for, place.spec, histories_of(ledger), limit_s=limit_s)
        seen = [(run, probes[run.box.name]) for run in ask_for]
        settled = settle(place, ledger, seen, origin="resume", began=began, kept=kept, anyway=True)
        kept_all = unwritable is None and settled.unkept is None
        reached = {name for name, probe in probes.items() if isinstance(probe, Reachable)}
        waiters = tuple(
            WaiterBelief(
                pid=int(waiter.identity.partition(" ")[0]),
                run_id=waiter.run_id,
                started_at=waiter.at,
                alive=alive(waiter.identity),
            )
            for waiter in ledger.waiters.all()
        )
        fresh = {verdict.run_id: verdict for verdict in settled.verdicts}
        now = clock.now()
        fires = armed.phrases(armed.triggers(ledger, now))
        truth = reconcile(runs, before, fresh, waiters, fires, now)
        died = armed.dead_patrols(ledger, now)
        truth = msgspec.structs.replace(
            truth,
            believed_and_wrong=(*truth.believed_and_wrong, *(says for _, says in died)),
            code=_code_of(place, ledger, ask_for, fresh, reached, limit_s=CALL_S),
        )
        if kept_all:
            for waiter in ledger.waiters.all():
                if not alive(waiter.identity):
                    ledger.waiters.drop(waiter.id)  # said above as "believed, and wrong"; true from now on
            for patroller, _ in died:
                ledger.patrollers.drop(patroller.id)
            handing.rewrite(place, ledger, ask_for, settled, reached=reached, limit_s=CALL_S)
            hand_on(place, ledger)
        return truth, settled


def resume(place: Here, run: Run, *, grant: int = 0) -> Resumed:
    """Start the run's next attempt, if this very look proves that nothing of it lives.

    `grant` allows so many starts more than the run's budget.

    Raises StillAlive, NeedsApproval (the budget is used up), Busy, ProbeUnreadable, LinkError.
    """
    began = clock.now()
    with place.ledger() as ledger:
        box = boxes_of((run,), place.spec)[run.box.name]
        with opened(ledger, box) as link:
            seen = ask(link, box.name, (run,), histories_of(ledger))
            proof = resume_proof(run, seen)
            if isinstance(proof, NotNow):
                settled = settle(place, ledger, ((run, seen),), origin="resume", began=began)
                return Resumed(run, settled.verdicts[0], None, f"nothing was started: {proof.why}")
            now, news = _looked(link, ledger, run)
            if grant:
                allow(link, ledger, run, grant)
            launched = start(link, ledger, run, expect=proof.expect, state_dir=run.box.state_dir or "-")
            if launched.word == "started" and run.disarmed_at is not None:
                run = msgspec.structs.replace(run, disarmed_at=None)  # who starts a run wants it watched
                ledger.runs.put(run)
            run = with_code(link, ledger, run, now, launched)
            seen = verified(link, ledger, run, launched)
            settled = settle(place, ledger, ((run, seen),), origin="resume", began=began)
            handing.rewrite(place, ledger, (run,), settled, reached=set(), limit_s=CALL_S, link=link)
            hand_on(place, ledger)
    refused = refusal(launched, run)
    if refused is not None:
        raise refused
    mine = launched if launched.word == "started" else None
    says = f"started, {launched.text}" if mine else f"nothing was started: it moved on to {launched.text}"
    return Resumed(run, settled.verdicts[0], mine, says, news)


def _looked(link: Link, ledger: Ledger, run: Run) -> tuple[Code | None, CodeNews]:
    """The code that a start would run now, and what is to be said of it. What cannot be told is no error."""
    try:
        now, kept = look_at_code(link, run)
    except BabysitError as error:
        return None, CodeNews(None, (f"not looked at: {error.what}",))
    # The box knows of starts by other hosts too; the ledger only of those from here.
    known = ledger.runs.find(run.run_id)
    return now, compared(kept or (known or run).code, now)


def _code_of(
    place: Here,
    ledger: Ledger,
    runs: Sequence[Run],
    fresh: Mapping[str, Verdict],
    reached: Collection[str],
    *,
    limit_s: float,
) -> tuple[CodeStanding, ...]:
    """What is to be said of the code of each run that may be started again, one more visit a box."""
    deadline = clock.monotonic() + limit_s
    wanted = [
        run
        for run in runs
        if run.box.name in reached and (verdict := fresh.get(run.run_id)) and may_resume(verdict)
    ]
    found: list[CodeStanding] = []
    for name, box in boxes_of(wanted, place.spec).items():
        left_s = min(box.limit_s, deadline - clock.monotonic())
        if left_s < _LEAST_S:
            break
        with contextlib.suppress(BabysitError), opened(ledger, box, limit_s=left_s) as link:
            for run in wanted:
                if run.box.name == name:
                    _, news = _looked(link, ledger, run)
                    found.append(CodeStanding(run.run_id, run.name, changed=news.changed, says=news.says))
    return tuple(found)
