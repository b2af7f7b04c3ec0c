"""`check` finds each thing that is wrong, says its fix, and changes nothing."""

import contextlib
import os
import sqlite3

import pytest
from ledger_samples import NOON, a_run, a_tick, an_event

from fleet.ledger import backup
from fleet.ledger.check import check
from fleet.ledger.ledger import Ledger
from fleet.ledger.repair import repair
from fleet.ledger.salvage import salvage
from fleet.ledger.store import FILE_NAME

DAY_S = 86400


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "state"
    with Ledger.open(folder, write=True) as ledger:
        ledger.runs.put(a_run())
        ledger.ticks.commit(a_tick(an_event()))
    return folder


def _found(folder, now=NOON):
    before = {path: path.read_bytes() for path in sorted(folder.glob("**/*.db"))}
    found = check(folder, now, {})
    assert {path: path.read_bytes() for path in sorted(folder.glob("**/*.db"))} == before
    assert all(each.what and each.fix for each in found)
    return found


def _change(folder, sql, *values):
    with Ledger.open(folder, write=True) as ledger:
        ledger._store.change("PRAGMA foreign_keys = OFF")
        ledger._store.change(sql, *values)


def test_a_sound_ledger_has_no_findings(folder):
    assert _found(folder) == ()


def test_where_nothing_was_armed_there_is_nothing_to_find(tmp_path):
    assert check(tmp_path / "state", NOON, {}) == ()
    assert not (tmp_path / "state").exists()


ROTTEN = [
    ("UPDATE run SET content = x'7b'", "1 row of table run cannot be read: content:"),
    ("UPDATE verdict SET content = zeroblob(9)", "1 row of table verdict cannot be read: content:"),
    ("UPDATE event SET verdict = x'00'", "1 row of table event cannot be read: verdict:"),
    ("UPDATE target SET content = x'22ff22'", "1 row of table target cannot be read: content:"),
    ("UPDATE run SET run_id = 'other-1'", "1 row of table run cannot be read: content: of another run"),
    ("DELETE FROM event", "rows that name others which are gone: outbox 1 of event"),
]
STRANGE = [
    "UPDATE verdict SET content = '[]'",
    "UPDATE target SET content = '{}'",
    "UPDATE event SET severity = 'loud'",
    'UPDATE run SET content = \'{"run_id": "train-k3f9", "news": 1}\'',
]


@pytest.mark.parametrize(("sql", "says"), ROTTEN, ids=[sql for sql, _ in ROTTEN])
def test_a_row_that_nobody_can_have_written_like_that(folder, sql, says):  # P8
    _change(folder, sql)
    (finding,) = _found(folder)
    assert finding.what.startswith(says)
    assert (finding.fix, finding.damaged, finding.strange) == ("babysit check --repair", True, False)


@pytest.mark.parametrize("sql", STRANGE)
def test_a_row_that_a_newer_babysit_may_have_written_is_no_damage(folder, sql):  # P8
    _change(folder, sql)
    (finding,) = _found(folder)
    assert "cannot be read by this babysit: " in finding.what
    assert (finding.fix, finding.damaged, finding.strange) == ("babysit --version", False, True)


def test_a_text_that_is_none(folder):
    _change(folder, "UPDATE event SET title = CAST(x'ff' AS TEXT)")
    (finding,) = _found(folder)
    assert "is damaged (Could not decode to UTF-8" in finding.what
    assert finding.damaged


def test_content_of_the_patrol_is_judged_by_the_type_that_the_patrol_gives(folder):
    (finding,) = check(folder, NOON, {("history", "content"): int})
    assert finding.what.startswith("1 row of table history cannot be read by this babysit")


FILES = {
    "text": (lambda _: b"hello " * 2000, "is not a ledger", True),
    "zeros": (lambda data: bytes(len(data)), "is not a ledger", True),
    "cut": (lambda data: data[: len(data) // 2], "is damaged", True),
    "pages": (lambda data: data[: 8 * 4096] + bytes(3 * 4096) + data[11 * 4096 :], "is damaged", True),
    "free pages": (lambda data: data[:36] + b"\0\0\0\5" + data[40:], "the ledger's file is damaged: ", False),
}


@pytest.mark.parametrize(("change", "says", "unusable"), FILES.values(), ids=FILES)
def test_a_damaged_file(folder, change, says, unusable):  # P8 R91
    path = folder / "ledger.db"
    path.write_bytes(change(path.read_bytes()))
    finding = _found(folder)[0]
    assert says in finding.what
    assert (finding.fix, finding.damaged, finding.unusable) == ("babysit check --repair", True, unusable)


def test_a_folder_behind_a_link_is_not_used(folder):  # S41
    link = folder.with_name("link")
    link.symlink_to(folder)
    (finding,) = check(link, NOON, {})
    assert (finding.fix, finding.unusable) == (f"export BABYSIT_STATE={folder}", True)


def test_a_newer_file_is_no_damage_and_cannot_be_used(folder):
    _change(folder, "PRAGMA user_version = 99")
    (finding,) = _found(folder)
    assert "was written by a newer babysit: format 99" in finding.what
    assert (finding.fix, finding.damaged, finding.unusable) == ("babysit --version", False, True)


def test_what_others_may_read_is_named_with_its_chmod(folder):  # S41
    folder.chmod(0o755)
    (folder / "ledger.db").chmod(0o644)
    (folder / "audit.log").write_text("x")
    (folder / "audit.log").chmod(0o640)
    found = {each.open_to_others.name: each.fix for each in _found(folder)}
    assert found == {
        "state": f"chmod 700 {folder}",
        "ledger.db": f"chmod 600 {folder}/ledger.db",
        "audit.log": f"chmod 600 {folder}/audit.log",
    }


def test_a_notice_that_was_given_up_or_that_nobody_sends(folder):  # P3
    _change(folder, "UPDATE outbox SET state = 'dead', tries = 9, error = 'gone'")
    (dead,) = _found(folder, NOON + 4 * DAY_S)
    assert dead.what == "notice ev-1 of 4 d ago never reached hook: given up after 9 tries (gone)"
    _change(folder, "UPDATE outbox SET state = 'due'")
    (stuck,) = _found(folder, NOON + DAY_S)
    assert stuck.what == "notice ev-1 for hook was due 1 d ago, and nothing has sent it"
    assert stuck.fix == "babysit patrol --once"
    assert _found(folder, NOON + 60) == (), "a notice on its way is no finding"


def test_an_old_or_a_damaged_backup(folder):
    with Ledger.open(folder, write=True) as ledger:
        kept = backup.back_up(folder, ledger, NOON)
    _change(folder, "UPDATE outbox SET state = 'sent'")
    assert _found(folder, NOON + 2 * DAY_S) == ()
    (old,) = _found(folder, NOON + 4 * DAY_S)
    assert old.what == "the newest backup is of 4 d ago"
    kept.write_bytes(kept.read_bytes()[:5000])
    os.utime(kept, (NOON, NOON))
    (bad,) = _found(folder, NOON)
    assert bad.what.startswith(f"the backup {kept} is damaged: ")
    assert bad.fix == f"mv {kept} {kept}.broken"


@pytest.mark.timeout(20)
def test_a_file_that_was_cut_off_amid_a_page_is_read_to_an_end(tmp_path):
    """Rows whose bytes are gone have the id 0: who goes on behind it reads the same rows again for ever."""
    ids = [f"run{number:02d}-aaaaa" for number in range(30)]
    with Ledger.open(tmp_path, write=True) as ledger:
        for run_id in ids:
            ledger.runs.put(a_run(run_id))
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        (root,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()
        (size,) = file.execute("PRAGMA page_size").fetchone()
    content = bytearray((tmp_path / FILE_NAME).read_bytes())
    page = content[(root - 1) * size : root * size]
    assert page[0] == 5, "the table is of several pages"
    cells = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(3)]
    cut, gone = (int.from_bytes(page[at : at + 4], "big") for at in cells[1:])
    content[(cut - 1) * size + 200 : cut * size] = bytes(size - 200)
    content[(gone - 1) * size : gone * size] = bytes(size)
    (tmp_path / FILE_NAME).write_bytes(content)
    found = salvage(tmp_path / FILE_NAME, {}, strict=False)["run"]
    assert {row["run_id"] for row in found.rows} - {None} < set(ids)
    assert len(found.rows) < len(ids) and not found.whole


def test_what_sqlite_says_in_bytes_that_are_no_text_is_damage_and_no_crash(folder):
    """One bit of a table's own description: the error that quotes it cannot be decoded."""
    file = folder / FILE_NAME
    with Ledger.open(folder, write=True) as ledger:
        backup.back_up(folder, ledger, NOON)
    content = file.read_bytes()
    assert content.count(b"AUTOINCREMENT") > 1
    file.write_bytes(content.replace(b"AUTOINCREMENT", b"\xc1UTOINCREMENT", 1))
    (kept,) = (folder / "backup").glob("*.db")
    kept.write_bytes(file.read_bytes())
    os.utime(kept, (NOON, NOON))
    found = check(folder, NOON, {})
    assert found[0].damaged and found[0].fix == "babysit check --repair"
    assert any("the backup" in each.what for each in found)
    done = repair(folder, at=NOON, more={})
    assert done.kept["run"] == 1
    with Ledger.open(folder, write=True) as ledger:
        assert [run.run_id for run in ledger.runs.all()] == [a_run().run_id]
