"""Stop watching a run and keep it: nothing on its box is touched, no record is lost."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from babysit.acts import handing
from babysit.acts.here import Here
from babysit.acts.settle import finished
from fleet import clock
from fleet.ledger.ledger import Ledger
from fleet.ledger.lock import kernel_lock
from fleet.model.run import Run
from fleet.model.verdict import TERMINAL, Verdict
from patrol.incidents import Incident
from sentinels.lease import alive

_COMMIT_WAIT_S = 10.0


class Disarmed(Struct, frozen=True):
    """One run that nothing watches any more. `verdict` is what was known last, None when nothing was.

    `waiting` are pids of watches that leave by themselves at their next turn; `already`: it was so before.
    """

    run: Run
    verdict: Verdict | None
    waiting: tuple[int, ...]
    already: bool = False


def may_live(place: Here, run: Run) -> bool:
    """Whether, as far as is known here, `run` may still be working."""
    with place.ledger(write=False) as ledger:
        verdict = ledger.ticks.verdicts().get(run.run_id)
    return run.disarmed_at is None and (verdict is None or verdict.health not in TERMINAL)


def over(place: Here) -> tuple[Run, ...]:
    """The runs on the list in which nothing can change any more: finished, stopped or superseded."""
    with place.ledger(write=False) as ledger:
        verdicts = ledger.ticks.verdicts()
        return tuple(run for run in ledger.runs.all() if finished(verdicts.get(run.run_id)))


def disarm(place: Here, runs: Sequence[Run]) -> tuple[Disarmed, ...]:
    """`runs`, off the list: their open incidents end in silence, notices that are committed still go.

    Asks no box. Raises LedgerError, or Busy when another babysit commits for ten seconds.
    """
    now = clock.now()
    wait_s = _COMMIT_WAIT_S
    with place.ledger() as ledger:
        # The lock of every commit: a tick under way settles before us, or sees that it is disarmed.
        with kernel_lock(place.folder / "settle.lock", what="another babysit", at=now, wait_s=wait_s):
            fresh = [ledger.runs.find(run.run_id) or run for run in runs]
            leaving = [run for run in fresh if run.disarmed_at is None]
            ids = {run.run_id for run in leaving}
            intents = [
                ledger.intents.begin(run.run_id, "disarm", f"disarm {run.name} on {run.box.name}", now)
                for run in leaving
            ]
            open_now = ledger.decode(ledger.ticks.incidents() or b"[]", tuple[Incident, ...])
            kept = tuple(incident for incident in open_now if incident.run_id not in ids)
            ledger.runs.disarm(
                (msgspec.structs.replace(run, disarmed_at=now) for run in leaving), msgspec.json.encode(kept)
            )
            for intent in intents:
                ledger.intents.done(intent, "disarmed", clock.now())
        if leaving:
            handing.write_index(place, ledger)
        verdicts = ledger.ticks.verdicts()
        return tuple(
            Disarmed(
                msgspec.structs.replace(run, disarmed_at=run.disarmed_at or now),
                verdicts.get(run.run_id),
                _waiting(ledger, run),
                already=run.run_id not in ids,
            )
            for run in fresh
        )


def _waiting(ledger: Ledger, run: Run) -> tuple[int, ...]:
    return tuple(
        int(waiter.identity.partition(" ")[0])
        for waiter in ledger.waiters.all(run.run_id)
        if alive(waiter.identity)
    )
