"""disarm: stop watching a run, and keep it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION
from fleet import clock
from fleet.errors import NeedsApproval, UsageError

if TYPE_CHECKING:
    from babysit.acts.disarm import Disarmed


@click.command()
@run_argument(required=False)
@click.option("--finished", is_flag=True, help="All runs that are finished, stopped or superseded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON_OPTION
@SPEC_OPTION
def disarm(
    *, run: str | None, box: str | None, finished: bool, yes: bool, as_json: bool, spec: str | None
) -> int:
    """Stop watching a run, and keep it: nothing on its box is touched.

    A job that runs goes on and ends by itself; nobody is told. Its records stay, and every command still
    knows its name; `babysit status --all` lists it, `babysit arm BOX RUN` watches it again.
    """
    from babysit.acts import disarm as act
    from babysit.acts.here import here_anyway, run_named

    place = here_anyway(spec)
    if (run is None) != finished:
        commands = ("babysit disarm RUN", "babysit disarm --finished")
        raise UsageError("give a run, or --finished, and not both", next=commands)
    if run is None:
        runs = act.over(place)
    else:
        with place.ledger() as ledger:
            known = run_named(ledger, run, box)
        runs = (known,)
        question = f"Stop watching {known.run_id} on {known.box.name}?"
        if not yes and act.may_live(place, known) and not speak.said_yes(question):
            says = f"{known.run_id} on {known.box.name} may still run; to leave it unwatched needs a yes"
            raise NeedsApproval(says, where=run, next=(f"babysit disarm {known.box.name} {run} --yes",))
    done = act.disarm(place, runs)
    if as_json:
        speak.document(_document(done))
        return 0
    if not done:
        speak.prose("No run on the list is finished, stopped or superseded: nothing was disarmed.")
    for one in done:
        for line in _said(one):
            speak.prose(line)
    return 0


def _said(one: "Disarmed") -> Iterator[str]:
    from fleet.model.verdict import TERMINAL, Health
    from fleet.text.say import ago, plural

    run, verdict = one.run, one.verdict
    if one.already:
        yield f"{run.run_id} on {run.box.name} was disarmed {ago(clock.now() - (run.disarmed_at or 0))}."
    else:
        yield f"{run.run_id} on {run.box.name} is disarmed: nothing watches it any more."
    if verdict is None:
        yield "It was never looked at; what it does on the box, it goes on doing. Its records stay."
    else:
        when = "" if verdict.facts_at is None else f" {ago(clock.now() - verdict.facts_at)}"
        goes_on = "" if verdict.health in TERMINAL else "; on the box it goes on"
        if verdict.health in (Health.UNREACHABLE, Health.UNKNOWN):
            goes_on = "; what it does on the box, it goes on doing"
        yield f"Last known{when}: {verdict.health.value}{goes_on}. Its records stay."
    if one.waiting:
        pids = ", ".join(map(str, one.waiting))
        yield f"{plural(len(one.waiting), 'watch')} (pid {pids}) will leave within a minute."
    yield "To watch it again, and start nothing twice:"
    yield f"next: babysit arm {run.box.name} {run.name}"


def _document(done: "tuple[Disarmed, ...]") -> dict[str, Any]:
    from patrol.report import iso

    return {
        "schema": "babysit.disarm/1",
        "ok": True,
        "exit_code": 0,
        "runs": [
            {
                "run": one.run.name,
                "id": one.run.run_id,
                "box": one.run.box.name,
                "disarmed_at": iso(one.run.disarmed_at),
                "already": one.already,
                "health": one.verdict.health.value if one.verdict else None,
                "facts_at": iso(one.verdict.facts_at) if one.verdict else None,
                "waiting": list(one.waiting),
                "next": [f"babysit arm {one.run.box.name} {one.run.name}"],
            }
            for one in done
        ],
    }
