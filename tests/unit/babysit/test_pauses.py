"""Which boxes a patrol leaves alone, and what it says of their runs meanwhile."""

import pytest
from ledger_samples import NOON, a_run, a_verdict

from babysit.acts.pauses import left_alone
from fleet.ledger.ledger import Ledger
from fleet.model.verdict import Health, Severity

ONE, TWO, ELSEWHERE = a_run("one-1"), a_run("two-1"), a_run("far-1", box="gpu2")


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        for failed_at in (NOON - 60, NOON):
            ledger.away.failed("gpu1", "refused", failed_at, 0.5)
        yield ledger


def before(**health):
    return {
        f"{name}-1": a_verdict(f"{name}-1", box="gpu1", health=health[name], severity=Severity.NOTE)
        for name in health
    }


def test_the_runs_of_a_resting_box_stay_what_they_were_with_a_sentence_more(ledger):  # R13 R14
    known = before(one=Health.UNREACHABLE, two=Health.UNREACHABLE, far=Health.UNREACHABLE)
    alone = left_alone(ledger, (ONE, ELSEWHERE, TWO), known, NOON + 30)
    assert [verdict.run_id for verdict in alone] == ["one-1", "two-1"]
    was, now = known["one-1"], alone[0]
    assert now.summary.startswith(f"{was.summary} · not asked again before ")
    assert now.summary.endswith("(2 failures in a row)")
    assert now.evidence[:-1] == was.evidence
    assert (now.health, now.row, now.severity, now.exit_code, now.next, now.since, now.facts_at) == (
        was.health,
        was.row,
        was.severity,
        was.exit_code,
        was.next,
        was.since,
        was.facts_at,
    )


@pytest.mark.parametrize(
    ("known", "at"),
    [
        ({"one": Health.UNREACHABLE, "two": Health.UNREACHABLE}, NOON + 120),
        ({"one": Health.UNREACHABLE, "two": Health.UNREACHABLE}, NOON - 1),
        ({"one": Health.UNREACHABLE}, NOON + 30),
        ({"one": Health.UNREACHABLE, "two": Health.RUNNING}, NOON + 30),
        ({"one": Health.UNREACHABLE, "two": Health.UNKNOWN}, NOON + 30),
    ],
    ids=[
        "the pause is over",
        "the clock was set back",
        "a run never seen",
        "a run seen since",
        "it answered",
    ],
)
def test_the_box_is_asked_otherwise(ledger, known, at):  # R13
    assert left_alone(ledger, (ONE, TWO), before(**known), at) == ()


def test_nothing_rests_where_nothing_failed(ledger):
    ledger.away.answered("gpu1")
    assert left_alone(ledger, (ONE,), before(one=Health.UNREACHABLE), NOON + 1) == ()
