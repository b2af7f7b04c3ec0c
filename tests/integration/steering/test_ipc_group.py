"""`continue` and `break` for ranks of one group: all leave at one iteration, or none does."""

import os
import signal
import sys
from pathlib import Path

import pytest
from asking import Asker
from loops import stopped
from waiting import wait_until

RANK = """
import random, time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="rank-{rank}", group="g", rank={rank}, world={world}):
    if step.index == 0:
        print("begun", flush=True)
    time.sleep(random.random() * 0.004)
print("left", step.index, flush=True)
"""
WORLD = 3
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def ipc(tmp_path, monkeypatch, capsys):
    return Asker(tmp_path / "program-0" / "ipc", monkeypatch, capsys)


@pytest.fixture
def ranks(program, ipc):
    found = [
        program(RANK.format(rank=rank, world=WORLD), ipc=ipc.folder, python=sys.executable)
        for rank in range(WORLD)
    ]
    yield [one.begun() for one in found]
    assert ipc.fifos() == []


def iterations(ranks):
    return [rank.ends()[1]["state"]["iteration"] for rank in ranks]


def all_told(ranks, ipc, *words):
    """The document of the command that all ranks followed. One of them that is held up for long keeps all of them,
    as is right: then it is said once more."""
    said = []

    def followed():
        assert all(rank.process.poll() is None for rank in ranks), said
        said.append(ipc.json(*words, "--wait", "60"))
        return said[-1]["exit_code"] == 0

    wait_until(followed, 150, "one iteration for all ranks")
    return said[-1]


def test_all_ranks_leave_at_one_iteration(ranks, ipc):  # R153
    said = all_told(ranks, ipc, "continue", "rank-*")
    assert [rank.end() for rank in ranks] == [0] * WORLD
    assert len({rank.out() for rank in ranks}) == 1 and len(set(iterations(ranks))) == 1
    left = iterations(ranks)[0]
    assert {one["says"] for one in said["answers"]} == {
        f"left after iteration {left} with all of its group; the program goes on"
    }


def test_all_ranks_break_at_one_iteration(ranks, ipc):  # R153
    old = ipc.folder / "onbox/votes" / ("a" * 16)
    old.parent.mkdir(mode=0o700, exist_ok=True)
    old.write_text("go")
    os.utime(old, (1, 1))
    said = all_told(ranks, ipc, "break", os.getpid())["answers"]
    assert [one["exit_code"] for one in said] == [0] * WORLD and not old.exists()
    for one in said:
        assert Path(one["reply"]["saved"]).is_file() and one["reply"]["saved"] in one["says"]
    assert [rank.end() for rank in ranks] == [88] * WORLD and len(set(iterations(ranks))) == 1


def test_a_part_is_refused_with_the_command_for_all_and_done_when_insisted(ranks, ipc):
    code, _, err = ipc("continue", ranks[1].pid)
    assert code == 22 and f"ipc continue {os.getpid()} (or --alone)" in err.replace("\n         ", " ")
    assert all(rank.process.poll() is None for rank in ranks)
    assert ipc("continue", ranks[1].pid, "--alone")[0] == 0
    assert ranks[1].end() == 0 and ranks[0].process.poll() is None


def test_one_that_does_not_answer_keeps_all(ranks, ipc):  # R153
    stopped(ranks[2].pid)

    def kept():  # by that one alone: on a busy machine another may be late as well
        said = ipc.json("continue", "all", "--wait", "1")
        assert said["exit_code"] == 124 and {one["exit_code"] for one in said["answers"]} == {124}
        return sum("nobody leaves" in one["says"] for one in said["answers"]) == WORLD - 1

    wait_until(kept, 60, "the two others stay for its sake")
    os.kill(ranks[2].pid, signal.SIGCONT)
    wait_until(lambda: ipc("peek", ranks[2].pid)[0] == 0, 60, "it answers again")
    all_told(ranks, ipc, "continue", "all")
    assert [rank.end() for rank in ranks] == [0] * WORLD and len(set(iterations(ranks))) == 1


def test_a_rank_that_died_leaves_a_part(ranks, ipc):
    ranks[0].process.kill()
    ranks[0].end()
    code, _, err = ipc("continue", "all")
    assert code == 22 and f"one of {WORLD} ranks, and {WORLD - 1} run here" in err.replace("\n         ", " ")
