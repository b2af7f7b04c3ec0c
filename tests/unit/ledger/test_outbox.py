"""Rows on their way: claimed by one at a time, repeated with growing pauses, given up in the end, never lost."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_samples import HOOK, NOON, a_tick, an_event

from fleet.ledger.ledger import Ledger
from fleet.ledger.outbox import ASKED_LEAST_S, BACK_OFF_S, GIVE_UP_AFTER_S, GONE_EVERY_S, Told
from fleet.model.spec import TargetSpec

LEASE_S = 30.0
TWO = (HOOK, TargetSpec("chat", "env:CHAT"))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as opened:
        yield opened


def test_a_claimed_row_is_nobody_elses_until_its_lease_ends(ledger):
    ledger.ticks.commit(a_tick(an_event()))
    assert ledger.outbox.claim_due(NOON - 1, LEASE_S) is None, "not due yet"
    row = ledger.outbox.claim_due(NOON, LEASE_S)
    assert (row.event.event_id, row.tries) == ("ev-1", 1)
    assert ledger.outbox.claim_due(NOON + LEASE_S - 1, LEASE_S) is None
    assert ledger.outbox.next_due(NOON) == NOON + LEASE_S
    again = ledger.outbox.claim_due(NOON + LEASE_S, LEASE_S)
    assert (again.event.event_id, again.tries) == ("ev-1", 2), "its courier died: same event, next try"


def test_what_was_sent_is_never_claimed_again(ledger):
    ledger.ticks.commit(a_tick(an_event()))
    ledger.outbox.mark_sent(ledger.outbox.claim_due(NOON, LEASE_S), NOON + 1)
    assert ledger.outbox.claim_due(NOON + 10**6, LEASE_S) is None
    assert ledger.outbox.undelivered() == ()
    assert ledger.outbox.next_due(NOON) is None


def test_pauses_grow_and_after_three_days_it_is_given_up(ledger):  # P3
    ledger.ticks.commit(a_tick(an_event()))
    now, pauses, state = NOON, [], "due"
    while state == "due":
        row = ledger.outbox.claim_due(now, LEASE_S)
        state = ledger.outbox.mark_failed(row, "refused", now, Random(7))
        if state == "due":
            due_at = ledger.outbox.next_due(now)
            assert ledger.outbox.claim_due(due_at - 1, LEASE_S) is None
            pauses.append(due_at - now)
            now = due_at
    expected = [*BACK_OFF_S, *[BACK_OFF_S[-1]] * (len(pauses) - len(BACK_OFF_S))]
    assert BACK_OFF_S == (30, 60, 120, 300, 900, 3600)
    assert all(base <= pause <= base * 1.25 for base, pause in zip(expected, pauses, strict=True))
    assert GIVE_UP_AFTER_S <= now - NOON <= GIVE_UP_AFTER_S + 3600 * 1.25
    (dead,) = ledger.outbox.undelivered()
    assert (dead.state, dead.error) == ("dead", "refused"), "given up, but still shown"
    assert ledger.outbox.claim_due(now + 10**6, LEASE_S) is None


def test_old_news_that_was_never_tried_gets_all_its_tries(ledger):
    ledger.ticks.commit(a_tick(an_event()))
    now = NOON + 5 * GIVE_UP_AFTER_S  # the machine slept
    for _ in BACK_OFF_S[:-1]:
        assert (
            ledger.outbox.mark_failed(ledger.outbox.claim_due(now, LEASE_S), "refused", now, Random(1))
            == "due"
        )
        now = ledger.outbox.next_due(now)
    assert (
        ledger.outbox.mark_failed(ledger.outbox.claim_due(now, LEASE_S), "refused", now, Random(1)) == "dead"
    )


def test_one_target_down_does_not_send_again_to_the_other(ledger):
    ledger.ticks.commit(a_tick(an_event(), targets=TWO))
    rows = [ledger.outbox.claim_due(NOON, LEASE_S) for _ in TWO]
    down, up = sorted(rows, key=lambda row: row.target == "hook")
    ledger.outbox.mark_sent(up, NOON)
    ledger.outbox.mark_failed(down, "refused", NOON, Random(1))
    later = ledger.outbox.claim_due(NOON + 3600, LEASE_S)
    assert later.target == down.target
    assert ledger.outbox.claim_due(NOON + 3600, LEASE_S) is None


def test_a_receiver_that_is_down_is_asked_once_not_once_a_row(ledger):
    ledger.ticks.commit(a_tick(*(an_event(f"ev-{n}") for n in range(5)), targets=TWO))
    row = ledger.outbox.claim_due(NOON, LEASE_S)
    ledger.outbox.mark_failed(row, "refused", NOON, Random(1))
    claimed = []
    while other := ledger.outbox.claim_due(NOON + 1, LEASE_S):
        claimed.append(other.target)
    assert len(claimed) == 5
    assert row.target not in claimed
    assert ledger.outbox.claim_due(NOON + BACK_OFF_S[0], LEASE_S).target == row.target


def test_a_late_word_of_an_old_claim_changes_nothing(ledger):
    ledger.ticks.commit(a_tick(an_event()))
    old = ledger.outbox.claim_due(NOON, LEASE_S)
    new = ledger.outbox.claim_due(NOON + LEASE_S, LEASE_S)
    ledger.outbox.mark_sent(new, NOON + LEASE_S)
    ledger.outbox.mark_failed(old, "too late", NOON + LEASE_S + 1, Random(1))
    assert ledger.outbox.undelivered() == ()


def test_the_least_tried_row_goes_first(ledger):
    ledger.ticks.commit(a_tick(an_event("ev-a")))
    poison = ledger.outbox.claim_due(NOON, LEASE_S)
    ledger.outbox.mark_failed(poison, "413 too large", NOON, Random(1))
    ledger.ticks.commit(a_tick(an_event("ev-b", at=NOON + 50), at=NOON + 50))
    assert ledger.outbox.claim_due(NOON + 100, LEASE_S).event.event_id == "ev-b"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(st.sampled_from(["sent", "failed", "killed"]), max_size=12), seed=st.integers(0, 999)
)
def test_whatever_happens_to_tries_a_row_is_waiting_sent_or_dead(tmp_path_factory, outcomes, seed):  # P3
    folder = tmp_path_factory.mktemp("outbox")
    with Ledger.open(folder, write=True) as ledger:
        ledger.ticks.commit(a_tick(*(an_event(f"ev-{n}") for n in range(3))))
        now, sent = NOON, []
        for outcome in outcomes:
            row = ledger.outbox.claim_due(now, LEASE_S)
            if row is None:
                due_at = ledger.outbox.next_due(now)
                if due_at is None:
                    break
                now = max(now, due_at)
                continue
            assert row.event.event_id not in sent
            if outcome == "sent":
                ledger.outbox.mark_sent(row, now)
                sent.append(row.event.event_id)
            elif outcome == "failed":
                ledger.outbox.mark_failed(row, "refused", now, Random(seed))
        waiting = [row.event.event_id for row in ledger.outbox.undelivered()]
        assert sorted(waiting + sent) == ["ev-0", "ev-1", "ev-2"]


def test_a_clock_that_was_set_back_holds_up_no_notice(ledger):  # P3
    """Tried, claimed and queued while the clock was a day ahead: all of it is due when it is right again."""
    day = 86400.0
    ledger.ticks.commit(a_tick(an_event("ev-a"), targets=TWO[:1], at=NOON + day))
    ledger.outbox.mark_failed(ledger.outbox.claim_due(NOON + day, LEASE_S), "refused", NOON + day, Random(1))
    ledger.ticks.commit(a_tick(an_event("ev-b", at=NOON + day), targets=TWO, at=NOON + day))
    assert ledger.outbox.claim_due(NOON + day, LEASE_S) is not None, "a courier that was killed with it"
    assert ledger.outbox.next_due(NOON) == NOON
    claimed = set()
    while row := ledger.outbox.claim_due(NOON, LEASE_S):
        claimed.add((row.event.event_id, row.target))
    assert claimed == {("ev-a", "hook"), ("ev-b", "hook"), ("ev-b", "chat")}


@pytest.mark.parametrize("wait_s", [5.0, 300.0, 3600.0])
def test_a_receiver_that_names_its_time_is_asked_then_and_not_earlier_by_any_row(ledger, wait_s):  # P3
    ledger.ticks.commit(a_tick(*(an_event(f"ev-{n}") for n in range(3)), targets=TWO[:1]))
    row = ledger.outbox.claim_due(NOON, LEASE_S)
    assert ledger.outbox.mark_failed(row, "HTTP 429", NOON, Random(1), Told(wait_s=wait_s)) == "due"
    ledger.ticks.commit(a_tick(an_event("ev-new"), targets=TWO[:1]))  # news that comes in the meantime
    assert ledger.outbox.claim_due(NOON + wait_s - 0.01, LEASE_S) is None
    assert ledger.outbox.next_due(NOON) == NOON + wait_s
    claimed = set()
    while other := ledger.outbox.claim_due(NOON + wait_s, LEASE_S):
        claimed.add(other.event.event_id)
    assert len(claimed) == 4


def test_a_receiver_that_always_names_a_short_time_is_asked_less_and_less(ledger):
    ledger.ticks.commit(a_tick(an_event()))
    now, pauses = NOON, []
    for _ in range(6):
        row = ledger.outbox.claim_due(now, LEASE_S)
        ledger.outbox.mark_failed(row, "HTTP 429", now, Random(1), Told(wait_s=0.0))
        pauses.append(ledger.outbox.next_due(now) - now)
        now = ledger.outbox.next_due(now)
    assert pauses[0] == ASKED_LEAST_S and pauses == sorted(pauses) and pauses[-1] >= BACK_OFF_S[-1]


def test_a_gone_receiver_is_asked_once_an_hour_and_gets_everything_when_it_is_back(ledger):  # P3
    ledger.ticks.commit(a_tick(*(an_event(f"ev-{n}") for n in range(3)), targets=TWO[:1]))
    row = ledger.outbox.claim_due(NOON, LEASE_S)
    ledger.outbox.mark_failed(row, "HTTP 404", NOON, Random(1), Told(gone=True))
    assert GONE_EVERY_S == 3600
    assert ledger.outbox.claim_due(NOON + GONE_EVERY_S - 1, LEASE_S) is None
    gone = [row for row in ledger.outbox.undelivered() if row.gone]
    assert [row.error for row in gone] == ["the receiver is gone: HTTP 404"]
    at = NOON + GONE_EVERY_S * 1.25
    ledger.outbox.mark_failed(
        ledger.outbox.claim_due(at, LEASE_S), "HTTP 404", at, Random(1), Told(gone=True)
    )
    at += GONE_EVERY_S * 1.25
    ledger.outbox.mark_sent(ledger.outbox.claim_due(at, LEASE_S), at)
    claimed = set()
    while other := ledger.outbox.claim_due(at, LEASE_S):
        claimed.add(other.event.event_id)
    assert len(claimed) == 2


def test_a_poisoned_row_does_not_hold_up_news_that_comes_later(ledger):
    ledger.ticks.commit(a_tick(an_event("ev-a"), targets=TWO[:1]))
    ledger.outbox.mark_failed(ledger.outbox.claim_due(NOON, LEASE_S), "413 too large", NOON, Random(1))
    ledger.ticks.commit(a_tick(an_event("ev-b"), targets=TWO[:1]))
    assert ledger.outbox.claim_due(NOON + 1, LEASE_S).event.event_id == "ev-b"
