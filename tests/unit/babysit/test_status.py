"""status: with a run also what happened to it; without one, the newest commands."""

import json
from random import Random

import pytest
from ledger_samples import NOON, a_run, a_tick, an_event

from babysit.acts.controls import KIND, NO_RUN, control
from babysit.verbs import cli
from fleet import clock
from fleet.errors import NotFound
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import state_folder
from fleet.ledger.rows import Event
from fleet.model.verdict import Severity


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BABYSIT_STATE", str(tmp_path / "state"))
    with Ledger.open(state_folder(), write=True) as ledger:
        ledger.runs.put(a_run("train-a1"))
        ledger.runs.put(a_run("eval-9d2k", box="gpu2"))
        yield ledger


def command(ledger, at, run_id="train-a1", text="ipc set lr=1 on gpu1", says="done"):
    ledger.ticks.note(Event(f"e-{at}-{text}", run_id, KIND, Severity.QUIET, at, text, says))


def status(capsys, *words):
    assert cli.main(["status", *words], standalone_mode=False) == 0
    out = capsys.readouterr().out
    return json.loads(out) if "--json" in words else out.splitlines()


def test_a_run_tells_what_happened_to_it_and_to_loops_of_no_run_on_its_box(ledger, capsys):  # R155
    now = clock.now()
    ledger.ticks.commit(a_tick(an_event("ev-1", at=now - 7200), targets=()))
    command(ledger, now - 600)
    command(ledger, now - 300, NO_RUN, "ctl q lr on gpu1", "applied\x1b[2J")
    command(ledger, now - 200, NO_RUN, "ctl q lr on xgpu1", "elsewhere")
    command(ledger, now - 100, "eval-9d2k", "ipc break on gpu2")
    shown = status(capsys, "train")
    at = shown.index("What happened, newest last")
    assert shown[1].startswith("train ") and at == 2
    assert [" ".join(line.split()) for line in shown[at + 1 :]] == [
        "10 min ago command ipc set lr=1 on gpu1: done",
        "5 min ago command ctl q lr on gpu1: applied\\x1b[2J",
    ]
    of_eval = status(capsys, "eval", "--json")
    assert [event["by"] for event in of_eval["events"]] == ["patrol", "command"]
    assert [run["run"] for run in of_eval["runs"]] in ([], ["eval"])
    assert [event["title"] for event in status(capsys, "--json")["events"]] == [
        an_event().title, "ipc set lr=1 on gpu1", "ctl q lr on gpu1", "ctl q lr on xgpu1", "ipc break on gpu2",
    ]  # fmt: skip
    with pytest.raises(NotFound):
        cli.main(["status", "trian"], standalone_mode=False)


def test_no_more_is_told_than_a_screen_holds(ledger, capsys):
    now = clock.now()
    assert "Nothing has happened yet" in status(capsys, "train")[-1]
    assert not any("Commands" in line for line in status(capsys))
    for number in range(30):
        command(ledger, now - 1000 + number, text=f"ipc set n={number} on gpu1")
    command(ledger, now - 90_000, text="ipc set old=1 on gpu1")
    of_run, of_all = status(capsys, "train"), status(capsys)
    assert sum("command" in line for line in of_run) == 20 and "n=29" in of_run[-1] and "n=10" in of_run[3]
    assert of_all[-6:-5] == ["Commands given, newest last"] and "n=25" in of_all[-5]
    assert len(status(capsys, "train", "--json")["events"]) == 20


def test_a_command_of_days_ago_is_no_news_of_the_whole(ledger, capsys):
    command(ledger, clock.now() - 90_000)
    assert not any("Commands" in line for line in status(capsys))
    assert any("1 d 1 h ago" in line for line in status(capsys, "train"))


def test_a_notice_that_was_not_tried_waits_and_a_refused_one_says_why(ledger, capsys):
    ledger.ticks.commit(a_tick(an_event("ev-1")))

    def said():
        return " ".join(line.strip() for line in status(capsys) if "  " not in line.lstrip()).rpartition(
            "notice "
        )[2]

    waits, cure = "for eval-9d2k waits to be sent to hook", "babysit patrol --once sends it"
    assert said() == f"{waits} (not tried so far): {cure}"
    row = ledger.outbox.claim_due(NOON + 1, 60)
    assert said() == f"{waits} (1 try so far): {cure}"
    ledger.outbox.mark_failed(row, "connection refused", NOON + 2, Random(1))
    assert said() == "for eval-9d2k not delivered to hook (1 try): connection refused"


def test_a_command_however_long_is_found_by_its_box(ledger):
    long = f"ctl q lr {'x' * 400} on gpu1"
    with control(ledger, NO_RUN, long) as under_way:
        (intent,) = ledger.intents.open()
        assert intent.text.endswith("(line cut) on gpu1") and len(intent.text) < 240
        under_way.sent()
        under_way.done([(NO_RUN, "applied")])
    assert [event.title for event in ledger.ticks.events("train-a1", on="gpu1")] == [intent.text]
    assert ledger.ticks.events("train-a1") == () == ledger.ticks.events("train-a1", on="gpu2")
    assert ledger.ticks.events(kind="first") == () and len(ledger.ticks.events(kind=KIND)) == 1


def test_a_run_that_no_look_has_met_yet_stands_in_the_document_too(ledger, capsys):
    found = status(capsys, "--json")
    unseen = {"health": None, "next": ["babysit patrol --once"]}
    assert found["runs"] == [
        {"run": "train", "id": "train-a1", "box": "gpu1", **unseen},
        {"run": "eval", "id": "eval-9d2k", "box": "gpu2", **unseen},
    ]
    assert found["summary"] == "0 runs, none needs you; 2 runs not seen yet"
    ledger.ticks.commit(a_tick(targets=()))
    found = status(capsys, "--json")
    assert [(run["run"], run["health"]) for run in found["runs"]] == [("eval", "stalled"), ("train", None)]
    assert found["summary"] == "1 run, 1 needs you; 1 run not seen yet"
    assert status(capsys, "eval", "--json")["summary"] == "1 run, 1 needs you"
