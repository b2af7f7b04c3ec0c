"""When a sentinel asks again, and when it leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_samples import a_verdict

from fleet.model.verdict import Health, Severity
from sentinels.wait import GIVE_UP_AWAY_S, HOLD_S, Leave, Turn, after

EXITS = {
    Health.FINISHED: 0,
    Health.STOPPED: 0,
    Health.FAILED: 20,
    Health.SUPERSEDED: 21,
    Health.UNREACHABLE: 11,
    Health.UNKNOWN: 12,
}
STAY = {Health.QUEUED, Health.STARTING, Health.RUNNING, Health.SLOW}


def told(health, code=None):
    severity = Severity.QUIET if health in STAY else Severity.PAGE
    return a_verdict(
        health=health,
        severity=severity,
        exit_code=EXITS.get(health, 0 if health in STAY else 10) if code is None else code,
    )


@pytest.mark.parametrize("health", sorted(set(Health) - STAY - {Health.UNREACHABLE}))
def test_every_end_and_every_trouble_ends_the_wait_with_its_code(health):  # R10 R97
    step = after(told(health), left_s=3600, away_s=0, away_count=0)
    assert isinstance(step, Leave) and step.exit_code == told(health).exit_code and step.reason


@pytest.mark.parametrize("health", sorted(STAY))
def test_a_living_run_is_waited_for_without_spinning(health):  # R97
    step = after(told(health), left_s=3600, away_s=0, away_count=0)
    assert isinstance(step, Turn) and step.hold_s == HOLD_S
    # Before its first attempt there is no lock to wait for; then only the pause keeps us from spinning.
    assert (step.pause_s > 0) == (health is Health.QUEUED)


def test_a_run_that_never_started_is_trouble_and_not_waited_for():  # R97
    never = a_verdict(health=Health.QUEUED, severity=Severity.PAGE, exit_code=10)
    step = after(never, left_s=3600, away_s=0, away_count=0)
    assert isinstance(step, Leave) and step.exit_code == 10


@pytest.mark.parametrize(("count", "pause_s"), [(1, 2), (2, 4), (5, 32), (6, 60), (500, 60)])
def test_a_box_that_is_away_is_asked_again_with_growing_pauses(count, pause_s):
    step = after(told(Health.UNREACHABLE), left_s=3600, away_s=30, away_count=count)
    assert isinstance(step, Turn) and step.pause_s == pause_s


def test_a_look_that_met_a_change_is_repeated_and_one_that_never_sees_ends_the_wait():
    blind = a_verdict(health=Health.UNKNOWN, severity=Severity.NOTE, exit_code=12)
    again = after(blind, left_s=3600, away_s=0, away_count=1)
    assert isinstance(again, Turn) and again.pause_s > 0
    over = after(blind, left_s=3600, away_s=GIVE_UP_AWAY_S, away_count=20)
    assert isinstance(over, Leave) and over.exit_code == 12


def test_a_box_that_stays_away_ends_the_wait():  # R10 R11
    step = after(told(Health.UNREACHABLE), left_s=3600, away_s=GIVE_UP_AWAY_S, away_count=9)
    assert isinstance(step, Leave) and step.exit_code == 11


@pytest.mark.parametrize("code", [4])
def test_a_refused_key_is_not_waited_for(code):
    step = after(told(Health.UNREACHABLE, code), left_s=3600, away_s=0, away_count=1)
    assert isinstance(step, Leave) and step.exit_code == code


@given(
    st.sampled_from(sorted(Health)),
    st.floats(-10, 1e6),
    st.floats(0, 1e5),
    st.integers(0, 1000),
)
def test_a_wait_never_outlives_its_deadline(health, left_s, away_s, away_count):  # R9
    step = after(told(health), left_s=left_s, away_s=away_s, away_count=away_count)
    if isinstance(step, Turn):
        assert step.pause_s >= 0 and 0 < step.hold_s <= HOLD_S
        assert step.pause_s + step.hold_s <= left_s + 1e-6
    elif left_s <= 0:
        assert step.exit_code in {124, told(health).exit_code}
