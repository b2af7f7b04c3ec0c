"""arm: start a job on a box so that it finishes by itself."""

from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION

if TYPE_CHECKING:
    from babysit.acts.here import Here
    from fleet.model.spec import BoxSpec, RunSpec

_NAMES = 2  # box and run come before the command


class _AfterDashes(click.Command):
    """Takes the job's command after --, and shows that place when an option of the job's stands before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in typed or len(typed) <= _NAMES or any(word[:1] == "-" for word in typed[: _NAMES + 1]):
                raise
            from fleet.errors import UsageError
            from fleet.text.quote import sh

            words = [sh(word) for word in typed]
            raise UsageError(
                f"no such option {error.option_name}: the job's command goes after --",
                where="arm",
                next=(" ".join(["babysit arm", *words[:_NAMES], "--", *words[_NAMES:]]),),
            ) from None


@click.command(cls=_AfterDashes)
@click.argument("box")
@click.argument("run")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--again", is_flag=True, help="Make a new run under this name; it supersedes the old one.")
@click.option("--dry-run", is_flag=True, help="Look at the box, print what would be placed; write nothing.")
@JSON_OPTION
@SPEC_OPTION
def arm(
    *,
    box: str,
    run: str,
    command: tuple[str, ...],
    again: bool,
    dry_run: bool,
    as_json: bool,
    spec: str | None,
) -> int:
    """Start a job on a box so that it finishes by itself.

    BOX is a box of babysit.toml or an alias of your ssh_config; RUN is a run of babysit.toml, or any name
    with a command after --. Safe to repeat at every moment: what runs already is not started again, what has
    finished says its result, and another command under the same name is refused without --again. A run that
    was armed from here needs no command to be armed again.

    \b
      babysit arm gpu1 train
      babysit arm gpu1 train -- python train.py --epochs 90
      babysit arm gpu1 train -- 'cd ~/proj && python train.py | tee out.txt'
    """  # noqa: D301 - click wants the very character
    from babysit.acts import arm as act
    from babysit.acts.armed import patrols, phrases
    from babysit.acts.here import box_named, here, job_named
    from babysit.verbs.screens import armed_document, armed_lines, step_line
    from fleet import clock

    place = here(spec)
    with place.ledger(write=not dry_run) as ledger:
        box_spec = box_named(place, ledger, box)
        armed = None if command or run in place.spec.runs else ledger.runs.find(run, box)
    job = armed.spec if armed else job_named(place, run, box, command)
    if dry_run:
        return _rehearse(place, box_spec, job, again=again, as_json=as_json)

    def step(name: str, facts: object) -> None:
        for line in step_line(box_spec, name, facts):
            speak.note(line)

    done = act.arm(place, box_spec, job, again=again, step=step)
    if as_json:
        speak.document(armed_document(done))
        return done.verdict.exit_code
    with place.ledger(write=False) as ledger:
        fires = phrases(patrols(ledger, clock.now()))
    for line in armed_lines(done, fires):
        speak.line(line)
    return done.verdict.exit_code


def _rehearse(place: "Here", box: "BoxSpec", job: "RunSpec", *, again: bool, as_json: bool) -> int:
    from babysit.acts.rehearse import rehearse
    from babysit.verbs.screens import rehearsed_document, rehearsed_lines

    found = rehearse(place, box, job, again=again)
    if as_json:
        speak.document(rehearsed_document(found))
    else:
        for line in rehearsed_lines(found):
            speak.line(line)
    return 0
