"""What was begun and not ended: the box's records answer, and silence is never an answer."""

import msgspec
import pytest
from ledger_samples import NOON, a_run

from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Intent
from fleet.ledger.unfinished import OVER_S, answer, command, granted, says
from fleet.model.probe import Attempt, End, Locks, RunFacts
from fleet.model.reading import Known, Missing

WHY = Missing("not read")
SOON, LATE, LATEST = NOON + 5, NOON + OVER_S + 5, NOON + 4 * 3600


def known(value):
    return Known(value, NOON, "test")


def facts(*, exists=True, attempt=None, end=None, chain=None):
    return RunFacts(
        exists=WHY if exists is None else known(exists),
        attempt=known(Attempt(attempt, 9, 1, "boot", NOON) if attempt else None),
        end=known(End("stopped", end, None, None, None, "stopped", NOON, NOON) if end else None),
        markers=WHY,
        locks=WHY if chain is None else known(Locks(chain, chain)),
        alive=WHY,
        log=WHY,
        artifacts=WHY,
    )


def intent(kind, text):
    return Intent(1, "train-k3f9", kind, text, NOON)


FIRST = intent("launch", "start from 0")
AGAIN = intent("launch", "start from 2:failed")
STOP = intent("stop", "stop attempt 2")
ARM = intent("arm", "arm train on gpu1")

CASES = [
    (FIRST, facts(attempt=1, chain=True), SOON, "attempt 1"),
    (FIRST, facts(attempt=None, chain=False), SOON, None),
    (FIRST, facts(attempt=None, chain=False), LATE, "nothing was started after attempt 0"),
    (FIRST, facts(attempt=None, chain=True), LATE, None),  # a chain lives: it may be about to begin
    (FIRST, facts(attempt=None, chain=None), LATE, None),  # locks not read: silence
    (AGAIN, facts(attempt=3, chain=True), SOON, "attempt 3"),
    (AGAIN, facts(attempt=2, chain=False), LATE, "nothing was started after attempt 2"),
    (AGAIN, facts(attempt=2, chain=False), SOON, None),
    (STOP, facts(attempt=2, end=2), SOON, "attempt 2 ended as stopped"),
    (STOP, facts(attempt=3, end=None, chain=True), SOON, "attempt 3 came after it"),
    (STOP, facts(attempt=2, end=1, chain=True), SOON, None),
    (STOP, facts(attempt=2, end=1, chain=True), LATE, None),  # its grace may be an hour
    (STOP, facts(attempt=2, end=1, chain=True), LATEST, "attempt 2 was not stopped"),
    (STOP, facts(attempt=2, end=None, chain=None), LATEST, None),
    (STOP, facts(attempt=2, end=None, chain=False), LATEST, None),  # vanished, not stopped: the table says so
    (ARM, facts(exists=True), SOON, "it was placed"),
    (ARM, facts(exists=False), SOON, None),
    (ARM, facts(exists=False), LATE, "it was not placed"),
    (ARM, facts(exists=None), LATE, None),
    (intent("launch", "start from somewhere"), facts(attempt=1), LATE, None),
    (intent("dance", "dance 1"), facts(attempt=1), LATE, None),
]


@pytest.mark.parametrize(("begun", "seen", "now", "expected"), CASES)
def test_the_records_answer_and_nothing_else_does(begun, seen, now, expected):  # P8
    told = answer(begun, seen, now)
    assert told == (None if expected is None else f"seen on the box: {expected}")


GRANT = intent("grant", "raise the budget from 3 to 4")


@pytest.mark.parametrize(
    ("budget", "now", "expected"),
    [(4, SOON, "seen on the box: the budget is 4"), (5, SOON, "seen on the box: the budget is 5"),
     (3, SOON, None), (3, LATE, "seen on the box: the budget is 3, it was not raised")],
)  # fmt: skip
def test_the_budget_on_the_box_answers_a_grant(budget, now, expected):  # P8
    seen = msgspec.structs.replace(facts(), budget=Known(budget, NOON, "budget"))
    assert granted(GRANT, budget, now) == answer(GRANT, seen, now) == expected
    assert answer(GRANT, facts(attempt=4), now) is None
    assert granted(intent("grant", "raise the budget"), budget, now) is None


def test_a_record_that_was_not_read_answers_nothing():
    blind = msgspec.structs.replace(facts(), exists=WHY, attempt=WHY, end=WHY)
    for begun in (FIRST, AGAIN, STOP, ARM):
        assert answer(begun, blind, LATE) is None


def test_what_is_open_is_said_with_its_age_and_the_next_command():
    now = NOON + 3 * 3600
    assert says(ARM, "train", now) == (
        "unfinished: arm train on gpu1, 3 h ago: nobody knows whether it happened"
    )
    assert says(FIRST, "train", now).startswith("unfinished: train: start from 0, 3 h ago")
    assert command(ARM, "train", "gpu1") == "babysit arm gpu1 train"
    assert command(AGAIN, "train", "gpu1") == "babysit resume gpu1 train"
    assert command(STOP, "train", "gpu1") == "babysit stop gpu1 train"
    assert command(STOP, "a b", "gpu1") == "babysit stop gpu1 'a b'"
    for text, shows in (
        ("ctl /tmp/q lr 0.5 on gpu1", "babysit ctl gpu1 /tmp/q status"),
        ("ipc set lr=1 on gpu1", "babysit ipc gpu1 list"),
    ):
        assert command(msgspec.structs.replace(ARM, kind="steer", text=text), "x", "gpu1") == shows


@pytest.mark.parametrize(
    ("hours", "again", "known_run", "left"),
    [(1, False, False, 1), (25, False, False, 0), (1, True, False, 0), (25, True, True, 1)],
)
def test_an_arming_cut_short_before_its_run_was_written_down_is_let_go(
    tmp_path, hours, again, known_run, left
):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        ledger.intents.begin("train-k3f9", "arm", "arm train on gpu1", NOON)
        if known_run:
            ledger.runs.put(a_run())
        if again:
            later = ledger.intents.begin("train-zzzz", "arm", "arm train on gpu1", NOON + 60)
            ledger.intents.done(later, "the name belongs to train-zzzz", NOON + 61)
        ledger.intents.let_go(NOON + hours * 3600)
        assert len(ledger.intents.open("train-k3f9")) == left


@pytest.mark.parametrize(
    ("disarmed", "outcome"), [(True, "disarmed"), (False, "cut short before it was disarmed")]
)
def test_a_disarming_that_was_cut_short_is_answered_by_the_ledger_itself(tmp_path, disarmed, outcome):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        run = a_run()
        ledger.runs.put(msgspec.structs.replace(run, disarmed_at=NOON) if disarmed else run)
        ledger.intents.begin(run.run_id, "disarm", "disarm train on gpu1", NOON)
        ledger.intents.let_go(SOON)
        assert len(ledger.intents.open()) == 1, "somebody may be at it"
        ledger.intents.let_go(LATE)
        assert ledger.intents.open() == ()
        assert ledger._store.rows("SELECT outcome FROM intent") == [(outcome,)]
