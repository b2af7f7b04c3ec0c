"""From the outbox to a real receiver: at least once, one event id, and no receiver can hold anybody up."""

import contextlib
import email.utils
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from ledger_samples import NOON, a_tick, an_event
from processes import children, lives, stat
from receiver import receiver
from sshd import free_port
from waiting import wait_until

from babysit.acts.settle import undelivered
from fleet import clock
from fleet.errors import Busy
from fleet.ledger.ledger import Ledger
from fleet.ledger.lock import kernel_lock
from fleet.model.spec import TargetSpec
from fleet.model.verdict import Severity
from fleet.notices.courier import Delivered, deliver_due, start_detached

pytestmark = pytest.mark.timeout(300)

LIMIT_S = 12.0  # what a busy machine may need until a sender has sent
PATIENT_S = 60.0  # where no limit is to end anything
LATER_S = 7200.0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def target(tmp_path):
    """Makes a target whose URL lies in a private file."""

    def make(url, name="hook"):
        path = tmp_path / f"{name}.url"
        path.write_text(url + "\n")
        path.chmod(0o600)
        return TargetSpec(name, f"file:{path}")

    return make


@pytest.fixture
def detached() -> Iterator[list[int]]:
    """Pids of couriers and their children that a test started; all of them end with it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if lives(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _commit(folder, *events, targets):
    events = tuple(msgspec.structs.replace(event, at=clock.now()) for event in events)
    with Ledger.open(folder, write=True) as ledger:
        ledger.ticks.commit(a_tick(*events, targets=targets))


def _rows(folder):
    with Ledger.open(folder, write=False) as ledger:
        return ledger.outbox.undelivered()


def _later():
    return clock.now() + LATER_S


def test_a_notice_is_sent_once_with_its_event_id(folder, target):  # P3 P4 S14
    with receiver() as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(sent=1)
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered()
        (hit,) = hook.hits
    assert hit.path == "/hook"
    assert hit.json == {
        "version": "1.0",
        "title": "eval on gpu2: STALLED (no step for 26 min)",
        "message": "what was seen\nevent: ev-1",
        "attachments": [],
        "type": "failure",
        "event": "ev-1",
    }
    assert _rows(folder) == ()


@pytest.mark.parametrize(
    ("severity", "kind", "type_"),
    [
        (Severity.PAGE, "first", "failure"),
        (Severity.NOTE, "first", "warning"),
        (Severity.PAGE, "resolved", "success"),
    ],
)
def test_the_type_follows_what_it_means_for_the_reader(folder, target, severity, kind, type_):
    event = msgspec.structs.replace(an_event(severity=severity), kind=kind)
    with receiver() as hook:
        _commit(folder, event, targets=(target(hook.url()),))
        deliver_due(folder, limit_s=PATIENT_S)
        assert [hit.json["type"] for hit in hook.hits] == [type_]


def test_receiver_down_then_up_gets_it_with_the_same_event_id(folder, target):  # P3
    port = free_port()
    _commit(folder, an_event(), targets=(target(f"json://127.0.0.1:{port}/hook"),))
    assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(failed=1)
    (row,) = _rows(folder)
    assert (row.state, row.tries) == ("due", 1)
    assert "Connection error" in row.error
    with receiver(port=port) as back:
        early = deliver_due(folder, limit_s=PATIENT_S, now=lambda: row.due_at - 1)
        assert early == Delivered(), "not before its pause is over"
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered(sent=1)
        assert back.events() == ["ev-1"]
    assert _rows(folder) == ()


def test_news_that_newer_news_overtook_say_so(folder, target):  # P3
    """A receiver that was down gets the end of a stall first, and its beginning when that is due again."""
    stalled = an_event("ev-1", at=NOON)
    with receiver("500") as hook:
        _commit(folder, stalled, targets=(target(hook.url()),))
        deliver_due(folder, limit_s=PATIENT_S, now=lambda: NOON)
        hook.mode = "ok"
        _commit(folder, an_event("ev-2", at=NOON + 20), targets=(target(hook.url()),))
        deliver_due(folder, limit_s=PATIENT_S, now=lambda: NOON + 30)
        deliver_due(folder, limit_s=PATIENT_S, now=lambda: NOON + 300)
    first, newer, late = hook.hits
    assert [hit.json["event"] for hit in hook.hits] == ["ev-1", "ev-2", "ev-1"]
    assert first.json["title"] == newer.json["title"] == stalled.title
    assert late.json["title"] == f"late: {stalled.title}"
    assert "late: newer news of this run was sent before it" in late.json["message"]


def test_a_courier_that_stays_tries_again_by_itself(folder, target):
    began = clock.now() + 1
    shift = iter(range(0, 100_000, 40))  # each look at the clock is 40 s later: the pause is over at once
    with receiver("flaky") as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        counts = deliver_due(folder, limit_s=PATIENT_S, stays_s=600, now=lambda: began + next(shift))
        assert counts == Delivered(sent=1, failed=1)
        assert hook.events() == ["ev-1", "ev-1"]
        assert (
            hook.hits[1]
            .json["message"]
            .endswith("try 2: if you have seen this event id before, it is the same news")
        )


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("500", "error=500"),
        ("reset", "Connection error"),
        ("307", "error=307"),
        ("hang", "Connection error"),  # the library's own patience is over first
    ],
)
def test_what_a_receiver_does_is_said_and_it_is_asked_once(folder, target, mode, says):  # S13
    with receiver(mode) as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(failed=1)
        assert [hit.path for hit in hook.hits] == ["/hook"], "one request, and none to where it was sent on"
    (row,) = _rows(folder)
    assert says in row.error


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("no such scheme", "bad-url"),
        ("https://example.org/x", "bad-url"),
        ("json://", "bad-url"),
        ("json://a, json://b", "bad-url"),
    ],
)
def test_a_url_that_no_service_takes_is_marked_with_a_clear_word(folder, target, url, says):
    _commit(folder, an_event(), targets=(target(url),))
    assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(failed=1)
    (row,) = _rows(folder)
    assert row.error.startswith(says)
    assert url not in row.error


def test_a_reference_that_cannot_be_resolved_waits_to_be_mended(folder, target):
    with receiver() as hook:
        spec = target(hook.url())
        path = Path(spec.url.removeprefix("file:"))
        path.chmod(0o644)
        _commit(folder, an_event(), targets=(spec,))
        deliver_due(folder, limit_s=PATIENT_S)
        assert "can be read by others (mode 0644" in _rows(folder)[0].error
        path.chmod(0o600)
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered(sent=1)
        assert hook.events() == ["ev-1"]


def test_one_of_two_targets_down_does_not_send_again_to_the_other(folder, target):
    with receiver() as up, receiver("500") as down:
        _commit(folder, an_event(), targets=(target(up.url(), "up"), target(down.url(), "down")))
        assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(sent=1, failed=1)
        down.mode = "ok"
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered(sent=1)
        assert up.events() == ["ev-1"]
        assert down.events() == ["ev-1", "ev-1"]


def test_a_hanging_receiver_costs_one_limit_not_one_a_notice(folder, target):
    events = [an_event(f"ev-{number}") for number in range(6)]
    with receiver("hang") as stuck, receiver() as fine:
        _commit(folder, *events, targets=(target(stuck.url(), "a-stuck"), target(fine.url(), "fine")))
        at = (
            clock.now()
        )  # it stands still: what has failed does not fall due again, however long the rest takes
        counts = deliver_due(folder, limit_s=250, now=lambda: at)
        assert counts == Delivered(sent=6, failed=1)
        assert len(stuck.hits) == 1


def test_a_dripping_receiver_delays_nobody_and_its_sender_is_ended(folder, target, detached):  # P5
    with receiver("drip") as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        pid = start_detached(folder, limit_s=LIMIT_S, stays_s=0)
        assert lives(pid), "who starts it does not wait for its end, which is the limit's"
        detached.append(pid)
        wait_until(lambda: hook.hits, 60, "the detached courier's request")
        senders = children(pid)
        detached += senders
        assert len(senders) == 1
        wait_until(lambda: not lives(pid), 60, "the end of the courier")
        assert not any(lives(sender) for sender in senders), "the sender outlived its limit"
        assert [hit.path for hit in hook.hits] == ["/hook"]
    (row,) = _rows(folder)
    assert row.error == f"the receiver took longer than {LIMIT_S:g} s: ended"


def test_a_detached_courier_is_nobodys_child_and_knows_no_terminal(folder, target, detached):
    with receiver("drip") as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        pid = start_detached(folder, limit_s=PATIENT_S, stays_s=0)
        detached.append(pid)
        wait_until(lambda: hook.hits, 60, "the detached courier's request")
        assert pid not in children(os.getpid())
        _, _, _, session, terminal = stat(pid)[:5]
        assert int(session) != os.getsid(0), "a session of its own"
        assert terminal == "0", "no terminal"
        streams = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)}
        assert streams == {"/dev/null"}
        hook.release.set()
        wait_until(lambda: not lives(pid), 60, "the end of the courier")


def test_only_one_courier_at_a_time(folder, target):
    with receiver() as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        with kernel_lock(folder / "courier.lock", what="another courier"), pytest.raises(Busy):
            deliver_due(folder, limit_s=PATIENT_S)
        assert hook.hits == []


def test_a_courier_killed_in_the_middle_of_a_send_loses_nothing(folder, target, detached):  # P3 P4
    with receiver("drip") as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        pid = start_detached(folder, limit_s=LIMIT_S)
        detached.append(pid)
        wait_until(lambda: hook.hits, 60, "the request of the courier that will be killed")
        (sender,) = children(pid)
        detached.append(sender)
        at = clock.now()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(sender), 60, "the orphaned sender ends by itself")
        hook.mode = "ok"
        assert deliver_due(folder, limit_s=PATIENT_S, now=lambda: at) == Delivered(), "its lease still holds"
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered(sent=1)
        assert hook.events() == ["ev-1", "ev-1"]
        assert "try 2" in hook.hits[1].json["message"]
    assert _rows(folder) == ()


def test_a_courier_killed_between_send_and_mark_repeats_it_marked(folder, target, detached):  # P4
    with receiver("held") as hook:
        _commit(folder, an_event(), targets=(target(hook.url()),))
        pid = start_detached(folder, limit_s=PATIENT_S)
        detached.append(pid)
        wait_until(lambda: hook.hits, 60, "the request of the courier that will be killed")
        os.kill(pid, signal.SIGKILL)  # the receiver has it, the ledger does not know
        hook.release.set()
        assert len(_rows(folder)) == 1
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered(sent=1)
        assert deliver_due(folder, limit_s=PATIENT_S, now=_later) == Delivered()
        assert hook.events() == ["ev-1", "ev-1"]
        assert [("try 2" in hit.json["message"]) for hit in hook.hits] == [False, True]


def test_the_same_news_committed_twice_is_one_message(folder, target):  # P4
    with receiver() as hook:
        for _ in range(2):
            _commit(folder, an_event(), targets=(target(hook.url()),))
            deliver_due(folder, limit_s=PATIENT_S)
        assert hook.events() == ["ev-1"]


def test_without_a_stable_event_id_the_receiver_gets_doubles(folder, target):  # the guard, taken away
    with receiver() as hook:
        for attempt in range(2):
            _commit(folder, an_event(f"ev-{attempt}"), targets=(target(hook.url()),))
            deliver_due(folder, limit_s=PATIENT_S)
        assert len(hook.hits) == 2


DATE = "Sun, 22 Nov 2026 08:00:00 GMT"
DATE_AT = 1795334400.0


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("120", 0.0, 120.0),
        (" 7 ", 0.0, 7.0),
        ("0", 0.0, 0.0),
        ("999999", 0.0, 3600.0),
        ("9" * 5000, 0.0, 3600.0),
        (DATE, DATE_AT - 600, 600.0),
        (DATE, DATE_AT + 600, 0.0),
        (DATE, DATE_AT - 10**6, 3600.0),
        *((text, 0.0, None) for text in (None, "", "soon", "-5", "1.5", "\u0663", "1e3", "Sun, 99 Nov 2026")),
    ],
)
def test_when_a_receiver_wants_to_be_asked_again(text, now, expected):
    from fleet.notices.send import wait_of

    assert wait_of(text, now) == expected


@pytest.mark.parametrize(
    ("status", "retry_after", "after_s"),
    [(429, "120", (120, 120)), (503, "@600", (598, 600)), (429, "soon", (30, 38)), (500, "700", (30, 38))],
)
def test_a_receiver_that_says_when_is_asked_again_then(folder, target, status, retry_after, after_s):  # P3
    least, most = after_s
    with receiver() as hook:
        before = clock.now()
        date = email.utils.formatdate(time.time() + 600, usegmt=True)
        hook.mode, hook.status, hook.retry_after = "wait", status, retry_after.replace("@600", date)
        _commit(folder, an_event(), targets=(target(hook.url()),))
        assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(failed=1)
        took = clock.now() - before
        (row,) = _rows(folder)
        # A date is a time of its own; seconds count from the answer, which came some time after `before`.
        assert before + least - 1 <= row.due_at <= before + most + took + 1
        assert deliver_due(folder, limit_s=PATIENT_S, now=lambda: row.due_at - 0.01) == Delivered()
        assert str(status) in row.error
        assert len(hook.hits) == 1
        hook.mode = "ok"
        assert deliver_due(folder, limit_s=PATIENT_S, now=lambda: row.due_at) == Delivered(sent=1)


@pytest.mark.parametrize("status", [404, 410])
def test_a_receiver_that_is_gone_is_said_and_asked_slowly(folder, target, status):  # P3
    with receiver() as hook:
        hook.mode, hook.status = "gone", status
        _commit(folder, an_event(), targets=(target(hook.url()),))
        assert deliver_due(folder, limit_s=PATIENT_S) == Delivered(failed=1)
        (row,) = _rows(folder)
        assert row.gone and row.error.startswith(f"the receiver is gone: HTTP {status}")
        assert row.due_at >= clock.now() + 3500
        with Ledger.open(folder, write=False) as ledger:
            (told,) = undelivered(ledger)
        assert "'hook' is gone" in told.what and f"HTTP {status}" in told.what
        assert told.next == ("babysit doctor",)
