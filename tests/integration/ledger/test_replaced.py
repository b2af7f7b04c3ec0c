"""Two processes and one file: who writes waits for who rebuilds, and nobody writes into what was moved aside."""

import subprocess
import sys
from pathlib import Path

import pytest
from ledger_samples import HOOK, NOON, a_run, a_tick, an_event, surely
from waiting import wait_until

from fleet.errors import Busy
from fleet.ledger import backup
from fleet.ledger.ledger import Ledger
from fleet.ledger.repair import repair
from fleet.ledger.store import alone

TESTS = Path(__file__).parents[2]

# FOLDER COUNT: holds one ledger open and commits again and again; says each commit.
WRITER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from ledger_samples import a_tick, an_event, surely
from fleet.ledger.ledger import Ledger
with surely(lambda: Ledger.open(Path(sys.argv[1]), write=True)) as ledger:
    for number in range(int(sys.argv[2])):
        surely(ledger.ticks.commit, a_tick(an_event(f"w-{{number}}")))
        print(number, flush=True)
"""

# FOLDER: claims and ends every row there is, as a courier does, until the word to stop comes.
COURIER = f"""
import select, sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from ledger_samples import surely
from fleet.ledger.ledger import Ledger
with surely(lambda: Ledger.open(Path(sys.argv[1]), write=True)) as ledger:
    print("ready", flush=True)
    while True:
        last = bool(select.select([sys.stdin], [], [], 0)[0])
        while row := surely(ledger.outbox.claim_due, 2e9, 60):
            surely(ledger.outbox.mark_sent, row, 2e9)
            print(row.event.event_id, flush=True)
        if last:
            break
"""


def _start(code, *words):
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "state"
    with Ledger.open(folder, write=True) as ledger:
        ledger.runs.put(a_run())
        ledger.ticks.commit(a_tick(an_event()))
    return folder


def test_repairs_under_a_writer_that_never_closes_lose_no_commit(folder):  # P8 R91
    writer = _start(WRITER, folder, 60)
    try:
        said = [writer.stdout.readline() for _ in range(5)]
        for _ in range(3):
            surely(repair, folder, at=NOON, more={})
            said.append(writer.stdout.readline())
        said += writer.stdout.read().splitlines()
        assert writer.wait(60) == 0
    finally:
        writer.kill()
        writer.communicate()
    assert len(said) == 60
    with Ledger.open(folder, write=True) as ledger:
        told = {row.event.event_id for row in ledger.outbox.undelivered() if row.event.kind != "ledger"}
        assert told == {"ev-1"} | {f"w-{number}" for number in range(60)}
        assert ledger._store.rows("PRAGMA integrity_check") == [("ok",)]
    assert len(list(folder.glob("damaged-*"))) == 3


def test_a_tick_and_a_courier_at_once_lose_and_double_nothing(folder):  # P3 P4
    courier = _start(COURIER, folder)
    try:
        assert courier.stdout.readline() == b"ready\n"
        with Ledger.open(folder, write=True) as ledger:
            for number in range(40):
                surely(ledger.ticks.commit, a_tick(an_event(f"e-{number}"), targets=(HOOK,)))
                if number % 20 == 10:
                    surely(backup.back_up, folder, ledger, NOON)
        courier.stdin.write(b"stop\n")
        courier.stdin.flush()
        out = courier.stdout.read()  # not `communicate`: it does not know what `readline` has read already
        assert courier.wait(60) == 0
    finally:
        courier.kill()
        courier.communicate()
    assert sorted(out.decode().split()) == sorted(["ev-1", *(f"e-{number}" for number in range(40))])


def test_a_repair_waits_for_who_writes_and_then_says_busy(folder):
    with alone(folder), pytest.raises(Busy) as caught:
        repair(folder, at=NOON, more={})
    assert caught.value.exit_code == 75
    assert list(folder.glob("damaged-*")) == []


def test_a_writer_waits_for_a_repair_and_then_says_busy(folder):
    with Ledger.open(folder, write=True) as ledger, alone(folder), pytest.raises(Busy, match="rebuilds"):
        ledger.runs.put(a_run("late-1"))
    with Ledger.open(folder, write=True) as ledger:
        assert ledger.runs.find("late-1") is None


def test_a_reader_waits_for_nobody(folder):
    with alone(folder), Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.find("train") == a_run()


def test_a_writer_that_waited_goes_on_in_the_new_file(folder):
    with Ledger.open(folder, write=True) as held:
        repair(folder, at=NOON, more={})
        held.runs.put(a_run("late-1"))
        assert held.outbox.undelivered()[0].event == an_event()
    with Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.find("late-1") == a_run("late-1")


def test_without_following_a_row_would_be_written_into_what_was_moved_aside(folder):  # the guard, taken away
    from fleet.ledger.store import Store

    class Blind(Store):
        def _follow(self):
            pass

    with Ledger.open(folder, write=True) as held:
        held._store.__class__ = Blind
        repair(folder, at=NOON, more={})
        held.runs.put(a_run("late-1"))
    with Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.find("late-1") is None


def test_a_ledger_removed_under_a_writer_is_said_at_its_next_write(folder):
    from fleet.errors import LedgerDamaged

    with Ledger.open(folder, write=True) as held:
        (folder / "ledger.db").unlink()
        with pytest.raises(LedgerDamaged, match="is gone"):
            held.runs.put(a_run("late-1"))


def test_eight_processes_at_once_bring_an_old_ledger_up_to_date(tmp_path):
    import sqlite3

    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    connection = sqlite3.connect(folder / "ledger.db")
    connection.executescript((TESTS / "data/ledger-v1.sql").read_text())
    connection.close()
    writers = [_start(WRITER.replace("w-{number}", f"w{n}-{{number}}"), folder, 2) for n in range(8)]
    try:
        wait_until(lambda: all(w.poll() is not None for w in writers), 150, "every writer to end")
        assert [w.returncode for w in writers] == [0] * 8
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    with Ledger.open(folder, write=True) as ledger:
        assert ledger.runs.find("train") == a_run()
        assert len(ledger.outbox.undelivered()) == 1 + 8 * 2
        assert ledger._store.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_change_of_files_that_was_cut_short_is_seen_by_readers_and_finished_by_writers(folder):  # P8
    with Ledger.open(folder, write=True) as ledger:
        ledger.upkeep.copy_to(folder / "ledger.db.next")
        ledger._store.change("DELETE FROM run")
        ledger._store.change("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "ledger.db-wal").write_bytes(b"the log of the file that goes")
    with Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.find("train") == a_run()
    assert (folder / "ledger.db.next").exists(), "a reader changes nothing"
    with Ledger.open(folder, write=True) as ledger:
        assert ledger.runs.find("train") == a_run()
        ledger.runs.put(a_run("more-1"))
    assert not (folder / "ledger.db.next").exists()
    with Ledger.open(folder, write=False) as ledger:
        assert len(ledger.runs.all()) == 2
