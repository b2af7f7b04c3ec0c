"""What the tests of the watcher share: busy cores, trees that do not want to die, and who is left of them."""

import contextlib
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).parents[3]
TAG = "LEFT_TAG"
SEED = 7

# What ignores TERM, what has its own session, what was forked twice, both; then itself.
STUBBORN = """
sh -c 'trap "" TERM INT; touch "$0/a"; while :; do sleep 0.05; done' "$1" &
setsid sh -c 'touch "$0/b"; exec sleep 300' "$1" &
( ( sh -c 'touch "$0/c"; exec sleep 300' "$1" & ) & )
( ( setsid sh -c 'trap "" TERM; touch "$0/d"; while :; do sleep 0.05; done' "$1" & ) & )
while [ ! -e "$1/a" ] || [ ! -e "$1/b" ] || [ ! -e "$1/c" ] || [ ! -e "$1/d" ]; do sleep 0.02; done
touch "$1/ready"
while :; do sleep 0.05; done
"""


def some(rows, count):
    """Parameters of a table: `count` of its rows run in every tier, the others by `make fault` alone.

    The choice is the same in every worker and every run; the ids of what ran say which.
    """
    chosen = random.Random(SEED).sample(range(len(rows)), count)
    print(f"seed {SEED}: rows {sorted(chosen)} of {len(rows)}")
    return [row if at in chosen else seldom(row) for at, row in enumerate(rows)]


def seldom(row):
    """A row that only `make fault` runs."""
    values = row if isinstance(row, tuple) else (row,)
    return pytest.param(*values, marks=pytest.mark.fault)


def stubborn(folder):
    """The words of a tree that has to be killed; `ready` lies in the folder when all of it is there."""
    return ["sh", "-c", STUBBORN, "sh", str(folder)]


def whole_in_time(folder, run, limits=(0.5, 2, 8, 45)):
    """Calls `run(folder of its own, limit in s)` until the tree was whole before its limit, whatever the machine does.

    And until `run` does not answer False: that it was not seen as whole.
    """
    for limit in limits:
        place = folder / f"within-{limit}"
        place.mkdir()
        if run(place, limit) is not False and (place / "ready").exists():
            return place
    raise AssertionError("the tree was never whole in time")


def tagged():
    """A name for a tree: everything that inherits this environment is found by `alive`."""
    return uuid.uuid4().hex


def alive(tag):
    """Pids of the living that carry the tag."""
    wanted = f"{TAG}={tag}".encode()
    return [
        pid
        for pid in processes.pids()
        if wanted in processes.of(pid, "environ").split(b"\0") and processes.lives(pid)
    ]


@contextlib.contextmanager
def busy_cores():
    """Every core has more to do than it can."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) * 2)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def open_files():
    """How many descriptors we hold."""
    return len(list(Path("/proc/self/fd").iterdir()))


def environment(tag=None, **more):
    """Ours, with the package on its path."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    if tag is not None:
        found[TAG] = tag
    return found
