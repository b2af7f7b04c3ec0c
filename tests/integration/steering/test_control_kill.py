"""A program is killed, or its disk fails, at each system call it makes for its queue; a counter file is the judge."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import strace

from onbox.control import RuntimeController
from onbox.control.marks import ENDED

ROOT = Path(__file__).parents[3]
CALLS = ("write", "fsync", "rename", "link", "unlink", "openat", "ftruncate")
WORDS = ("a", "b", "c")

PROGRAM = """
import os, sys
from onbox.control import RuntimeController
queue, counter, polls, *says = sys.argv[1:]
marks = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("ready", flush=True)
sys.stdin.readline()
program = RuntimeController(queue)
program.register("count", lambda ctx, word: os.pwritev(marks, [word.encode() + b"\\n"], -1))
for _ in range(int(polls)):
    program.poll_and_apply({}, 0.0)
if says:
    print(program.faults, flush=True)
"""

pytestmark = [
    pytest.mark.skipif(bool(strace.available()), reason=strace.available() or "-"),
    pytest.mark.timeout(600),
]


class World:
    """A queue with three commands, and what the program did with them."""

    def __init__(self, folder):
        self.folder = folder
        self.queue, self.counter = folder / "queue", folder / "counter"
        self.counter.parent.mkdir(parents=True)
        self.counter.touch()
        self.ids = {RuntimeController.enqueue(self.queue, "count", [word])["id"]: word for word in WORDS}

    def words(self, polls):
        return [sys.executable, "-c", PROGRAM, str(self.queue), str(self.counter), str(polls)]

    def run_on(self):
        """The program once more, undisturbed."""
        done = subprocess.run(
            [*self.words(3), "says"],
            env=ENVIRONMENT,
            input=b"\n",
            capture_output=True,
            check=False,
            timeout=50,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n0\n", b"")

    def counted(self):
        return self.counter.read_text().split()

    def acks(self):
        """By word, the statuses that were acknowledged."""
        found = {word: [] for word in WORDS}
        for line in (self.queue / "acks.jsonl").read_bytes().splitlines():
            ack = json.loads(line)
            found[self.ids[ack["id"]]].append((ack["status"], ack.get("error")))
        return found


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def places(tmp_path):
    """Every call the program makes for its queue, as (call, which one)."""
    world = World(tmp_path / "untouched")
    counts = strace.points(world.words(3), syscalls=CALLS, env=ENVIRONMENT, ready=True)
    assert world.counted() == list(WORDS)
    found = [(call, nth) for call, count in counts for nth in range(1, count + 1)]
    assert {"write", "fsync", "rename", "link", "unlink"} <= {call for call, _ in found}, found
    return found


def failures(found):
    """A call that fails once, or from then on."""
    return [
        (*one, how)
        for one in found
        for how in (("EIO", "EROFS+") if one[0] == "openat" else ("ENOSPC", "ENOSPC+"))
    ]


def changes(found):
    """Those that change something: where most of a short sample should fall."""
    return [one for one in found if one[0] != "openat"]


def check_killed(tmp_path, call, nth):
    world = World(tmp_path / f"kill-{call}-{nth}")
    strace.run_injected(world.words(3), call, nth, "kill", env=ENVIRONMENT, ready=True)
    for _ in range(2):
        world.run_on()
    counted, acks = world.counted(), world.acks()
    for word in WORDS:
        assert counted.count(word) <= 1, (call, nth, counted)
        assert len(acks[word]) == 1, (call, nth, acks)
        status, error = acks[word][0]
        assert status == "applied" or (status, error) == ("failed", ENDED)
        assert status == "failed" or counted.count(word) == 1
    assert sum(acks[word][0][0] == "failed" for word in WORDS) <= 1
    assert sorted(path.name for path in (world.queue / "onbox").iterdir() if path.name[0] != ".") == [
        "listener.json", "lock", "place.json",
    ]  # fmt: skip


def check_failing(tmp_path, call, nth, failure):
    world = World(tmp_path / f"{failure}-{call}-{nth}")
    result = strace.run_injected(world.words(6), call, nth, failure, env=ENVIRONMENT, ready=True)
    counted = world.counted()
    assert (result.status, result.stderr) == (0, b""), (call, nth, failure, result)
    for word in WORDS:
        assert counted.count(word) <= 1, (call, nth, failure, counted)
    world.run_on()
    counted, acks = world.counted(), world.acks()
    for word in WORDS:
        assert len(acks[word]) == 1, (call, nth, failure, acks)
        status, error = acks[word][0]
        assert counted.count(word) == 1 or (status, error) == ("failed", ENDED)
        if not failure.endswith("+"):  # the same program tried it again
            assert status == "applied" and counted.count(word) == 1, (call, nth, failure, acks)


def test_killed_anywhere_nothing_is_replayed_and_nothing_lost(tmp_path):  # R154
    seed = random.randrange(1 << 32)
    found = places(tmp_path)
    some = random.Random(seed).sample(changes(found), 4)
    some.append(random.Random(seed).choice([one for one in found if one not in some]))
    print(f"seed {seed}: killed at {len(some)} of {len(found)} calls: {some}")
    for call, nth in some:
        check_killed(tmp_path, call, nth)


@pytest.mark.fault
def test_killed_everywhere(tmp_path):  # R154
    found = places(tmp_path)
    print(f"killed at all {len(found)} calls")
    for call, nth in found:
        check_killed(tmp_path, call, nth)


def test_a_call_that_fails_anywhere_raises_nothing_and_loses_nothing(tmp_path):  # R154
    seed = random.randrange(1 << 32)
    found = failures(places(tmp_path))
    some = random.Random(seed).sample(changes(found), 4)
    print(f"seed {seed}: failed at {len(some)} of {len(found)}: {some}")
    for call, nth, failure in some:
        check_failing(tmp_path, call, nth, failure)


@pytest.mark.fault
def test_a_call_that_fails_everywhere(tmp_path):
    found = failures(places(tmp_path))
    print(f"failed at all {len(found)}")
    for call, nth, failure in found:
        check_failing(tmp_path, call, nth, failure)
