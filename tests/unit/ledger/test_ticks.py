"""One tick is one commit: all of it, or none of it, and no event twice."""

import pytest
from ledger_samples import HOOK, NOON, a_tick, a_verdict, an_event

from fleet.errors import LedgerError
from fleet.ledger.ledger import Ledger
from fleet.model.spec import TargetSpec
from fleet.model.verdict import Health, Severity


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as opened:
        yield opened


def test_a_tick_comes_back_whole(ledger):
    cursor = ledger.ticks.commit(a_tick(an_event()))
    assert ledger.ticks.verdicts() == {"eval-9d2k": a_verdict()}
    assert ledger.ticks.histories() == {"eval-9d2k": b'{"flaps":[]}'}
    assert ledger.ticks.incidents() == b'[{"row":"R-STALL-2"}]'
    (seen,) = ledger.ticks.seen()
    assert (seen.id, seen.at, seen.took_s, seen.origin, seen.exit_code) == (cursor, NOON, 1.4, "cron", 10)
    assert ledger.outbox.event("ev-1") == an_event()
    assert ledger.outbox.event("ev-2") is None
    (row,) = ledger.outbox.undelivered()
    assert (row.event, row.target, row.reference, row.state) == (an_event(), "hook", "env:HOOK_URL", "due")


def test_only_the_newest_verdict_and_history_of_a_run_is_kept(ledger):
    ledger.ticks.commit(a_tick())
    finished = a_verdict(health=Health.FINISHED, severity=Severity.NOTE)
    other = a_verdict("train-k3f9")
    tick = a_tick(at=NOON + 60)
    ledger.ticks.commit(
        type(tick)(NOON + 60, 1.0, "cron", 0, (finished, other), {"train-k3f9": b"{}"}, b"[]")
    )
    assert ledger.ticks.verdicts() == {"eval-9d2k": finished, "train-k3f9": other}
    assert set(ledger.ticks.histories()) == {"eval-9d2k", "train-k3f9"}
    assert ledger.ticks.incidents() == b"[]"


def test_the_cursor_only_grows_and_firings_are_told_by_origin(ledger):
    cursors = [ledger.ticks.commit(a_tick(at=NOON + n, origin=("cron", "terminal")[n % 2])) for n in range(5)]
    assert cursors == sorted(set(cursors))
    assert [row.at - NOON for row in ledger.ticks.seen("cron")] == [4, 2, 0]
    assert [row.id for row in ledger.ticks.seen(limit=2)] == cursors[:-3:-1]
    assert ledger.ticks.seen("systemd") == ()


TARGETS = (
    TargetSpec("phone", "env:PHONE", on=("page",)),
    TargetSpec("chat", "file:/home/me/chat", on=("page", "note")),
)


@pytest.mark.parametrize(
    ("severity", "told"),
    [(Severity.PAGE, ["chat", "phone"]), (Severity.NOTE, ["chat"]), (Severity.QUIET, [])],
)
def test_an_event_goes_to_the_targets_that_take_its_severity(ledger, severity, told):
    ledger.ticks.commit(a_tick(an_event(severity=severity), targets=TARGETS))
    assert sorted(row.target for row in ledger.outbox.undelivered()) == told


def test_a_tick_that_knows_no_spec_tells_whom_the_last_one_told(ledger):  # P3
    ledger.ticks.commit(a_tick(targets=TARGETS))
    ledger.ticks.commit(a_tick(an_event("ev-1"), targets=None))
    assert sorted(row.target for row in ledger.outbox.undelivered()) == ["chat", "phone"]
    ledger.ticks.commit(a_tick(targets=()))
    ledger.ticks.commit(a_tick(an_event("ev-2"), targets=None))
    assert {row.event.event_id for row in ledger.outbox.undelivered()} == {"ev-1"}


def test_the_same_event_id_is_queued_once_for_a_target(ledger):  # P4
    for at in (NOON, NOON + 60):
        ledger.ticks.commit(a_tick(an_event(), an_event(at=at), at=at))
    assert [row.event.at for row in ledger.outbox.undelivered()] == [NOON]


def test_without_the_unique_event_id_it_would_be_queued_twice(ledger):  # the guard, taken away
    ledger._store.change("PRAGMA foreign_keys = OFF")
    for name in ("event", "outbox"):
        (sql,) = ledger._store.rows("SELECT sql FROM sqlite_master WHERE name = ?", name)[0]
        loose = sql.replace("TEXT PRIMARY KEY", "TEXT").replace(
            ",\n        PRIMARY KEY (event_id, target)", ""
        )
        assert loose != sql
        ledger._store.change(f"DROP TABLE {name}")
        ledger._store.change(loose)
    for at in (NOON, NOON + 60):
        ledger.ticks.commit(a_tick(an_event(at=at), at=at))
    assert len(ledger.outbox.undelivered()) > 1


def test_a_tick_that_cannot_be_kept_whole_leaves_nothing(ledger):  # P8
    broken = TargetSpec("chat", None)  # breaks a rule of the table in the very last statement
    with pytest.raises(LedgerError, match="NOT NULL"):
        ledger.ticks.commit(a_tick(an_event(), targets=(HOOK, broken)))
    assert ledger.ticks.seen() == ()
    assert ledger.ticks.verdicts() == {}
    assert ledger.outbox.event("ev-1") is None
    ledger.ticks.commit(a_tick(an_event()))
    assert len(ledger.outbox.undelivered()) == 1
