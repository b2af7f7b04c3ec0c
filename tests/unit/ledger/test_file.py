"""The file itself: made private, opened read-only without a trace, refused when it is not ours to write."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_samples import a_run, a_tick, an_event

from fleet.errors import LedgerError
from fleet.ledger import schema
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import config_file, state_folder

DATA = Path(__file__).parents[2] / "data"


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_folder_0700_and_files_0600_whatever_the_umask(tmp_path, no_umask):  # S41
    folder = tmp_path / "new" / "deep" / "state"
    with Ledger.open(folder, write=True) as ledger:
        ledger.ticks.commit(a_tick(an_event()))
        modes = {path.name: _mode(path) for path in folder.iterdir()}
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(modes.values()) == {0o600}
    assert [_mode(each) for each in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3


def test_reading_makes_nothing_and_finds_nothing(tmp_path):
    folder = tmp_path / "state"
    with Ledger.open(folder, write=False) as ledger:
        assert ledger.runs.all() == ()
        assert ledger.runs.find("train") is None
        assert ledger.ticks.verdicts() == {}
        assert ledger.ticks.incidents() is None
        assert ledger.outbox.undelivered() == ()
        assert ledger.pins.find("gpu1") is None
        assert ledger.waiters.all() == ()
    assert not folder.exists()


def test_reading_sees_what_was_written_and_cannot_write(tmp_path):
    with Ledger.open(tmp_path, write=True) as ledger:
        ledger.runs.put(a_run())
    before = (tmp_path / "ledger.db").read_bytes()
    with Ledger.open(tmp_path, write=False) as ledger:
        assert ledger.runs.find("train") == a_run()
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.runs.put(a_run("other-1"))
    assert (tmp_path / "ledger.db").read_bytes() == before


def test_a_folder_that_others_may_write_is_refused(tmp_path):  # S36 S41
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LedgerError, match="other users can write") as caught:
        Ledger.open(folder, write=True)
    assert caught.value.next == (f"chmod 700 {folder}",)
    assert list(folder.iterdir()) == []
    assert _mode(folder) == 0o777


def test_a_symlink_in_place_of_the_folder_is_refused(tmp_path):  # S36 S41
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to("real")
    with pytest.raises(LedgerError, match="is a symbolic link") as caught:
        Ledger.open(tmp_path / "state", write=True)
    assert caught.value.hint == f"BABYSIT_STATE={tmp_path}/real names the folder itself"
    assert list((tmp_path / "real").iterdir()) == []


def test_a_symlink_in_place_of_the_file_is_not_followed(tmp_path):  # S37
    folder, victim = tmp_path / "state", tmp_path / "victim"
    folder.mkdir(mode=0o700)
    victim.write_text("precious")
    (folder / "ledger.db").symlink_to(victim)
    with pytest.raises(LedgerError, match="cannot make"):
        Ledger.open(folder, write=True)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "content",
    [b"this is no database at all\n" * 100, bytes(8192), b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["text", "zeros", "header then rubbish"],
)
def test_a_file_that_is_no_ledger_is_said_and_left_alone(tmp_path, content, write):  # P8 R91
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with (
        pytest.raises(LedgerError, match="is not a ledger") as caught,
        Ledger.open(tmp_path, write=write) as ledger,
    ):
        ledger.runs.all()
    assert caught.value.where == str(path)
    assert caught.value.next == ("babysit check --repair",)
    assert path.read_bytes() == content


def test_pages_damaged_in_the_middle_are_said(tmp_path):
    with Ledger.open(tmp_path, write=True) as ledger:
        for number in range(200):
            ledger.runs.put(a_run(f"train-{number}"))
    path = tmp_path / "ledger.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(LedgerError, match="is damaged"), Ledger.open(tmp_path, write=False) as ledger:
        ledger.runs.all()


def test_a_newer_ledger_is_read_but_not_written(tmp_path):
    with Ledger.open(tmp_path, write=True) as ledger:
        ledger.runs.put(a_run())
        ledger._store.change("PRAGMA user_version = 99")
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(
        LedgerError, match=f"newer babysit: format 99, this one knows {schema.VERSION}"
    ) as caught:
        Ledger.open(tmp_path, write=True)
    assert "nothing was written" in caught.value.hint
    assert (tmp_path / "ledger.db").read_bytes() == before
    with Ledger.open(tmp_path, write=False) as ledger:
        assert ledger.runs.find("train") == a_run()


def _commit_until_it_fails(ledger):
    for number in range(200):
        ledger.ticks.commit(a_tick(*(an_event(f"ev-{number}-{part}") for part in range(20))))


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path):  # P8
    with Ledger.open(tmp_path, write=True) as ledger:
        ledger.ticks.commit(a_tick(an_event()))
        (pages,) = ledger._store.rows("PRAGMA page_count")[0]
        ledger._store.change(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="the disk is full") as caught:
            _commit_until_it_fails(ledger)
        assert caught.value.next == (f"df -h {tmp_path}",)
        kept = len(ledger.ticks.seen(None, 999))
        assert len(ledger.outbox.undelivered()) == 1 + 20 * (kept - 1), "no half tick"
        assert ledger._store.rows("PRAGMA integrity_check") == [("ok",)]
        ledger._store.change("PRAGMA max_page_count = 1000000")
        ledger.ticks.commit(a_tick())


def test_a_locked_file_is_said(tmp_path):
    with Ledger.open(tmp_path, write=True) as ledger:
        ledger._store.change("PRAGMA busy_timeout = 50")
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(LedgerError, match="locked by another babysit"):
                ledger.runs.put(a_run())
        finally:
            other.close()


def test_every_write_is_synced_and_waited_for(tmp_path):  # P8
    with Ledger.open(tmp_path, write=True) as ledger:
        settings = {
            name: ledger._store.rows(f"PRAGMA {name}")[0][0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "user_version")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "user_version": schema.VERSION,
    }


def _tables(connection):
    return dict(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name"))


def test_migrations_run_in_order_each_wholly_or_not_at_all(tmp_path):
    scripts = (
        "CREATE TABLE a (x)",
        "CREATE TABLE b (x); CREATE INDEX b_x ON b (x)",
        "CREATE TABLE c (x); NONSENSE",
    )
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, scripts)
    assert set(_tables(connection)) == {"a", "b", "b_x"}
    assert schema.version(connection) == 2
    schema.migrate(connection, (*scripts[:2], "CREATE TABLE d (x)"))
    assert set(_tables(connection)) == {"a", "b", "b_x", "d"}
    schema.migrate(connection, (*scripts[:2], "CREATE TABLE d (x)"))
    connection.close()


def _frozen(folder, number):
    connection = sqlite3.connect(folder / "ledger.db")
    connection.executescript((DATA / f"ledger-v{number}.sql").read_text())
    connection.close()


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("number", range(1, schema.VERSION))
def test_a_ledger_of_every_format_there_was_still_loads(tmp_path, number, write):  # P8
    _frozen(tmp_path, number)
    with Ledger.open(tmp_path, write=write) as ledger:
        assert ledger.runs.find("train") == a_run()
        assert ledger.ticks.verdicts()["eval-9d2k"].row == "R-STALL-2"
        assert ledger.outbox.undelivered()[0].event == an_event()
        assert ledger.pins.find("gpu1").key_b64 == "AAAAnew"
        assert [pin.key_b64 for pin in ledger.pins.before("gpu1")] == ["AAAAold"]
        assert ledger.intents.open()[0].kind == "launch"
        assert ledger.waiters.all()[0].run_id == "train-k3f9"
        assert ledger.upkeep.version() == schema.VERSION
        assert ledger.upkeep.wrong_pages() == []
    with sqlite3.connect(f"file:{tmp_path}/ledger.db?mode=ro", uri=True) as raw:
        assert schema.version(raw) == (schema.VERSION if write else number), "a reader changes nothing"
    raw.close()


@pytest.mark.parametrize("number", range(1, schema.VERSION))
def test_a_migrated_ledger_has_the_very_tables_of_a_new_one(tmp_path, number):
    def columns(folder):
        with Ledger.open(folder, write=True) as ledger:
            return {
                name: [row[1:] for row in ledger._store.rows(f"PRAGMA table_info({name})")]
                for (name,) in ledger._store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            }

    (tmp_path / "old").mkdir(mode=0o700)
    _frozen(tmp_path / "old", number)
    assert columns(tmp_path / "old") == columns(tmp_path / "new")


def test_the_targets_of_format_2_are_still_told(tmp_path):  # P3
    _frozen(tmp_path, 2)
    with Ledger.open(tmp_path, write=True) as ledger:
        ledger.ticks.commit(a_tick(an_event("ev-9"), targets=None))
        assert {row.event.event_id for row in ledger.outbox.undelivered()} == {"ev-1", "ev-9"}
        assert [row.origin for row in ledger.ticks.seen()] == ["cron", "hand", "cron"]


def test_an_older_ledger_is_read_without_being_changed(tmp_path):
    path = tmp_path / "ledger.db"
    sqlite3.connect(path).close()
    path.touch()
    with Ledger.open(tmp_path, write=False) as ledger:
        assert ledger.runs.all() == ()
    assert path.read_bytes() == b""


def test_where_things_are(monkeypatch):  # R101
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere/config")
    monkeypatch.delenv("BABYSIT_STATE", raising=False)
    assert state_folder() == Path("/somewhere/state/babysit")
    assert config_file() == Path("/somewhere/config/babysit/babysit.toml")
    monkeypatch.setenv("BABYSIT_STATE", "~/moved")
    assert state_folder() == Path.home() / "moved"


def test_reading_a_ledger_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom fleet.ledger.ledger import Ledger\n"
        "import fleet.ledger.paths\n"
        "with Ledger.open(Path(sys.argv[1]), write=False) as ledger: ledger.ticks.verdicts()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    ours = {"fleet", "msgspec", "platformdirs", "typing_extensions"}
    assert {name for name in out.stdout.split() if not name.startswith("_")} <= ours
