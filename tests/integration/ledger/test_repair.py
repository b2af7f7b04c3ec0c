"""A damaged ledger is moved aside as it is; what can be read goes on; what cannot is named. Nothing is deleted."""

import os
import random
import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest
from ledger_samples import HOOK, NOON, a_run, a_tick, a_verdict, an_event

from fleet.errors import LedgerDamaged, LedgerError, LedgerNewer
from fleet.ledger import backup
from fleet.ledger.ledger import Ledger
from fleet.ledger.repair import LostRun, forgotten, repair
from fleet.ledger.rows import Pin

RUNS = 60
PAGE = 4096
SEED = 20261122


@pytest.fixture
def folder(tmp_path):
    """A ledger of some size: 60 runs with a verdict each, two events, a pin, an open intent."""
    folder = tmp_path / "state"
    with Ledger.open(folder, write=True) as ledger:
        for number in range(RUNS):
            ledger.runs.put(a_run(f"train-{number:02}"))
        tick = a_tick(an_event("ev-1"), an_event("ev-2"))
        verdicts = tuple(a_verdict(f"train-{number:02}") for number in range(RUNS))
        events = tuple(msgspec.structs.replace(event, run_id="train-00") for event in tick.events)
        ledger.ticks.commit(
            msgspec.structs.replace(
                tick, verdicts=verdicts, histories={"train-00": b"{}"}, incidents=b"[]", events=events
            )
        )
        ledger.pins.put(Pin("gpu1", "ssh-ed25519", "AAAA", NOON, "trust"))
        ledger.intents.begin("train-00", "launch", "start from 0", NOON)
    return folder


def _damage(folder, change):
    path = folder / "ledger.db"
    path.write_bytes(change(path.read_bytes()))
    return path.read_bytes()


def _usable(folder):
    with Ledger.open(folder, write=True) as ledger:
        assert ledger._store.rows("PRAGMA integrity_check") == [("ok",)]
        assert ledger._store.rows("PRAGMA foreign_key_check") == []
        before = ledger.ticks.seen(limit=1)[0].id
        assert ledger.ticks.commit(a_tick(an_event("ev-new"))) > before
        return len(ledger.runs.all())


def _content(ledger):
    return {
        table: ledger._store.rows(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 - names of ours
        for table in ("run", "pin", "target", "event", "outbox", "history", "incidents", "intent", "waiter")
    }


WHOLE_LOSS = {
    "zeroed": lambda data: bytes(len(data)),
    "not a database": lambda _: b"#!/bin/sh\necho hello\n" * 500,
    "emptied": lambda _: b"",
    "first page gone": lambda data: bytes(PAGE) + data[PAGE:],
    "header then rubbish": lambda data: data[:16] + b"\xff" * (len(data) - 16),
}
PART_LOSS = {
    "cut in half": lambda data: data[: len(data) // 2],
    "cut in mid-page": lambda data: data[: len(data) // 2 + 1000],
    "zeros over pages": lambda data: data[: 10 * PAGE] + bytes(6 * PAGE) + data[16 * PAGE :],
    "rubbish over pages": lambda data: data[: 12 * PAGE] + b"\xa5" * 4 * PAGE + data[16 * PAGE :],
    "all but the first two pages": lambda data: data[: 2 * PAGE] + bytes(len(data) - 2 * PAGE),
}


@pytest.mark.parametrize("how", [*WHOLE_LOSS, *PART_LOSS])
def test_with_a_backup_no_run_is_lost_whatever_happened_to_the_file(folder, how):  # P8 R91
    with Ledger.open(folder, write=True) as ledger:
        backup.back_up(folder, ledger, NOON)
    damaged = _damage(folder, {**WHOLE_LOSS, **PART_LOSS}[how])
    done = repair(folder, at=NOON, more={})
    assert done.lost_runs == ()
    assert (done.aside / "ledger.db").read_bytes() == damaged, "moved aside as it was"
    assert _usable(folder) == RUNS
    with Ledger.open(folder, write=False) as ledger:
        assert {row.event.event_id for row in ledger.outbox.undelivered()} == {"ev-1", "ev-2", "ev-new"}
        assert ledger.pins.find("gpu1").key_b64 == "AAAA"
        assert forgotten(folder, ledger) == ()


@pytest.mark.parametrize("how", PART_LOSS)
def test_without_a_backup_the_rows_that_can_be_read_are_kept_and_the_others_named(folder, how):  # P8
    told = [f"train-{number:02}" for number in range(RUNS)]
    damaged = _damage(folder, PART_LOSS[how])
    done = repair(folder, at=NOON, more={}, told=told)
    assert (done.aside / "ledger.db").read_bytes() == damaged
    kept = _usable(folder)
    assert kept + len(done.lost_runs) == RUNS, "every run is either kept or named"
    with Ledger.open(folder, write=False) as ledger:
        assert {run.run_id for run in ledger.runs.all()} == set(told) - {
            lost.run_id for lost in done.lost_runs
        }
        assert forgotten(folder, ledger) == done.lost_runs


def test_what_is_whole_is_kept_to_the_byte(folder):
    with Ledger.open(folder, write=True) as ledger:
        before = _content(ledger)
        ledger._store.change("UPDATE verdict SET content = x'00' WHERE run_id = 'train-07'")
    done = repair(folder, at=NOON, more={})
    assert (done.lost_runs, done.lost, done.unread) == ((), {"verdict": 1}, ("verdict",))
    with Ledger.open(folder, write=False) as ledger:
        after = _content(ledger)
        assert after == before
        assert set(ledger.ticks.verdicts()) == {f"train-{number:02}" for number in range(RUNS)} - {"train-07"}


def test_what_stands_only_in_the_log_of_the_file_is_not_lost(folder):
    """A watch has it open: its newest rows are in the log beside it, and its pages are torn in the file."""
    with Ledger.open(folder, write=True) as held:
        held._store.change("PRAGMA wal_checkpoint(TRUNCATE)")
        held.runs.put(a_run("late-1"))
        _damage(folder, lambda data: data[: 16 * PAGE] + bytes(PAGE) + data[17 * PAGE :])
        done = repair(folder, at=NOON, more={}, told=[f"train-{number:02}" for number in range(RUNS)])
        assert (done.aside / "ledger.db-wal").stat().st_size > 0
        assert held.runs.find("late-1") is not None, "who had it open goes on in the new file"
        held.runs.put(a_run("later-1"))
    with Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.find("late-1") == a_run("late-1")
        assert ledger.runs.find("later-1") == a_run("later-1"), "nothing is written to what was moved aside"


def test_one_rotten_run_comes_from_the_backup_or_is_named_with_its_box(folder):
    with Ledger.open(folder, write=True) as ledger:
        ledger._store.change("UPDATE run SET content = zeroblob(300) WHERE run_id = 'train-03'")
        with pytest.raises(LedgerDamaged, match="holds a Run that cannot be read"):
            ledger.runs.all()
    done = repair(folder, at=NOON, more={})
    assert done.lost_runs == (LostRun("train-03", "train", "gpu1"),)
    assert _usable(folder) == RUNS - 1


def test_a_run_that_a_newer_babysit_wrote_is_kept_as_it_is_unless_a_person_says_otherwise(folder):  # P8
    with Ledger.open(folder, write=True) as ledger:
        (content,) = ledger._store.rows("SELECT content FROM run WHERE run_id = 'train-03'")[0]
        newer = content.replace(b'"name":', b'"colour":"blue","name":', 1)
        ledger._store.change("UPDATE run SET content = ? WHERE run_id = 'train-03'", newer)
        ledger._store.change("UPDATE verdict SET content = x'00' WHERE run_id = 'train-07'")
    assert repair(folder, at=NOON, more={}).lost_runs == ()
    with Ledger.open(folder, write=True) as ledger:
        assert ledger._store.rows("SELECT content FROM run WHERE run_id = 'train-03'") == [(newer,)]
        with pytest.raises(LedgerError, match="holds a Run") as caught:
            ledger.runs.all()
        assert not isinstance(caught.value, LedgerDamaged), "no tick may mend this unasked"
    assert [run.run_id for run in repair(folder, at=NOON, more={}, strict=True).lost_runs] == ["train-03"]


def test_a_lost_run_is_told_to_who_is_told_pages_and_until_it_is_back(folder):  # P3
    with Ledger.open(folder, write=True) as ledger:
        ledger._store.change("UPDATE run SET content = x'7b' WHERE run_id = 'train-03'")
    repair(folder, at=NOON, more={})
    with Ledger.open(folder, write=True) as ledger:
        (row,) = [row for row in ledger.outbox.undelivered() if row.event.kind == "ledger"]
        assert (row.target, row.event.severity) == (HOOK.name, "page")
        assert "train-03" in row.event.body
        assert [lost.run_id for lost in forgotten(folder, ledger)] == ["train-03"]
    repair(folder, at=NOON + 60, more={})
    with Ledger.open(folder, write=True) as ledger:
        again = [row for row in ledger.outbox.undelivered() if row.event.kind == "ledger"]
        assert again == [row], "the same loss is paged once, however often the file is rebuilt"
        ledger.runs.put(a_run("train-03"))
        assert forgotten(folder, ledger) == ()


def test_a_second_repair_does_not_take_the_first_ones_place(folder):
    for _ in range(3):
        _damage(folder, lambda data: bytes(len(data)))
        repair(folder, at=NOON, more={})
    names = sorted(each.name for each in folder.glob("damaged-*"))
    assert names == [
        "damaged-20261118-110640",
        "damaged-20261118-110640-2",
        "damaged-20261118-110640-3",
    ]


def test_everything_it_makes_is_private(folder):  # S41
    before = os.umask(0)
    try:
        with Ledger.open(folder, write=True) as ledger:
            backup.back_up(folder, ledger, NOON)
        _damage(folder, lambda data: bytes(len(data)))
        done = repair(folder, at=NOON, more={})
    finally:
        os.umask(before)
    assert stat.S_IMODE(done.aside.stat().st_mode) == 0o700
    every = [*folder.iterdir(), *done.aside.iterdir(), *(folder / "backup").iterdir()]
    assert {stat.S_IMODE(each.stat().st_mode) for each in every if each.is_file()} == {0o600}
    assert not (folder / ".repair").exists()


@pytest.mark.parametrize("what", ["emptied", "gone"])
@pytest.mark.parametrize("proof", ["backup", "handbook"])
@pytest.mark.parametrize("write", [False, True])
def test_a_file_that_went_is_no_new_ledger_where_something_proves_that_there_was_one(
    folder, what, proof, write
):  # P8
    if proof == "backup":
        with Ledger.open(folder, write=True) as ledger:
            backup.back_up(folder, ledger, NOON)
    else:
        (folder / "handbook").mkdir(mode=0o700)
        (folder / "handbook/train-00.md").write_text("# train")
    path = folder / "ledger.db"
    path.unlink()
    if what == "emptied":
        path.touch(0o600)
    with pytest.raises(LedgerDamaged, match=f"is {what.removesuffix('ed') if what == 'gone' else 'empty'}"):
        Ledger.open(folder, write=write)
    assert path.exists() == (what == "emptied"), "nothing was made in its place"


def test_a_newer_ledger_is_not_repaired_by_an_older_babysit(folder):
    with Ledger.open(folder, write=True) as ledger:
        ledger._store.change("PRAGMA user_version = 99")
    damaged = _damage(folder, lambda data: data[: 20 * PAGE] + bytes(PAGE) + data[21 * PAGE :])
    with pytest.raises(LedgerNewer):
        repair(folder, at=NOON, more={})
    assert (folder / "ledger.db").read_bytes() == damaged
    assert list(folder.glob("damaged-*")) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_ledger_of_an_older_format_is_repaired_into_this_one(tmp_path, number):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    connection = sqlite3.connect(folder / "ledger.db")
    connection.executescript((Path(__file__).parents[2] / f"data/ledger-v{number}.sql").read_text())
    connection.execute("UPDATE verdict SET content = x'00'")
    connection.commit()
    connection.close()
    repair(folder, at=NOON, more={})
    with Ledger.open(folder, write=True) as ledger:
        assert ledger.runs.find("train") == a_run()
        assert ledger.pins.find("gpu1").key_b64 == "AAAAnew"
        assert ledger.outbox.undelivered()[0].event == an_event()


@pytest.mark.parametrize("round_", range(12))
def test_damage_anywhere_leaves_a_ledger_that_works_and_names_every_run(folder, round_):  # P8 R91
    chance = random.Random(f"{SEED} {round_}")
    path = folder / "ledger.db"
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 5)):
        at, size = chance.randrange(len(data)), chance.choice((1, 16, 512, PAGE, 3 * PAGE))
        # Bytes that no text holds: a row has no sum of its own, so that another letter in it is not seen.
        rubbish = bytes(chance.choice(b"\xc0\xc1\xf8\xfe\xff") for _ in range(size))
        data[at : at + size] = chance.choice((bytes(size), rubbish))[: len(data) - at]
    path.write_bytes(data)
    told = [f"train-{number:02}" for number in range(RUNS)]
    try:
        done = repair(folder, at=NOON, more={}, told=told)
    except LedgerNewer:  # the very bytes of the format's number were hit
        return
    kept = _usable(folder)
    print(f"seed {SEED} round {round_}: kept {kept} of {RUNS} runs, lost {len(done.lost_runs)}")
    assert kept + len(done.lost_runs) == RUNS
    with Ledger.open(folder, write=False) as ledger:
        assert {run.run_id for run in ledger.runs.all()} <= set(told), "no run was made up"
        assert all(run == a_run(run.run_id) for run in ledger.runs.all()), "none was changed"


def test_a_repair_that_cannot_begin_changes_nothing(folder):
    damaged = _damage(folder, lambda data: bytes(len(data)))
    (folder / ".repair").write_text("in the way")
    with pytest.raises(LedgerError, match="could not be rebuilt") as caught:
        repair(folder, at=NOON, more={})
    assert caught.value.hint == "nothing was changed"
    assert (folder / "ledger.db").read_bytes() == damaged
