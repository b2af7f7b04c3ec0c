"""Looks that are settled in another order than they were taken in: the newest facts stand."""

import time

import msgspec
import pytest
from unit.patrol.build import GONE, away, end, facts, known, probe, run

from babysit.acts.here import Here
from babysit.acts.settle import settle
from fleet.model.spec import Spec, TargetSpec

RUN = run()
TOLD = Spec(targets={"hook": TargetSpec("hook", "env:HOOK")})
FAILED = probe(facts(**GONE, end=known(end("failed", rc=3, why="exit"))))


@pytest.fixture
def place(tmp_path):
    place = Here(tmp_path / "state", TOLD)
    with place.ledger() as ledger:
        ledger.runs.put(RUN)
    return place


def settled(place, seen, *, ago_s):
    """The verdict on RUN after `seen`, which its box answered `ago_s` seconds ago."""
    at = time.time() - ago_s
    with place.ledger() as ledger:
        done = settle(place, ledger, ((RUN, msgspec.structs.replace(seen, at=at)),), origin="hand", began=at)
        return done, ledger.ticks.verdicts()[RUN.run_id]


def kinds(place):
    with place.ledger(write=False) as ledger:
        return [event.kind for event in reversed(ledger.ticks.events())]


def test_a_look_that_comes_late_takes_nothing_back_and_tells_nothing(place):  # P2 P3
    """A tick that waited for another box, while a watch of this one saw the end."""
    settled(place, FAILED, ago_s=20)
    late, kept = settled(place, probe(), ago_s=50)
    assert [verdict.row for verdict in late.verdicts] == [kept.row] == ["R-FAIL-1"]
    assert late.changed == frozenset() and late.exit_code == 20
    again, _ = settled(place, FAILED, ago_s=0)
    assert [verdict.row for verdict in again.verdicts] == ["R-FAIL-1"]
    assert kinds(place) == ["first"]


def test_an_outage_that_is_older_than_the_facts_is_none(place):
    settled(place, probe(), ago_s=20)
    _, kept = settled(place, away(), ago_s=50)
    assert kept.row == "R-RUN-1"


def test_facts_from_the_future_are_of_a_clock_that_was_set_back_and_hold_up_no_look(place):
    settled(place, probe(), ago_s=-86400)
    _, kept = settled(place, FAILED, ago_s=0)
    assert kept.row == "R-FAIL-1"
