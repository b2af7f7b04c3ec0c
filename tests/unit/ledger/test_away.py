"""How long a box that does not answer is left alone."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ledger.away import JITTER, PAUSE_LEAST_S, PAUSE_MOST_S, Absence, pause_s
from fleet.ledger.ledger import Ledger

NOON = 1_000_000.0
HALF_AN_HOUR = 1800.0
CHANCE = st.floats(0, 1)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        yield ledger


def test_pauses_double_up_to_the_most():  # R13
    middle = [pause_s(failures, 0.5) for failures in range(1, 9)]
    assert middle[0] == PAUSE_LEAST_S
    assert all(after in (2 * before, PAUSE_MOST_S) for before, after in pairwise(middle))
    assert middle[-1] == PAUSE_MOST_S


@given(st.integers(0, 10**9), CHANCE)
def test_every_pause_is_a_fifth_around_its_middle_and_shorter_than_half_an_hour(failures, chance):  # R13
    pause, middle = pause_s(failures, chance), pause_s(failures, 0.5)
    assert middle * (1 - JITTER) <= pause <= middle * (1 + JITTER)
    assert PAUSE_LEAST_S * (1 - JITTER) <= pause < HALF_AN_HOUR - 60


@given(st.integers(1, 40), CHANCE)
def test_more_failures_never_pause_less(failures, chance):  # R13
    assert pause_s(failures + 1, chance) >= pause_s(failures, chance)


def test_failures_are_counted_in_a_row_and_forgotten_with_an_answer(ledger):  # R13
    ledger.away.answered("gpu1")
    assert ledger.away.find("gpu1") is None
    first = ledger.away.failed("gpu1", "refused", NOON, 0.5)
    second = ledger.away.failed("gpu1", "cut", NOON + 60, 0.5)
    assert first == Absence("gpu1", 1, "refused", NOON, NOON + 60)
    assert second == Absence("gpu1", 2, "cut", NOON + 60, NOON + 180)
    assert ledger.away.find("gpu1") == second
    assert ledger.away.find("gpu2") is None
    ledger.away.answered("gpu1")
    assert ledger.away.find("gpu1") is None
    assert ledger.away.failed("gpu1", "refused", NOON, 0.5).failures == 1


@pytest.mark.parametrize(
    ("now", "rests"),
    [(NOON, True), (NOON + 59.9, True), (NOON + 60, False), (NOON - 1, False)],
    ids=["at once", "before", "after", "the clock was set back"],
)
def test_a_box_rests_from_its_failure_to_the_end_of_its_pause(now, rests):
    assert Absence("gpu1", 1, "refused", NOON, NOON + 60).rests(now) is rests
