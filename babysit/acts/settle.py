"""What was seen becomes what is known: fold, decide, compare with what was told, commit, hand on.

The one path for everything that looks at a run (patrol, watch, arm, resume, stop), so that health is
decided in one place and each piece of news is told once.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from babysit.acts.here import Here
from babysit.acts.loose_ends import answered
from fleet import clock
from fleet.errors import DeliveryError, LedgerDamaged, LedgerError
from fleet.ledger.ledger import Ledger
from fleet.ledger.lock import kernel_lock
from fleet.ledger.rows import GONE, Event, OutboxRow, TickRecord
from fleet.model.probe import Probe
from fleet.model.run import Run
from fleet.model.verdict import Health, Verdict
from patrol.decide import decide, tick_exit
from patrol.history import History, fold
from patrol.incidents import Incident, Tell, incidents

_PAGE_REPEAT_S = 3600.0
_COMMIT_WAIT_S = 10.0


class Settled(Struct, frozen=True):
    """What one look led to. `changed` are run ids whose row of the table is another one than before.

    `unkept` is why none of it could be committed, None when it was; `cursor` is the last tick's then.
    """

    verdicts: tuple[Verdict, ...]
    changed: frozenset[str]
    cursor: int
    exit_code: int
    unkept: LedgerError | None = None


def histories_of(ledger: Ledger) -> dict[str, History]:
    """What is remembered of each run, by run id."""
    kept = ledger.ticks.histories()
    return {run_id: ledger.decode(content, History) for run_id, content in kept.items()}


def settle(
    place: Here,
    ledger: Ledger,
    seen: Sequence[tuple[Run, Probe]],
    *,
    origin: str,
    began: float,
    kept: Sequence[Verdict] = (),
    anyway: bool = False,
) -> Settled:
    """Judge each run by its probe and commit all of it as one; `kept` verdicts are reported as they are.

    A look that somebody overtook, who saw the run later and settled first, takes nothing back: the newer
    verdict stands. `began` is when the look began, host time. With `anyway` a disk that takes nothing is said
    in `unkept`. Raises LedgerError, or Busy after ten seconds.
    """
    lock = place.folder / "settle.lock"
    with kernel_lock(lock, what="another babysit", at=clock.now(), wait_s=_COMMIT_WAIT_S):
        now = clock.now()
        before = ledger.ticks.verdicts()
        histories = histories_of(ledger)
        late = {
            run.run_id: before[run.run_id]
            for run, probe in seen
            if run.run_id in before and _overtaken(histories.get(run.run_id), probe, now)
        }
        seen = [(run, probe) for run, probe in seen if run.run_id not in late]
        verdicts: list[Verdict] = []
        for run, probe in seen:
            folded = fold(histories.get(run.run_id, History()), run, probe, now)
            verdict = decide(run, probe, folded, now)
            histories[run.run_id] = folded
            verdicts.append(_since(verdict, before.get(run.run_id), now))
        old = ledger.decode(ledger.ticks.incidents() or b"[]", tuple[Incident, ...])
        # What was disarmed while we looked is still judged for who asked, but nobody is told any more.
        quiet = ledger.runs.disarmed()
        watched = [verdict for verdict in verdicts if verdict.run_id not in quiet]
        opened, tells = incidents(old, watched, now, _PAGE_REPEAT_S)
        every = (*verdicts, *late.values(), *kept)
        code = tick_exit(every)
        record = TickRecord(
            at=now,
            took_s=now - began,
            origin=origin,
            exit_code=code,
            verdicts=tuple(verdicts),
            histories={
                run_id: msgspec.json.encode(histories[run_id]) for run_id in (run.run_id for run, _ in seen)
            },
            incidents=msgspec.json.encode(opened),
            events=tuple(_event(tell, now) for tell in tells),
            # Called where no spec lies, or a broken one: whoever was to be told yesterday still is.
            targets=tuple(place.spec.targets.values()) if place.spec.path else None,
        )
        cursor, unkept = _committed(ledger, record, anyway=anyway)
        if unkept is None:
            with suppress(LedgerError):  # the look is kept; the next one asks again
                answered(ledger, seen, now)
    changed = frozenset(v.run_id for v in verdicts if _row(before, v.run_id) != (v.row, v.attempt))
    return Settled(every, changed, cursor, code, unkept)


def _committed(ledger: Ledger, record: TickRecord, *, anyway: bool) -> tuple[int, LedgerError | None]:
    try:
        return ledger.ticks.commit(record), None
    except LedgerDamaged:
        raise
    except LedgerError as error:
        if not anyway:
            raise
        last = next(iter(ledger.ticks.seen(limit=1)), None)
        return last.id if last else 0, error


def hand_on(place: Here, ledger: Ledger) -> None:
    """Start the courier when a notice is due. It runs on by itself: no receiver can hold us up."""
    due_at = ledger.outbox.next_due(clock.now())
    if due_at is None or due_at > clock.now():
        return
    from fleet.notices.courier import start_detached  # noqa: PLC0415 - a quiet tick needs no courier

    with suppress(DeliveryError):  # it stays due: the next look starts one
        start_detached(place.folder)


def undelivered(ledger: Ledger) -> tuple[DeliveryError, ...]:
    """What did not reach its receiver so far and was tried, as errors to show."""
    return tuple(_undelivered(row) for row in ledger.outbox.undelivered() if row.error is not None)


def _undelivered(row: OutboxRow) -> DeliveryError:
    where = row.event.run_id
    if row.gone:
        why = (row.error or "").removeprefix(GONE).removeprefix(": ")
        says = f"the receiver {row.target!r} is gone ({why}); it is asked once an hour"
        return DeliveryError(says, where=where, hint="does its URL still hold?", next=("babysit doctor",))
    says = f"notice not delivered to {row.target!r} after {row.tries} tries: {row.error}"
    return DeliveryError(says, where=where)


def finished(verdict: Verdict | None) -> bool:
    """Whether nothing can change any more, so that the box need not be asked again."""
    return verdict is not None and verdict.health in {Health.FINISHED, Health.STOPPED, Health.SUPERSEDED}


def _overtaken(history: History | None, probe: Probe, now: float) -> bool:
    """Whether newer facts than `probe` are known; those of the future are of a clock that was set back."""
    return history is not None and history.facts_at is not None and probe.at < history.facts_at <= now


def _row(before: Mapping[str, Verdict], run_id: str) -> tuple[str, int | None] | None:
    old = before.get(run_id)
    return (old.row, old.attempt) if old else None


def _since(verdict: Verdict, old: Verdict | None, now: float) -> Verdict:
    same = old is not None and (old.health, old.attempt) == (verdict.health, verdict.attempt)
    return msgspec.structs.replace(verdict, since=old.since if same and old else now)


def _event(tell: Tell, now: float) -> Event:
    from fleet.notices.message import message  # noqa: PLC0415 - most ticks have nothing to tell

    title, body = message(tell.verdict, tell.event_id, now, tell.kind)
    return Event(tell.event_id, tell.verdict.run_id, tell.kind, tell.severity, now, title, body)
