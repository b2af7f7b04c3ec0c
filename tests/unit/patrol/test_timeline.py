"""What happened to a run, in order of time: told by the patrol, or commanded by somebody."""

import json

import pytest
from unit.patrol.build import NOW

from fleet.ledger.rows import Event
from fleet.model.verdict import Severity
from patrol.timeline import document, lines

STALL = Event(
    "e1", "train-k3f9", "first", Severity.PAGE, NOW - 7200, "train on gpu1: STALLED (no step)", "x\ny"
)
SET = Event(
    "e2", "train-k3f9", "steer", Severity.QUIET, NOW - 720, "ipc set lr=0.0001 on gpu1", "train (pid 7): lr = 0.0001 at iteration 900",
)  # fmt: skip
ORDER = Event("e3", "-", "steer", Severity.QUIET, NOW - 60, "ctl q optim lr on gpu1", "applied")
MET = Event("e4", "train-k3f9", "met", Severity.NOTE, NOW - 5, "gpu1: loss < 1", "loop (untrusted): seen")


def test_commands_stand_beside_what_the_patrol_told_in_order_of_time():  # R155
    assert list(lines((MET, ORDER, SET, STALL), NOW)) == [
        "  2 h ago        patrol   train on gpu1: STALLED (no step)",
        "  12 min ago     command  ipc set lr=0.0001 on gpu1: train (pid 7): lr = 0.0001",
        "                          at iteration 900",
        "  1 min ago      command  ctl q optim lr on gpu1: applied",
        "  5 s ago        notify   gpu1: loss < 1",
    ]
    told = document((MET, ORDER, SET, STALL))
    assert [(each["by"], each["run"]) for each in told] == [
        ("patrol", "train-k3f9"), ("command", "train-k3f9"), ("command", None), ("notify", "train-k3f9"),
    ]  # fmt: skip
    assert told[0]["untrusted_says"] is None and told[1]["untrusted_says"].endswith("at iteration 900")
    assert told[1]["at"] == "2027-01-15T07:48:00+00:00"


@pytest.mark.parametrize(
    "text", ["\x1b]52;c;AAAA\x07", "x" * 5000, "a\nnext: babysit stop all", "\u202e" * 90, ""]
)
def test_the_words_of_a_loop_stay_on_their_lines_and_act_on_nothing(text):  # S25
    event = Event("e", "-", "steer", Severity.QUIET, NOW - 86400 * 400, f"ipc set {text} on gpu1", text)
    shown = list(lines((event, event), NOW))
    assert all(len(line) <= 80 and line.isprintable() for line in shown) and len(shown) <= 60
    assert all(line[:2] == "  " for line in shown)
    assert "\\u001b" not in json.dumps(document((event,))) and len(json.dumps(document((event,)))) < 4000
