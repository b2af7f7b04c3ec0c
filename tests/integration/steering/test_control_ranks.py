import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from onbox.control import RuntimeController

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(300)

# One rank: its store is a file under a lock, and the loop keeps step by a barrier of its own when it is told to.
RANK = """
import fcntl, json, os, sys, time
from onbox.control import RuntimeController
from onbox.control.together import Seat
queue, store, rank, world, barrier = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])

class Shelf:
    def _with(self, change):
        with open(store + ".lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = open(store).read() if os.path.exists(store) else "{}"
            kept = json.loads(before)
            found = change(kept)
            if json.dumps(kept) != before:  # whole or not at all: this rank may be killed here
                with open(store + ".new", "w") as file:
                    file.write(json.dumps(kept))
                os.rename(store + ".new", store)
            return found

    def add(self, key, amount):
        def change(kept):
            kept[key] = str(int(kept.get(key, "0")) + amount)
            return int(kept[key])
        return self._with(change)

    def set(self, key, value):
        return self._with(lambda kept: kept.update({key: value}))

    def get(self, key):
        return self._with(lambda kept: kept[key].encode())

    def check(self, keys):
        return self._with(lambda kept: set(keys) <= set(kept))

shelf = Shelf()
seat = Seat(shelf, rank, world)
program = RuntimeController(queue, ddp=True, ranks=lambda: seat, silent_s=float(os.environ["SILENT"]))
program.register("count", lambda ctx, word: print(word, ctx, flush=True))
parent, step = os.getppid(), 0
while os.getppid() == parent:
    step += 1
    if barrier:
        shelf.add("step %d" % step, 1)
        while shelf.add("step %d" % step, 0) < world and os.getppid() == parent:
            time.sleep(0.002)
    program.poll_and_apply(step, 0.02, step)
    if step == 1:
        print("ready 0", flush=True)
    time.sleep(0.005)
"""


@contextlib.contextmanager
def job(tmp_path, world, *, barrier, silent_s):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SILENT": str(silent_s)}
    store = tmp_path / "store"
    with contextlib.ExitStack() as stack:
        ranks = []
        for rank in range(world):
            words = [sys.executable, "-c", RANK, str(tmp_path / "queue"), str(store)]
            output = stack.enter_context((tmp_path / f"rank{rank}").open("wb"))
            each = subprocess.Popen(
                [*words, str(rank), str(world), str(int(barrier))], env=environment, stdout=output
            )
            ranks.append(stack.enter_context(each))
            stack.callback(each.kill)
        yield ranks


def acked(tmp_path):
    path = tmp_path / "queue/acks.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def applied(tmp_path, rank, what="abc"):
    """Word and step of each line that this rank printed."""
    lines = (tmp_path / f"rank{rank}").read_text().splitlines()
    return [line.split() for line in lines if line.split()[0] in what]


def test_processes_that_keep_step_apply_at_the_same_one(tmp_path):  # R154
    with job(tmp_path, 3, barrier=True, silent_s=600):
        for word in "abc":
            before = len(acked(tmp_path))
            RuntimeController.enqueue(tmp_path / "queue", "count", [word])
            wait_until(
                lambda before=before: len(acked(tmp_path)) == before + 3, 100, f"{word} acknowledged by all"
            )
    found = [applied(tmp_path, rank) for rank in range(3)]
    assert [word for word, _ in found[0]] == ["a", "b", "c"] and found[0] == found[1] == found[2]
    assert [(ack["rank"], ack["status"]) for ack in acked(tmp_path)] == [
        (rank, "applied") for rank in range(3)
    ] * 3
    assert [str(ack["step"]) for ack in acked(tmp_path)] == [step for _, step in found[0] for _ in range(3)]


def test_a_rank_that_was_killed_fails_and_the_others_go_on(tmp_path):  # R154
    with job(tmp_path, 3, barrier=False, silent_s=6) as ranks:
        wait_until(lambda: all(applied(tmp_path, rank, "ready") for rank in range(3)), 100, "all ranks poll")
        RuntimeController.enqueue(tmp_path / "queue", "count", ["a"])
        wait_until(lambda: len(acked(tmp_path)) == 3, 100, "all ranks")
        ranks[2].kill()
        ranks[2].wait()
        RuntimeController.enqueue(tmp_path / "queue", "count", ["b"])
        wait_until(lambda: len(acked(tmp_path)) == 6, 100, "the dead rank given up")
        ranks[0].kill()
        ranks[0].wait()
    assert [(ack["path"], ack["rank"]) for ack in acked(tmp_path)] == [
        ("count", rank) for rank in range(3)
    ] * 2
    dead = acked(tmp_path)[5]
    assert dead["status"] == "failed" and "rank 2 said nothing for 6 s" in dead["error"]
    # A busy machine may make any rank look silent for a while; but who applied says so, and who did not, did not.
    for rank in range(3):
        said = [ack["status"] for ack in acked(tmp_path) if ack["rank"] == rank]
        words = [word for word, status in zip("ab", said, strict=True) if status == "applied"]
        assert [word for word, _ in applied(tmp_path, rank)] == words
