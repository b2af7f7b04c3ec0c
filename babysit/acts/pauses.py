"""Boxes that a patrol leaves alone for a while, because they did not answer again and again."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from fleet.ledger.away import Absence
from fleet.ledger.ledger import Ledger
from fleet.model.run import Run
from fleet.model.verdict import Evidence, Health, Verdict
from fleet.text.say import plural


def left_alone(
    ledger: Ledger, runs: Sequence[Run], before: Mapping[str, Verdict], now: float
) -> tuple[Verdict, ...]:
    """The verdicts of the runs whose box is not asked now: as they were, and until when they stay so.

    Only a box of which every run is known to be out of reach is left alone; `now` is host time.
    """
    found: list[Verdict] = []
    for box in dict.fromkeys(run.box.name for run in runs):
        absence = ledger.away.find(box)
        if absence is None or not absence.rests(now):
            continue
        known = [before.get(run.run_id) for run in runs if run.box.name == box]
        verdicts = [verdict for verdict in known if verdict and verdict.health is Health.UNREACHABLE]
        if len(verdicts) == len(known):
            found += [_still(verdict, absence, now) for verdict in verdicts]
    return tuple(found)


def _still(verdict: Verdict, absence: Absence, now: float) -> Verdict:
    until = datetime.fromtimestamp(absence.not_before).astimezone()
    failures = f"{plural(absence.failures, 'failure')}{' in a row' if absence.failures > 1 else ''}"
    says = f"not asked again before {until:%H:%M} ({failures})"
    return replace(
        verdict,
        summary=f"{verdict.summary} · {says}",
        evidence=(*verdict.evidence, Evidence("pause", now, says)),
    )
