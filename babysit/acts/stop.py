"""End a run: what is proven to be its own gets TERM, a grace, then KILL; the record says stopped."""

import contextlib

from msgspec import Struct

from babysit.acts import handing
from babysit.acts.here import Here
from babysit.acts.settle import hand_on, histories_of, settle
from babysit.acts.starting import CALL_S
from babysit.acts.visit import ask, boxes_of, opened
from fleet import clock
from fleet.arming.chain import CHECKPOINT_FILE, checkpoint_file
from fleet.arming.place import put_file
from fleet.arming.start import Stopped
from fleet.arming.start import stop as stop_on_box
from fleet.errors import BoxRefused, CheckpointFailed, ProbeUnreadable, StillAlive, UsageError
from fleet.link.base import Link
from fleet.model.probe import Reachable
from fleet.model.reading import Known
from fleet.model.run import Run
from fleet.model.verdict import Verdict

DEFAULT_GRACE_S = 30
_SETTLE_S = 10.0  # beyond its limit: how long it takes to see that its time ran out


class Ended(Struct, frozen=True):
    """What stopping led to. `stopped` None: there was nothing to stop."""

    run: Run
    verdict: Verdict
    stopped: Stopped | None


def stop(place: Here, run: Run, *, grace_s: int = DEFAULT_GRACE_S, require_checkpoint: bool = False) -> Ended:
    """End the attempt that a fresh probe shows, after the run's checkpoint where its spec names one.

    Raises StillAlive, ProbeUnreadable, LinkError; with `require_checkpoint` also UsageError when the run
    names none, and CheckpointFailed when it failed and the run was left alone.
    """
    if require_checkpoint and run.spec.checkpoint is None:
        hint = f'in babysit.toml, under [run.{run.name}]: checkpoint = "COMMAND"; then arm it once more'
        raise UsageError(f"run {run.name!r} names no checkpoint", where=run.name, hint=hint)
    began = clock.now()
    with place.ledger() as ledger:
        box = boxes_of((run,), place.spec)[run.box.name]
        with opened(ledger, box) as link:
            seen = ask(link, box.name, (run,), histories_of(ledger))
            number = _attempt(seen, run)
            if number is None:
                settled = settle(place, ledger, ((run, seen),), origin="stop", began=began)
                return Ended(run, settled.verdicts[0], None)
            intent = ledger.intents.begin(run.run_id, "stop", f"stop attempt {number}", clock.now())
            _renew_checkpoint(link, run)
            saving_s = run.spec.checkpoint_limit_s + _SETTLE_S if run.spec.checkpoint else 0
            stopped = stop_on_box(
                link,
                state_dir=run.box.state_dir or "-",
                run_id=run.run_id,
                attempt=number,
                grace_s=grace_s,
                limit_s=grace_s + 2 * CALL_S + saving_s,
                spec=run.spec,
                require_checkpoint=require_checkpoint,
            )
            ledger.intents.done(intent, f"{stopped.word}: {stopped.text}", clock.now())
            seen = ask(link, box.name, (run,), histories_of(ledger))
            settled = settle(place, ledger, ((run, seen),), origin="stop", began=began)
            handing.rewrite(place, ledger, (run,), settled, reached=set(), limit_s=CALL_S, link=link)
            hand_on(place, ledger)
    if stopped.word == "kept":
        raise CheckpointFailed(
            f"{run.name} was not stopped: its checkpoint failed ({stopped.text})",
            where=run.name,
            next=(f"babysit logs {run.box.name} {run.name}", f"babysit stop {run.box.name} {run.name}"),
        )
    if stopped.word == "alive":
        raise StillAlive(
            f"not all of {run.name} could be ended: {stopped.text}",
            where=run.name,
            next=(f"babysit stop {run.box.name} {run.name}",),
        )
    if stopped.word == "unknown":
        raise ProbeUnreadable(
            f"the box could not say what of {run.name} lives: {stopped.text}",
            where=box.name,
            next=("babysit patrol --once",),
        )
    return Ended(run, settled.verdicts[0], stopped)


def _renew_checkpoint(link: Link, run: Run) -> None:
    """Bring the box's checkpoint command up to what the spec says today. A full disk must hinder no stop."""
    content = checkpoint_file(run.spec)
    if content is not None:
        with contextlib.suppress(BoxRefused):
            put_file(
                link, state_dir=run.box.state_dir, run_id=run.run_id, name=CHECKPOINT_FILE, content=content
            )


def _attempt(seen: object, run: Run) -> int | None:
    """The attempt to stop; None when there never was one. Raises ProbeUnreadable when that is not known."""
    if not isinstance(seen, Reachable):
        says = getattr(seen, "says", "the box did not answer")
        raise ProbeUnreadable(
            f"nothing was stopped: {says}",
            where=run.box.name,
            next=(f"babysit stop {run.box.name} {run.name}",),
        )
    facts = seen.runs[run.run_id]
    if not isinstance(facts.attempt, Known):
        raise ProbeUnreadable(
            f"nothing was stopped: the attempt record is not readable ({facts.attempt.why})", where=run.name
        )
    return None if facts.attempt.value is None else facts.attempt.value.number
