"""News on their way, with the tick or the courier killed or failing at any call: they come, and not twice."""

import signal
import sys

import pytest
from mailing import Carrying, Telling
from receiver import receiver
from sweep import CHANCE, SEED, failures, kills, needs_strace, sample, sweep

SIGNALS = ("int", "term")


@pytest.fixture(scope="module", autouse=True)
def _can_be_interrupted():
    """Who runs these tests in the background made SIGINT ignored for all our children, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def hook():
    with receiver() as hook:
        yield hook


@pytest.fixture(scope="module")
def telling(shared, tmp_path_factory, hook):
    needs_strace()
    return Telling(shared, tmp_path_factory.mktemp("telling"), hook)


@pytest.fixture(scope="module")
def carrying(tmp_path_factory, hook):
    needs_strace()
    return Carrying(tmp_path_factory.mktemp("carrying"), hook, sys.executable)


def _signals(counts):
    return [point._replace(what=what) for what in SIGNALS for point in kills(counts)]


@pytest.mark.timeout(400)
def test_a_tick_hit_at_a_few_of_its_calls_tells_it_once(telling):  # P2 P3 P4 P8
    killed, failing = kills(telling.counts), failures(telling.counts)
    points = [*sample(killed, 2, SEED), *sample(failing, 1, SEED)]
    sweep("tick", points, telling.judge, of=len(killed) + len(failing), seed=SEED)


@pytest.mark.timeout(400)
def test_a_tick_interrupted_at_a_few_of_its_calls_leaves_no_lock_and_loses_no_notice(telling):  # P3 P5 P8
    every = _signals(telling.counts)
    sweep("tick, interrupted", sample(every, 3, SEED), telling.interrupted, of=len(every), seed=SEED)


@pytest.mark.timeout(400)
def test_a_courier_hit_at_a_few_of_its_calls_carries_it_with_one_event_id(carrying):  # P3 P4 P8
    killed, failing = kills(carrying.counts), failures(carrying.counts)
    points = [*sample(killed, 4, SEED), *sample(failing, 2, SEED)]
    sweep("courier", points, carrying.judge, of=len(killed) + len(failing), seed=SEED)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_tick_killed_at_many_of_its_calls_tells_it_once(telling):  # P2 P3 P4 P8
    every = kills(telling.counts)
    sweep("tick, killed", sample(every, 60, CHANCE), telling.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_tick_with_failing_calls_tells_it_once(telling):  # P2 P3 P4 P8
    every = failures(telling.counts)
    sweep("tick, failing", sample(every, 30, CHANCE), telling.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_tick_interrupted_at_many_calls_leaves_no_lock_and_loses_no_notice(telling):  # P3 P5 P8
    every = _signals(telling.counts)
    sweep("tick, interrupted", sample(every, 30, CHANCE), telling.interrupted, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_courier_killed_at_every_call_carries_it_with_one_event_id(carrying):  # P3 P4 P8
    every = kills(carrying.counts)
    sweep("courier, killed", every, carrying.judge, of=len(every), seed=0)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_courier_with_failing_calls_carries_it_with_one_event_id(carrying):  # P3 P4 P8
    every = failures(carrying.counts)
    sweep("courier, failing", sample(every, 40, CHANCE), carrying.judge, of=len(every), seed=CHANCE)
