"""`babysit resume RUN --yes` killed or failing at its n-th system call, and repeated: one launch more, never two."""

import pytest
from sweep import CHANCE, SEED, failures, kills, needs_strace, sample, sweep
from worlds import Resuming


@pytest.fixture(scope="module")
def resuming(shared, tmp_path_factory):
    needs_strace()
    world = Resuming(shared, tmp_path_factory.mktemp("resuming"))
    yield world
    world.close()


@pytest.mark.timeout(400)
def test_resume_hit_at_a_few_of_its_calls_launches_once_more(resuming):  # P1 P2 P8
    killed, failing = kills(resuming.counts), failures(resuming.counts)
    points = [*sample(killed, 1, SEED), *sample(failing, 1, SEED)]
    sweep("resume", points, resuming.judge, of=len(killed) + len(failing), seed=SEED)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_resume_killed_at_many_of_its_calls_launches_once_more(resuming):  # P1 P2 P8
    every = kills(resuming.counts)
    sweep("resume, killed", sample(every, 25, CHANCE), resuming.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_resume_with_failing_calls_launches_once_more(resuming):  # P1 P2 P8
    every = failures(resuming.counts)
    sweep("resume, failing", sample(every, 25, CHANCE), resuming.judge, of=len(every), seed=CHANCE)
