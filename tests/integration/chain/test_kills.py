"""A chain killed by -9 at random moments and started again until it ends."""

import random
import subprocess

import pytest
from integration.chain.rig import BOUND_S, result

pytestmark = pytest.mark.timeout(300)
STAGES = 5


def kill_and_start_again(make_run, kills, seed):
    rng = random.Random(seed)
    killed = starts = runs = orphaned = 0
    while killed < kills:
        body = (
            "work {name}; v=$(cat $W/out.{before} 2>/dev/null || echo 1); sleep 0.05; "
            "echo $((v * 2 + 1)) >$W/next; mv $W/next $W/out.{index}; over"
        )
        run = make_run(
            budget=1000,
            **{f"s{i}": body.format(name=f"0{i}-s{i}", before=i - 1, index=i) for i in range(1, STAGES + 1)},
        )
        runs += 1
        while True:
            had, done = run.stamped(), len(run.launches())
            process = run.start()
            starts += 1
            try:
                code, said = result(process, rng.uniform(0, 0.5) if killed < kills else BOUND_S)
            except subprocess.TimeoutExpired:
                run.crash_chain(process)
                killed += 1
                code, said = None, ""
                orphaned += run.verdict() == "orphaned"
            again = set(run.launches()[done:]) & had
            assert not again, f"seed {seed}: stamped stages ran again: {again}"
            if code == 0:
                break
            assert code in (None, 10, 75), f"seed {seed}: {code} {said}\n{run.log()}"
            waited = subprocess.run(["flock", "-s", "-w", "60", run.dir / "stage.lock", "true"], check=False)
            assert waited.returncode == 0, f"seed {seed}: the orphan stage never ended"
        assert (run.work / f"out.{STAGES}").read_text().strip() == "63", f"seed {seed}: a wrong result"
        assert run.record("end")["state"] == "done"
        assert run.stamped() == {f"0{i}-s{i}" for i in range(1, STAGES + 1)}
        assert not run.collisions(), f"seed {seed}: two alive: {run.collisions()}"
        run.end()
    print(
        f"seed {seed}: {killed} kills ({orphaned} left a living stage), {starts} starts, {runs} runs finished "
        "with the right result, no stamped stage ran twice, never two alive"
    )


def test_killed_at_50_random_moments(make_run):  # P1
    kill_and_start_again(make_run, 50, random.SystemRandom().randrange(10**6))


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_killed_at_500_random_moments(make_run):  # P1
    kill_and_start_again(make_run, 500, random.SystemRandom().randrange(10**6))
