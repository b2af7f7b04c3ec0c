"""Backups: one a day, three kept, never a bad one. History: old rows go in bites, what is alive never."""

import os
import stat

import pytest
from ledger_samples import HOOK, NOON, a_run, a_tick, a_verdict, an_event

from fleet.errors import LedgerDamaged
from fleet.ledger import backup
from fleet.ledger.ledger import Ledger
from fleet.ledger.store import kept_copies
from fleet.ledger.upkeep import BITE, HISTORY_S, KEEP_TICKS

DAY_S = 86400
LATER = NOON + HISTORY_S + DAY_S


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(folder):
    with Ledger.open(folder, write=True) as opened:
        yield opened


def test_a_backup_is_due_once_a_day(folder, ledger):
    assert backup.due(folder, NOON)
    backup.back_up(folder, ledger, NOON)
    assert not backup.due(folder, NOON + 60)
    assert not backup.due(folder, NOON + DAY_S - 60)
    assert backup.due(folder, NOON + DAY_S + 60)
    assert backup.due(folder, NOON - 2 * DAY_S), "a clock that was set back does not stop the backups"


def test_a_backup_is_the_whole_ledger_private_and_readable_as_one(folder, ledger, tmp_path):  # S41
    ledger.runs.put(a_run())
    ledger.ticks.commit(a_tick(an_event()))
    before = os.umask(0)
    try:
        made = backup.back_up(folder, ledger, NOON)
    finally:
        os.umask(before)
    assert made.name == "ledger-20261118.db"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    (tmp_path / "copy").mkdir(mode=0o700)
    made.rename(tmp_path / "copy/ledger.db")
    with Ledger.open(tmp_path / "copy", write=False) as copy:
        assert copy.runs.all() == (a_run(),)
        assert copy.outbox.undelivered() == ledger.outbox.undelivered()


def test_the_newest_three_are_kept(folder, ledger):
    for day in range(6):
        backup.back_up(folder, ledger, NOON + day * DAY_S)
    names = [each.name for each in kept_copies(folder)]
    assert names == ["ledger-20261123.db", "ledger-20261122.db", "ledger-20261121.db"]
    assert sorted(each.name for each in (folder / "backup").iterdir()) == sorted(names), "and nothing else"


def test_a_damaged_ledger_takes_no_good_backups_place(folder):
    with Ledger.open(folder, write=True) as ledger:
        for number in range(100):
            ledger.runs.put(a_run(f"train-{number}"))
        good = backup.back_up(folder, ledger, NOON).read_bytes()
    whole = (folder / "ledger.db").read_bytes()
    (folder / "ledger.db").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    with Ledger.open(folder, write=True) as ledger, pytest.raises(LedgerDamaged):
        backup.back_up(folder, ledger, NOON + 60)
    assert [each.read_bytes() for each in kept_copies(folder)] == [good]


def _ticks(ledger, count, at=NOON):
    with ledger._store.transaction():
        for number in range(count):
            ledger._store.change(
                "INSERT INTO tick (at, took_s, origin, exit_code) VALUES (?, 1, 'cron', 0)", at + number
            )


def test_old_ticks_go_in_bites_and_the_newest_thousand_stay(ledger):
    _ticks(ledger, KEEP_TICKS + BITE + 7)
    counts = []
    for _ in range(3):
        ledger.upkeep.prune(LATER)
        counts.append(len(ledger.ticks.seen(limit=10**6)))
    assert counts == [KEEP_TICKS + 7, KEEP_TICKS, KEEP_TICKS]
    assert ledger.ticks.seen(limit=1)[0].at == NOON + KEEP_TICKS + BITE + 6, "the newest is among them"


def test_a_tick_that_a_verdict_names_stays(ledger):
    named = ledger.ticks.commit(a_tick())
    _ticks(ledger, KEEP_TICKS + 5)
    ledger.upkeep.prune(LATER)
    assert named in {row.id for row in ledger.ticks.seen(limit=10**6)}
    assert ledger.ticks.verdicts()["eval-9d2k"] == a_verdict()
    assert ledger._store.rows("PRAGMA foreign_key_check") == []


def test_young_history_stays_however_much_it_is(ledger):
    _ticks(ledger, KEEP_TICKS + 50)
    ledger.upkeep.prune(NOON + HISTORY_S)
    assert len(ledger.ticks.seen(limit=10**6)) == KEEP_TICKS + 50


@pytest.mark.parametrize(
    ("states", "stays"),
    [
        (("sent",), False),
        (("dead",), False),
        (("sent", "dead"), False),
        (("due",), True),
        (("sent", "due"), True),
        ((), False),
    ],
    ids=str,
)
def test_an_old_event_goes_when_all_of_its_rows_have_ended(ledger, states, stays):  # P3
    ledger.ticks.commit(a_tick(an_event(), an_event("ev-new", at=LATER), targets=()))
    for number, state in enumerate(states):
        ledger._store.change(
            "INSERT INTO outbox (event_id, target, reference, due_at, state) VALUES ('ev-1', ?, 'env:X', ?, ?)",
            f"t{number}",
            NOON,
            state,
        )
    ledger.upkeep.prune(LATER)
    assert (ledger.outbox.event("ev-1") is not None) == stays
    assert ledger._store.rows("SELECT count(*) FROM outbox") == [(len(states) if stays else 0,)]
    assert ledger.outbox.event("ev-new") is not None


def test_an_intent_goes_when_its_outcome_is_old_and_never_before_it_has_one(ledger):
    told = ledger.intents.begin("train-k3f9", "launch", "start from 0", NOON)
    ledger.intents.begin("train-k3f9", "stop", "stop attempt 1", NOON)
    ledger.intents.done(told, "started: attempt 1", NOON + 1)
    ledger.upkeep.prune(LATER)
    assert ledger._store.rows("SELECT kind FROM intent") == [("stop",)]


def test_one_prune_does_bounded_work(ledger):
    events = [an_event(f"ev-{number}") for number in range(3 * BITE)]
    ledger.ticks.commit(a_tick(*events, targets=(HOOK,)))
    ledger._store.change("UPDATE outbox SET state = 'sent'")
    ledger.upkeep.prune(LATER)
    assert ledger._store.rows("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM outbox)") == [
        (2 * BITE, 2 * BITE)
    ]
