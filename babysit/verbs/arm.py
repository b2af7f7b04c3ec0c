"""arm: start a job on a box so that it finishes by itself."""

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("box")
@click.argument("run")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--again", is_flag=True, help="Make a new run under this name; it supersedes the old one.")
@JSON_OPTION
@SPEC_OPTION
def arm(*, box: str, run: str, command: tuple[str, ...], again: bool, as_json: bool, spec: str | None) -> int:
    """Start a job on a box so that it finishes by itself.

    BOX is a box of babysit.toml or an alias of your ssh_config; RUN is a run of babysit.toml, or any name
    with a command after --. Safe to repeat at every moment: what runs already is not started again.

    \b
      babysit arm gpu1 train
      babysit arm gpu1 train -- python train.py --epochs 90
      babysit arm gpu1 train -- 'cd ~/proj && python train.py | tee out.txt'
    """  # noqa: D301 - click wants the very character
    from babysit.acts import arm as act
    from babysit.acts.here import box_named, here, job_named
    from babysit.verbs.screens import armed_document, armed_lines, step_line

    place = here(spec)
    with place.ledger() as ledger:
        box_spec = box_named(place, ledger, box)
    job = job_named(place, run, box, command)

    def step(name: str, facts: object) -> None:
        for line in step_line(box_spec, name, facts):
            speak.note(line)

    done = act.arm(place, box_spec, job, again=again, step=step)
    if as_json:
        speak.document(armed_document(done))
    else:
        for line in armed_lines(done):
            speak.line(line)
    return done.verdict.exit_code
