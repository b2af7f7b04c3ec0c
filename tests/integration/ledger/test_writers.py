"""Many processes at one ledger, and processes killed in the middle of writing: before or after, never half."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet.ledger.ledger import Ledger

pytestmark = pytest.mark.timeout(300)

TESTS = Path(__file__).parents[2]
KILLS = 25
SEED = 20261122

# FOLDER NAME COUNT [loose]: commits ticks of two events for two targets, and says so after each commit.
WRITER = f"""
import contextlib, sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from ledger_samples import a_tick, a_run, an_event, surely
from fleet.ledger.ledger import Ledger
from fleet.ledger.store import Store
from fleet.model.spec import TargetSpec
if sys.argv[4:] == ["loose"]:
    Store.transaction = lambda self: contextlib.nullcontext()
folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
targets = (TargetSpec("hook", "env:HOOK"), TargetSpec("chat", "env:CHAT"))
print("ready", flush=True)
sys.stdin.readline()
with surely(lambda: Ledger.open(folder, write=True)) as ledger:
    for number in range(count):
        surely(ledger.runs.put, a_run(f"{{name}}-{{number}}"))
        events = [an_event(f"{{name}}-{{number}}-{{part}}") for part in "ab"]
        surely(ledger.ticks.commit, a_tick(*events, targets=targets, origin=name))
        print(number, flush=True)
"""

# FOLDER: claims every row that is due and says which.
CLAIMER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from ledger_samples import surely
from fleet.ledger.ledger import Ledger
with surely(lambda: Ledger.open(Path(sys.argv[1]), write=True)) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    while row := surely(ledger.outbox.claim_due, 2e9, 60):
        print(row.event.event_id, row.target, flush=True)
"""


def _writer(folder, name, count, *more, stdin=subprocess.DEVNULL):
    words = [sys.executable, "-I", "-c", WRITER, str(folder), name, str(count), *more]
    return subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE)


def _at_once(folder, names, count):
    """Writers that all begin together, run to their end."""
    said = _together([_writer(folder, name, count, stdin=subprocess.PIPE) for name in names])
    assert [len(lines) for lines in said] == [count] * len(said)


def _together(children):
    """What each child said after all of them had got ready."""
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.flush()
    said = [child.communicate(timeout=200)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return said


def _killed(folder, name, chance, *more, early=False):
    """A writer that was killed some moment after its first commits (early: after its start); what it said."""
    writer = _writer(folder, name, 10**6, *more)
    lines = [writer.stdout.readline() for _ in range(1 if early else chance.randint(2, 4))]
    time.sleep(chance.uniform(0, 0.01 if early else 0.1))  # the moment of the kill is chance, not a wait
    os.kill(writer.pid, signal.SIGKILL)
    lines += writer.stdout.read().splitlines()
    writer.wait()
    writer.stdout.close()
    return len(lines) - 1


def _half(folder):
    """What stands in the file without all that belongs to it; the file itself must be sound."""
    connection = sqlite3.connect(folder / "ledger.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        half = connection.execute(
            "SELECT event_id FROM event LEFT JOIN outbox USING (event_id) GROUP BY 1 HAVING count(target) <> 2"
        ).fetchall()
        ticks, events = connection.execute(
            "SELECT (SELECT count(*) FROM tick), (SELECT count(*) FROM event)"
        ).fetchone()
        return half if events == 2 * ticks else [*half, f"{ticks} ticks of 2 events, but {events} events"]
    finally:
        connection.close()


def _firings(folder, name):
    with Ledger.open(folder, write=True) as ledger:
        return len(ledger.ticks.seen(name, 10**6))


def test_two_processes_at_once_lose_nothing(tmp_path):  # P8
    folder = tmp_path / "state"
    _at_once(folder, ("one", "two"), 20)
    assert _half(folder) == []
    with Ledger.open(folder, write=False) as ledger:
        origins = [row.origin for row in ledger.ticks.seen(None, 99)]
        assert (origins.count("one"), origins.count("two")) == (20, 20)
        assert len(ledger.runs.all()) == 40
        assert len(ledger.outbox.undelivered()) == 40 * 2 * 2


def test_eight_processes_that_make_the_ledger_together(tmp_path):
    folder = tmp_path / "state"
    names = [f"w{number}" for number in range(8)]
    _at_once(folder, names, 1)
    assert _half(folder) == []
    assert [_firings(folder, name) for name in names] == [1] * 8


def test_claimers_at_once_never_get_the_same_row(tmp_path):  # P4
    _at_once(tmp_path / "state", ("one",), 30)
    words = [sys.executable, "-I", "-c", CLAIMER, str(tmp_path / "state")]
    said = _together(
        [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    )
    claimed = [line for lines in said for line in lines]
    assert len(claimed) == len(set(claimed)) == 30 * 2 * 2


def test_a_writer_killed_at_any_moment_leaves_before_or_after(tmp_path):  # P3 P8 R91
    chance = random.Random(SEED)
    folder = tmp_path / "state"
    committed = unsaid = 0
    for kill in range(KILLS):
        said = _killed(folder, f"w{kill}", chance, early=kill % 5 == 0)
        firings = _firings(folder, f"w{kill}")
        assert said <= firings <= said + 1, (
            f"seed {SEED}, kill {kill}: what it said it committed is not there"
        )
        assert _half(folder) == [], f"seed {SEED}, kill {kill}"
        committed += firings
        unsaid += firings > said
    assert committed > KILLS, "the writers hardly wrote: the kills came too early to mean anything"
    print(f"seed {SEED}: {KILLS} kills, {committed} ticks kept, {unsaid} killed between commit and saying so")


def test_without_the_transaction_a_kill_leaves_half(tmp_path):  # the guard, taken away
    chance = random.Random(SEED)
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        _killed(folder, "w", chance, "loose")
        if _half(folder):
            return
    pytest.fail(f"seed {SEED}: {KILLS} kills left nothing half written, so the test above proves nothing")
