"""One question to the loops on a box, over one short connection; what changes a loop is written down here."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from babysit.acts.controls import NO_RUN, control
from babysit.acts.here import Here, box_named, run_named
from babysit.acts.visit import opened
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.steering.answers import Part, Said, run_of, said, untyped
from fleet.steering.call import call
from fleet.steering.question import VERBS, Question
from fleet.steering.says import NOTHING

CALL_S = 20.0  # beyond its own wait: Python starts on a busy box, and the answer comes home


class Asked(Struct, frozen=True):
    """What came of one question: `said`, after `looks` for a tail.

    `runs` are those known here, by tag; `took_s` is without the way there.
    """

    said: Said
    looks: tuple[Said, ...]
    box: str
    runs: Mapping[str, Run]
    took_s: float
    shipped: bool


def ask(place: Here, box: str, question: Question, *, run: str | None = None) -> Asked:
    """The answer of the loops on `box`; with `run` only those of that run are meant.

    What reads changes nothing here. What acts is an intent before, and an event with its outcome after.
    Raises UsageError, NotFound, BoxRefused, ProbeUnreadable, LinkError.
    """
    acts = VERBS[question.verb].acts
    with place.ledger(write=acts) as ledger:
        where = box_named(place, ledger, box)
        question, where, run_id = of_run(ledger, question, run, where)
        if not acts:
            with opened(ledger, where, keep=False) as link:
                return asked(link, ledger, where, question)
        with control(ledger, run_id, question.text(box)) as under_way, opened(ledger, where) as link:
            under_way.sent()
            found = asked(link, ledger, where, question)
            under_way.done(_outcomes(found, run_id))
            return found


def asked(link: Link, ledger: Ledger, box: BoxSpec, question: Question, *, wait_s: float = 0.0) -> Asked:
    """One question over an open link; `wait_s` is what the box may take beyond the question's own wait."""
    limit_s = question.wait_s + wait_s + CALL_S
    called = call(link, question.words(), where=box.name, limit_s=limit_s, loops=box.loops)
    *looks, last = said(called, where=box.name)
    runs = {run.tag: run for run in ledger.runs.all(current=False)}
    if question.target is None:
        run = runs.get(question.tag or "")
        last = untyped(last, None if run is None else run.name)
    return Asked(last, tuple(looks), box.name, runs, called.took_s, called.shipped)


def of_run(
    ledger: Ledger, question: Question, run: str | None, box: BoxSpec
) -> tuple[Question, BoxSpec, str]:
    """The question kept to the loops of `run`, the box with their folder, that run's id. Raises NotFound."""
    if run is None:
        return question, box, NO_RUN
    known = run_named(ledger, run, box.name)
    return replace(question, tag=known.tag), replace(box, loops=known.box.loops), known.run_id


def run_id_of(place: Here, part: Part | None) -> str:
    """The id of the run that the loop belongs to, NO_RUN for a loop of none that is known here."""
    if part is None:
        return NO_RUN
    with place.ledger(write=False) as ledger:
        run = run_of(part, {run.tag: run for run in ledger.runs.all(current=False)})
    return run.run_id if run else NO_RUN


def _outcomes(found: Asked, run_id: str) -> list[tuple[str, str]]:
    """For each loop its run's id and what it said."""
    if not found.said.answers:
        error = found.said.error
        return [(run_id, error.what if error else NOTHING.get(found.said.verb, "no loop was there"))]
    runs = ((run_of(part, found.runs), part) for part in found.said.answers)
    return [
        (run.run_id if run else run_id, f"{part.label} (pid {part.pid}): {part.says}") for run, part in runs
    ]
