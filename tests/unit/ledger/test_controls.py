"""What we told a loop, in the ledger: noted beside the patrol's events, told only to whom asked, and never left open."""

import pytest
from ledger_samples import a_run

from babysit.acts.controls import KIND, NO_RUN, control
from fleet.errors import LinkError, ProbeUnreadable, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Event
from fleet.ledger.unfinished import command, says
from fleet.model.probe import Cause, Unreachable
from fleet.model.spec import TargetSpec
from fleet.model.verdict import Severity

PAGER = TargetSpec("pager", "env:PAGER", on=("page",))
PHONE = TargetSpec("phone", "env:PHONE")


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        yield ledger


def outcomes(ledger):
    return [intent.outcome for intent in ledger.intents.open()], [
        (event.run_id, event.kind, event.title, event.body) for event in reversed(ledger.ticks.events())
    ]


def test_a_command_is_an_intent_until_it_is_known_how_it_went(ledger):  # R155
    with control(ledger, "train-a1", "ipc set lr=1\x1b[2J on gpu1") as under_way:
        (intent,) = ledger.intents.open()
        assert (intent.run_id, intent.kind, intent.text) == ("train-a1", KIND, "ipc set lr=1\\x1b[2J on gpu1")
        under_way.sent()
        under_way.done([("train-a1", "set lr = 1\n"), (NO_RUN, "b")])
    opened, events = outcomes(ledger)
    assert opened == [] and [event[:2] + event[3:] for event in events] == [
        ("train-a1", KIND, "set lr = 1\\x0a"), (NO_RUN, KIND, "b"),
    ]  # fmt: skip
    assert not ledger.outbox.undelivered()


@pytest.mark.parametrize(
    ("error", "sent", "open_", "says_"),
    [
        (UsageError("bad"), True, 0, "not done: bad"), (LinkError(Unreachable(Cause.REFUSED, "no", transient=True, at=0.0, took_s=0.0), where="gpu1"), False, 0, "not done: "),
        (LinkError(Unreachable(Cause.CUT, "cut", transient=True, at=0.0, took_s=0.0), where="gpu1"), True, 1, "nobody knows"), (ProbeUnreadable("x"), True, 1, "nobody knows"),
    ],
)  # fmt: skip
def test_what_failed_is_written_down_and_what_may_have_happened_stays_open(ledger, error, sent, open_, says_):
    with pytest.raises(type(error)), control(ledger, NO_RUN, "ipc break on gpu1") as under_way:  # noqa: PT012
        if sent:
            under_way.sent()
        raise error
    opened, events = outcomes(ledger)
    assert len(opened) == open_ and events[0][3].startswith(says_)


def test_what_was_cut_short_is_told_with_its_next_command_for_a_day(ledger):
    begun = ledger.intents.begin(NO_RUN, KIND, "ipc break train on gpu1", 1000.0)
    (intent,) = ledger.intents.open()
    assert says(intent, "break", 2000.0).startswith("unfinished: ipc break train on gpu1")
    assert command(intent, "break", "gpu1") == "babysit ipc gpu1 list"
    ledger.intents.let_go(1000.0 + 86400)
    assert [intent.id for intent in ledger.intents.open()] == [begun]
    ledger.intents.let_go(1000.0 + 86401)
    assert not ledger.intents.open()


def test_who_asked_is_told_whatever_else_he_wants_to_hear_of(ledger):
    ledger.runs.put(a_run())
    event = Event("loop-1", NO_RUN, "met", Severity.NOTE, 5.0, "gpu1: loss < 1", "seen")
    assert ledger.ticks.tell(event, (PAGER, PHONE)) == 2
    assert sorted(row.target for row in ledger.outbox.undelivered()) == ["pager", "phone"]
    # The targets of a call without a spec are those that were told last, as they were.
    assert ledger.ticks.tell(Event("loop-2", NO_RUN, "died", Severity.PAGE, 6.0, "t", "b"), None) == 2
    assert ledger.ticks.tell(event, (PAGER, PHONE)) == 2 and len(ledger.outbox.undelivered()) == 4
    assert [found.event_id for found in ledger.ticks.events(NO_RUN)] == ["loop-2", "loop-1"]
    assert ledger.ticks.events("other") == ()
