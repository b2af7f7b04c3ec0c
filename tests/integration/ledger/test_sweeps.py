"""Killed, or failing, at every single system call that changes a file: before or after, never half, never unreadable.

Each sweep runs one small real program again and again, each time on a fresh copy of the same ledger, and ends
or fails it at another call. What is left is opened by a fresh process (this one) and compared with what was there
before and with what the untouched program leaves.
"""

import os
import random
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import strace
from ledger_samples import HOOK, NOON, a_run, a_tick, a_verdict, an_event

from fleet.errors import LedgerError
from fleet.ledger import backup, schema
from fleet.ledger.ledger import Ledger
from fleet.ledger.repair import repair
from fleet.ledger.store import kept_copies
from fleet.ledger.upkeep import HISTORY_S
from fleet.model.spec import TargetSpec

TESTS = Path(__file__).parents[2]
DATA = TESTS / "data"
SEED = 20261122
SAMPLE = 5  # points of each sweep in the normal tier
LATER = NOON + HISTORY_S + 86400
TWO = (HOOK, TargetSpec("chat", "env:CHAT"))

SYSCALLS = (*strace.WRITES, "mkdir", "link", "openat")
FAULTS = ("kill", "ENOSPC", "ENOSPC+", "EIO", "EINTR")

# FOLDER: one thing that a babysit does with its ledger, begun after start-up.
CHILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
import msgspec, shutil, sqlite3
from ledger_samples import HOOK, NOON, a_run, a_tick, a_verdict, an_event
from fleet.ledger import backup, rebuild, repair, schema
from fleet.ledger.ledger import Ledger
from fleet.model.spec import TargetSpec
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""
DOES = {
    "commit": """
with Ledger.open(folder, write=True) as ledger:
    events = [an_event("ev-new-1", at=NOON + 60), an_event("ev-new-2", at=NOON + 60)]
    targets = (HOOK, TargetSpec("chat", "env:CHAT"))
    ledger.ticks.commit(a_tick(*events, targets=targets, at=NOON + 60))
""",
    "migrate": "Ledger.open(folder, write=True).close()",
    "backup": f"""
with Ledger.open(folder, write=True) as ledger:
    backup.back_up(folder, ledger, {NOON + 86400})
""",
    "prune": f"""
with Ledger.open(folder, write=True) as ledger:
    ledger.upkeep.prune({LATER})
""",
    "repair": f"repair.repair(folder, at={NOON}, more={{}})",
}


class World(NamedTuple):
    """What a ledger holds, as far as a reader can tell: rows by table, and how many whole backups there are."""

    tables: dict[str, tuple[tuple[object, ...], ...]]
    backups: int


def _template(folder: Path, name: str) -> None:
    """The ledger that each run of the sweep `name` begins with."""
    if name == "migrate":
        folder.mkdir(mode=0o700)
        connection = sqlite3.connect(folder / "ledger.db")
        connection.executescript((DATA / "ledger-v1.sql").read_text())
        connection.close()
        (folder / "ledger.db").chmod(0o600)
        return
    with Ledger.open(folder, write=True) as ledger:
        for number in range(8):
            ledger.runs.put(a_run(f"train-{number}"))
        ledger.ticks.commit(
            msgspec.structs.replace(
                a_tick(an_event("ev-1"), an_event("ev-2"), targets=TWO), verdicts=(a_verdict("train-1"),)
            )
        )
        if name == "prune":
            ledger._store.change("UPDATE outbox SET state = 'sent' WHERE event_id = 'ev-1'")
        backup.back_up(folder, ledger, NOON)
    if name == "repair":
        path = folder / "ledger.db"
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE run SET content = x'00' WHERE run_id = 'train-3'")
        connection.close()
        shutil.copyfile(path, folder / "as-it-was.db")


def _seen(folder: Path) -> World:
    """All that stands in the ledger, after checking that it is one."""
    with Ledger.open(folder, write=True) as ledger:
        store = ledger._store
        assert store.rows("PRAGMA integrity_check") == [("ok",)]
        assert store.rows("PRAGMA foreign_key_check") == []
        half = store.rows(
            "SELECT event_id FROM event LEFT JOIN outbox USING (event_id) WHERE kind <> 'ledger'"
            " GROUP BY 1 HAVING count(target) <> ?",
            len(TWO) if store.rows("SELECT 1 FROM run WHERE run_id = 'train-1'") else 1,
        )
        assert half == [], "an event without its rows"
        names = [name for (name,) in store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {
            name: tuple(store.rows(f"SELECT * FROM {name} ORDER BY 1, 2"))  # noqa: S608 - names of its own
            for name in sorted(names)
            if not name.startswith("sqlite_")
        }
    for each in kept_copies(folder):
        connection = sqlite3.connect(each)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], each
        assert schema.version(connection) == schema.VERSION
        connection.close()
    return World(tables, len(kept_copies(folder)))


class Sweep:
    """One program, its ledger before, and what the untouched program leaves."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir()
        self.number = 0
        _template(folder / "template", name)
        self.before = None if name == "repair" else _seen(self.copy())
        self.points = strace.points(self.argv(self.copy()), syscalls=SYSCALLS, ready=True)
        self.after = _seen(self.at)

    def argv(self, at: Path) -> list[str]:
        self.at = at
        return [sys.executable, "-I", "-B", "-c", CHILD + DOES[self.name], str(at)]

    def copy(self) -> Path:
        self.number += 1
        return Path(shutil.copytree(self.folder / "template", self.folder / f"{self.number}"))

    def one(self, syscall: str, nth: int, what: str) -> None:
        """Hit one point and judge what is left. Raises AssertionError."""
        where = f"{self.name}: {what} at {syscall} {nth}"
        at = self.copy()
        done = strace.run_injected(self.argv(at), syscall, nth, what, ready=True)
        assert done.hit, where
        assert b"sqlite3." not in done.stderr.splitlines()[-1:], where
        if self.name == "repair" and not self._repaired_or_as_it_was(at, where):
            repair(at, at=NOON, more={})
        left = _seen(at)
        assert left in (self.before, self.after), where
        if done.status == 0:
            assert left == self.after, f"{where}: it said that all went well"
        if what == "kill":
            assert done.status == -9, where
        self._again(at, where)
        shutil.rmtree(at)

    def _repaired_or_as_it_was(self, at: Path, where: str) -> bool:
        """Whether the repair is done, or will be by whoever opens it next; else the damaged file is untouched."""
        try:
            with Ledger.open(at, write=True) as ledger:
                ledger.runs.all()
                return True
        except LedgerError:
            assert (at / "ledger.db").read_bytes() == (at / "as-it-was.db").read_bytes(), where
            return False

    def _again(self, at: Path, where: str) -> None:
        """The same command once more, untouched, leads to the same end: nothing that was left is in its way."""
        if self.name == "commit":
            with Ledger.open(at, write=True) as ledger:
                events = [an_event("ev-new-1", at=NOON + 60), an_event("ev-new-2", at=NOON + 60)]
                ledger.ticks.commit(a_tick(*events, targets=TWO, at=NOON + 60))
                assert len(ledger.outbox.undelivered()) == 8, where
        elif self.name == "backup":
            with Ledger.open(at, write=True) as ledger:
                backup.back_up(at, ledger, NOON + 86400)
            assert _seen(at) == self.after, where
            assert {each.name for each in (at / "backup").iterdir()} == {
                each.name for each in kept_copies(at)
            }, where
        elif self.name == "prune":
            with Ledger.open(at, write=True) as ledger:
                ledger.upkeep.prune(LATER)
            assert _seen(at) == self.after, where


def _every(sweep: Sweep) -> list[tuple[str, int, str]]:
    return [
        (call, nth, what) for call, count in sweep.points for nth in range(1, count + 1) for what in FAULTS
    ]


@pytest.fixture
def sweep(request, tmp_path):
    reason = strace.available()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Sweep(request.param, tmp_path / request.param)


@pytest.mark.parametrize("sweep", DOES, indirect=True)
def test_killed_or_failing_at_some_system_call_the_ledger_is_before_or_after(sweep):  # P8 R91
    chosen = random.Random(f"{SEED} {sweep.name}").sample(_every(sweep), SAMPLE)
    print(f"seed {SEED}, {sweep.name}: {chosen} of {dict(sweep.points)}")
    for point in chosen:
        sweep.one(*point)


@pytest.mark.fault
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("sweep", DOES, indirect=True)
def test_killed_or_failing_at_every_system_call_the_ledger_is_before_or_after(sweep):  # P8 R91
    every = _every(sweep)
    for point in every:
        sweep.one(*point)
    print(f"{sweep.name}: {len(every)} points of {dict(sweep.points)} tried, 0 violations")
