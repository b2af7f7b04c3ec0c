"""stop: end a run."""

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import SPEC_OPTION

_GRACE = click.IntRange(0, 3600)


@click.command()
@run_argument()
@click.option("--grace", type=_GRACE, default=30, show_default=True, help="Seconds between TERM and KILL.")
@click.option(
    "--require-checkpoint", "require", is_flag=True, help="Do not stop when saving fails (exit 10)."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@SPEC_OPTION
def stop(*, run: str, box: str | None, grace: int, require: bool, yes: bool, spec: str | None) -> int:
    """End a run: TERM, a grace, then KILL, only to processes proven to be the run's.

    Before TERM the run's `checkpoint` of babysit.toml has its time to save. Also ends what outlived a killed
    chain. The run's record says stopped; `babysit resume` goes on from it.
    """
    from babysit.acts import stop as act
    from babysit.acts.here import here_anyway, run_named
    from fleet.errors import NeedsApproval
    from fleet.text.untrusted import render_untrusted

    place = here_anyway(spec)
    with place.ledger() as ledger:
        known = run_named(ledger, run, box)
    if not yes and not speak.said_yes(f"Stop {known.run_id} on {known.box.name}?"):
        says = f"stopping {known.run_id} on {known.box.name} needs a yes; nothing was stopped"
        raise NeedsApproval(says, where=run, next=(f"babysit stop {known.box.name} {run} --yes",))
    done = act.stop(place, known, grace_s=grace, require_checkpoint=require)
    if done.stopped is None:
        speak.prose(f"{run} was never started on {known.box.name}: there is nothing to stop.")
        return 0
    saved = done.stopped.checkpoint
    if saved is not None:
        how = f"saved in {saved.took_s:.1f} s" if saved.saved else f"failed: {saved.why}; stopping anyway"
        speak.prose(f"checkpoint: {how}")
    for ended in done.stopped.ended:
        speak.line(f"ended {render_untrusted(ended)}")
    speak.prose(f"{run} on {known.box.name}: {done.verdict.summary}")
    for command in done.verdict.next:
        speak.line(f"next: {command}")
    return 0
