"""Each guard is needed: with it taken out, some point of a sweep goes wrong, in the way that it is there to prevent."""

from typing import NamedTuple

import pytest
from boxside import Claiming, Starting
from mailing import Carrying, Telling
from receiver import receiver
from small_box import small_path
from sweep import kills, needs_strace
from tree import Tree
from worlds import Arming


class Guard(NamedTuple):
    """Where it stands, its text and what stands there without it."""

    file: str
    old: str
    new: str


pytestmark = pytest.mark.timeout(300)
INTENT = Guard("babysit/acts/arm.py", "    ledger.runs.put(run)\n    taken = claim(", "    taken = claim(")
ONE_COMMIT = Guard(
    "fleet/ledger/ticks.py",
    '        with self._store.transaction():\n            cursor = self._store.change(\n                "INSERT INTO tick',
    '        if True:\n            cursor = self._store.change(\n                "INSERT INTO tick',
)
LEASE = Guard("fleet/ledger/outbox.py", "                now + lease_s,\n", "                0.0,\n")
EVENT_ID = Guard(
    "fleet/notices/courier.py", "event=row.event.event_id,", 'event=f"{row.event.event_id}.{row.tries}",'
)
NO_OTHER_OWNER = ('ln -sn "$in_id" "$taken"', 'ln -sfn "$in_id" "$taken"')
WHOLE_FOLDER = ('move "$new" "$run" 2>&1', 'cp -r "$new" "$run" 2>&1')


@pytest.fixture(autouse=True)
def _strace():
    needs_strace()


@pytest.fixture
def hook():
    with receiver() as hook:
        yield hook


def goes_wrong(points, judge) -> str:
    """What the first point says at which it goes wrong; fails when no point does."""
    for tried, point in enumerate(points, 1):
        try:
            judge(point)
        except AssertionError as error:
            print(f"\nred at {point}, number {tried}: {error}")
            return str(error)
    return pytest.fail(f"all of {len(points)} points went well without the guard")


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_without_the_run_in_the_ledger_before_the_claim_a_kill_leaves_an_owner_nobody_knows(
    shared, tmp_path
):  # P8
    tree = Tree(tmp_path / "tree", *INTENT)
    world = Arming(shared, tmp_path, (tree.babysit,))
    said = goes_wrong(kills(world.counts, ("fdatasync",))[::-1], world.judge)
    assert "has the name on the box, and the ledger knows" in said


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_without_one_transaction_a_kill_loses_the_notice(shared, tmp_path, hook):  # P3 P8
    tree = Tree(tmp_path / "tree", *ONE_COMMIT)
    world = Telling(shared, tmp_path, hook, (tree.babysit,))
    said = goes_wrong(kills(world.counts, ("fdatasync",))[::-1], world.judge)
    assert "the notice is on its way: []" in said


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_without_the_lease_a_kill_sends_a_second_copy_at_once(tmp_path, hook):  # P4
    tree = Tree(tmp_path / "tree", *LEASE)
    world = Carrying(tmp_path, hook, tree.python)
    said = goes_wrong(kills(world.counts, ("pwrite64",))[::-1], world.judge)
    assert "a second copy went out" in said


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_without_a_stable_event_id_a_kill_makes_other_news_of_it(tmp_path, hook):  # P4
    tree = Tree(tmp_path / "tree", *EVENT_ID)
    world = Carrying(tmp_path, hook, tree.python)
    said = goes_wrong(kills(world.counts, ("pwrite64",))[::-1], world.judge)
    assert "bear other event ids" in said


def test_with_a_link_that_may_be_replaced_two_claimers_both_win(tmp_path):  # P1
    path = small_path(tmp_path / "bin", without=("timeout",))
    sound = Claiming(tmp_path / "sound", path)
    world = Claiming(tmp_path / "crippled", path, cripple=NO_OTHER_OWNER)
    stops = kills(sound.points()[0], ("clone", "clone3", "vfork"))
    said = goes_wrong(stops[::-1], world.race)
    assert "fresh=True" in said


def test_with_a_copy_instead_of_a_move_a_kill_leaves_half_a_run(tmp_path):  # P8
    path = small_path(tmp_path / "bin", without=("timeout",))
    world = Claiming(tmp_path, path, cripple=WHOLE_FOLDER)
    _, files = world.points()
    moved = [point for point in files if point.what == "kill" and point.paths[0].endswith("train-n1/plan")]
    said = goes_wrong(moved, world.judge)
    assert "half a run" in said


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_without_the_fence_an_arm_repeated_after_a_kill_launches_again(tmp_path):  # P1
    sound = Starting(tmp_path)
    counts, _ = sound.points()
    (tmp_path / "crippled").mkdir()
    world = Starting(tmp_path / "crippled", cripple=("fence",))
    late = kills(counts, ("clone",))[::-1]
    said = goes_wrong(late, world.judge)
    assert "launches" in said
