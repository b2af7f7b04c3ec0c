import json
import random
import subprocess
import sys
import threading
import time

import pytest
from small_box import KilledLink, SmallBox

from fleet.arming.place import claim
from fleet.arming.read_run import list_runs
from fleet.errors import LinkTimeout

FILES = {
    "plan": b"p" * 200,
    "nonce": b"0" * 33,
    "stages/01-a.sh": b"a" * 20_000,
    "stages/02-b.sh": b"",
    "spec.json": b"{}",
}
SEED = 20261122
pytestmark = pytest.mark.timeout(300)

# One of several hosts: claims names in as many threads as there are run ids, and prints what it was told.
HOST = """
import json, sys, threading
from fleet.arming.place import claim
from fleet.link.local import LocalLink
home, expect, *ids = sys.argv[1:]
told = {}
def one(run_id):
    link = LocalLink(env={"HOME": home, "PATH": "/usr/bin:/bin"})
    got = claim(link, state_dir=None, run_name="train", run_id=run_id, files={"plan": run_id.encode(), "stages/01-a.sh": b"x" * 5000},
        expect_owner=None if expect == "-" else expect, limit_s=200)
    told[run_id] = [got.owner, got.fresh]
threads = [threading.Thread(target=one, args=(i,)) for i in ids]
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(told))
"""


def race(box, ids, expect="-"):
    """What each of `ids` was told, claimed by two hosts at once."""
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(box.home), expect, *part],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "HOME": str(box.home), "PATH": "/usr/bin:/bin"},
        )
        for part in (ids[::2], ids[1::2])
    ]
    for host in hosts:
        host.stdin.write("go\n")
        host.stdin.flush()
    told = {}
    for host in hosts:
        out, _ = host.communicate(timeout=250)
        assert host.returncode == 0
        told |= json.loads(out)
    return told


@pytest.mark.parametrize("expect", ["-", "train-first"])
def test_of_twenty_parallel_claims_exactly_one_wins_and_all_agree(tmp_path, expect):  # P1
    box = SmallBox(tmp_path / "box")
    ids = [f"train-{number:02}" for number in range(20)]
    if expect != "-":
        assert race(box, [expect])[expect] == [expect, True]
    told = race(box, ids, expect)
    owners = {owner for owner, _ in told.values()}
    winners = [run_id for run_id, (_, fresh) in told.items() if fresh]
    assert len(told) == 20
    assert owners == set(winners)
    assert len(winners) == 1
    runs = {path.name for path in (box.state / "runs").iterdir()}
    assert runs == {winners[0]} | ({expect} - {"-"})
    assert (box.state / "runs" / winners[0] / "plan").read_text() == winners[0]
    assert str((box.state / "names/train").readlink()) == winners[0]


def take(link, run_id, expect=None):
    return claim(
        link, state_dir=None, run_name="train", run_id=run_id, files=FILES, expect_owner=expect, limit_s=90
    )


def is_whole(box, run_id):
    return all(
        (box.state / "runs" / run_id / path).read_bytes() == content for path, content in FILES.items()
    )


def usual_claim_s(box):
    began = time.monotonic()
    take(box.link(), "train-a1")
    return time.monotonic() - began


def nothing_before(_):
    pass


def killed_claims(tmp_path, count, before, victim):
    """Kill `count` claims at seeded moments, and more until half of them died at work; yields each box afterwards."""
    pick = random.Random(SEED)
    print(f"seed {SEED}")
    usual_s = min(usual_claim_s(SmallBox(tmp_path / f"trial{number}")) for number in range(2))
    cut = 0
    for number in range(4 * count):
        box = SmallBox(tmp_path / f"box{number}")
        before(box)
        link = KilledLink(box.env, pick.uniform(0.1, 1.0) * usual_s)
        with pytest.raises(LinkTimeout):
            victim(box, link)
        cut += not link.answered
        yield box
        if number + 1 >= count and cut >= count // 2:
            return
        if link.answered:
            usual_s *= 0.9  # the machine is less busy than it was
    pytest.fail(f"only {cut} of {4 * count} claims were killed before they answered")


def test_a_claim_killed_at_any_moment_leaves_no_run_or_a_whole_one(tmp_path):  # P8
    for box in killed_claims(tmp_path, 20, nothing_before, lambda _, link: take(link, "train-a1")):
        names = list_runs(box.link(), state_dir=None, where="box")
        if names:
            assert is_whole(box, "train-a1")
        if (box.state / "runs/train-a1").exists():
            assert is_whole(box, "train-a1")
        got = take(box.link(), "train-b2")  # another host arms it now
        assert got.owner == ("train-a1" if names else "train-b2")
        assert is_whole(box, got.owner)
        assert take(box.link(), "train-a1").owner == got.owner  # and the first one comes back


def test_a_superseding_claim_killed_at_any_moment_leaves_the_old_or_the_new_owner(tmp_path):  # P8
    def first(box):
        assert take(box.link(), "train-a1").fresh

    for box in killed_claims(tmp_path, 20, first, lambda _, link: take(link, "train-b2", "train-a1")):
        assert is_whole(box, "train-a1")
        got = take(box.link(), "train-c3", "train-a1")
        assert got.owner in {"train-b2", "train-c3"}
        assert got.fresh is (got.owner == "train-c3")
        assert is_whole(box, got.owner)
        assert take(box.link(), "train-d4").owner == got.owner
        assert str((box.state / "names/train").readlink()) == got.owner


def test_a_losing_claim_killed_while_it_tidies_leaves_the_winner_alone(tmp_path):
    def lose(box, link):
        # Both see a free name; the other one takes it while ours is being written.
        other = threading.Thread(target=take, args=(box.link(), "train-a1"))
        other.start()
        try:
            take(link, "train-b2")
        finally:
            other.join()

    for box in killed_claims(tmp_path, 10, nothing_before, lose):
        owner = take(box.link(), "train-c3").owner
        assert owner in {"train-a1", "train-b2"}
        assert is_whole(box, owner)
        for path in (box.state / "runs").glob("train-*"):
            assert is_whole(box, path.name)
