"""`babysit arm` killed or failing at its n-th system call, and repeated: one launch, one owner, nothing half."""

import pytest
from sweep import CHANCE, SEED, failures, kills, needs_strace, sample, sweep
from worlds import Arming


@pytest.fixture(scope="module")
def arming(shared, tmp_path_factory):
    needs_strace()
    return Arming(shared, tmp_path_factory.mktemp("arming"))


@pytest.mark.timeout(400)
def test_arm_hit_at_a_few_of_its_calls_and_repeated_launches_once(arming):  # P1 P2 P8
    killed, failing = kills(arming.counts), failures(arming.counts)
    points = [*sample(killed, 2, SEED), *sample(failing, 2, SEED)]
    sweep("arm", points, arming.judge, of=len(killed) + len(failing), seed=SEED)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_arm_killed_at_many_of_its_calls_launches_once(arming):  # P1 P2 P8
    every = kills(arming.counts)
    sweep("arm, killed", sample(every, 50, CHANCE), arming.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_arm_with_failing_calls_launches_once(arming):  # P1 P2 P8
    every = failures(arming.counts)
    sweep("arm, failing", sample(every, 30, CHANCE), arming.judge, of=len(every), seed=CHANCE)
