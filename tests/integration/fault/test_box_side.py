"""Our scripts on the box with their shell, or any tool of theirs, killed, failing or standing still at a point."""

import pytest
from boxside import SHELL_CALLS, Claiming, Putting, Starting
from small_box import small_path
from sweep import CHANCE, SEED, kills, needs_strace, sample, sweep

pytestmark = pytest.mark.timeout(300)
BEFORE = {"a free name": None, "a name that has an owner": "train-a1"}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    needs_strace()
    return small_path(tmp_path_factory.mktemp("tools") / "bin", without=("timeout",))


@pytest.fixture
def claiming(tmp_path, tools):
    return lambda before=None, **how: Claiming(tmp_path, tools, before=before, **how)


@pytest.fixture
def starting(tmp_path):
    needs_strace()
    return Starting(tmp_path)


def stops(counts):
    return [point._replace(what="stop") for point in kills(counts, SHELL_CALLS)]


def test_a_claim_hit_at_a_few_points_leaves_no_run_or_a_whole_one(claiming):  # P1 P8
    world = claiming()
    counts, files = world.points()
    every = [*kills(counts, SHELL_CALLS), *files]
    sweep("claim", sample(every, 8, SEED), world.judge, of=len(every), seed=SEED)


def test_a_claim_that_stands_still_at_a_few_points_agrees_with_the_other(claiming):  # P1
    world = claiming()
    every = stops(world.points()[0])
    sweep("claim, raced", sample(every, 6, SEED), world.race, of=len(every), seed=SEED)


@pytest.mark.parametrize("what", ["page", "tool"])
def test_a_file_put_with_a_fault_at_a_few_points_is_the_old_or_the_new_one(tmp_path, tools, what):  # P8
    world = Putting(tmp_path, tools, what)
    every = world.points()
    sweep(f"{what} put", sample(every, 5, SEED), world.judge, of=len(every), seed=SEED)


def test_a_launch_hit_at_a_few_points_launches_once(starting):  # P1 P2
    counts, files = starting.points()
    every = [*kills(counts, SHELL_CALLS), *files]
    sweep("launch", sample(every, 6, SEED), starting.judge, of=len(every), seed=SEED)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("before", BEFORE)
def test_a_claim_hit_at_many_points_leaves_no_run_or_a_whole_one(claiming, before):  # P1 P8
    world = claiming(BEFORE[before])
    counts, files = world.points()
    every = [*kills(counts, SHELL_CALLS), *files]
    sweep(f"claim of {before}", sample(every, 60, CHANCE), world.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("before", BEFORE)
def test_a_claim_that_stands_still_at_any_point_agrees_with_the_other(claiming, before):  # P1
    world = claiming(BEFORE[before])
    every = stops(world.points()[0])
    sweep(f"claim of {before}, raced", every, world.race, of=len(every), seed=0)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["page", "tool"])
def test_a_file_put_with_a_fault_at_any_point_is_the_old_or_the_new_one(tmp_path, tools, what):  # P8
    world = Putting(tmp_path, tools, what)
    every = world.points()
    sweep(f"{what} put", every, world.judge, of=len(every), seed=0)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("detach", ["setsid", "tmux"])
def test_a_launch_hit_at_many_points_launches_once(tmp_path, detach):  # P1 P2
    world = Starting(tmp_path, detach=detach)
    counts, files = world.points()
    every = [*kills(counts, SHELL_CALLS), *files] if detach == "setsid" else kills(counts, SHELL_CALLS)
    sweep(f"launch by {detach}", sample(every, 50, CHANCE), world.judge, of=len(every), seed=CHANCE)


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_chain_killed_at_any_call_of_its_shell_ends_done_and_never_twice_alive(starting):  # P1 P2 P8
    every = kills(starting.chain_points(), SHELL_CALLS)
    sweep("chain", sample(every, 80, CHANCE), starting.judge_chain, of=len(every), seed=CHANCE)
