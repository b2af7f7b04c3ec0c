"""What is true, what was believed and is wrong, and the one next command: by table, over every health."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysit.verbs import VERBS
from fleet.model.verdict import TERMINAL, Health, Progress
from fleet.text.untrusted import render_untrusted
from handbook.reconcile import STEPS, WaiterBelief, document, reconcile, say
from patrol.table import TABLE

# What a brand-new person is told to type for one run in each health, on attempt 1 of 3.
NEXT = {
    Health.QUEUED: "babysit resume gpu1 train --yes",
    Health.STARTING: "babysit watch gpu1 train",
    Health.RUNNING: "babysit watch gpu1 train",
    Health.SLOW: "babysit watch gpu1 train",
    Health.STALLED: "babysit logs gpu1 train",
    Health.AT_RISK: "babysit logs gpu1 train",
    Health.ORPHANED: "babysit stop gpu1 train",
    Health.FAILED: "babysit resume gpu1 train --yes",
    Health.VANISHED: "babysit resume gpu1 train --yes",
    Health.INTERRUPTED: "babysit resume gpu1 train --yes",
    Health.PREEMPTED: "babysit resume gpu1 train --yes",
    Health.FINISHED: "babysit logs gpu1 train",
    Health.STOPPED: "babysit resume gpu1 train --yes",
    Health.SUPERSEDED: "babysit resume gpu1 train-new",
    Health.LOST: "babysit resume gpu1 train",
    Health.UNREACHABLE: "babysit resume gpu1 train",
    Health.UNKNOWN: "babysit resume gpu1 train",
}


def one(make, health, *, before=None, waiters=(), armed=(), **other):
    run = make.run(superseded_by="train-new" if health is Health.SUPERSEDED else None)
    old = {} if before is None else {run.run_id: before}
    return reconcile((run,), old, {run.run_id: make.verdict(health, **other)}, waiters, armed, make.now)


def several(make, **healths):
    runs = tuple(make.run(run_id=f"{name}-1", spec_name=name) for name in healths)
    fresh = {
        f"{name}-1": make.verdict(health, run_id=f"{name}-1", run=name) for name, health in healths.items()
    }
    return reconcile(runs, {}, fresh, (), (), make.now)


@pytest.mark.parametrize("health", list(Health))
def test_every_health_has_one_next_command(health, make):  # R100 R83 R90
    truth = one(make, health)
    assert truth.next.command == NEXT[health]
    assert shlex.split(truth.next.command)[1] in VERBS
    assert sum(health in healths for healths, _ in STEPS) == 1


def test_a_resumable_run_says_where_from_and_which_attempt(make):  # R100 R83
    says = one(make, Health.INTERRUPTED).next.says
    assert says == "continue train from its last stamped stage and checkpoint, attempt 2 of 3"


@pytest.mark.parametrize("health", [Health.FAILED, Health.VANISHED, Health.INTERRUPTED, Health.STOPPED])
def test_with_the_budget_used_up_no_start_is_proposed(health, make):  # R90
    truth = one(make, health, attempt=3)
    assert truth.next.command == "babysit logs gpu1 train"
    assert "all 3 starts" in truth.next.says


def test_a_run_that_never_started_is_started(make):
    assert one(make, Health.QUEUED, attempt=None).next.says == "start train, attempt 1 of 3"


@pytest.mark.parametrize(
    ("health", "advised"),
    [
        (Health.FAILED, ("babysit stop gpu1 train", "babysit logs gpu1 train")),
        (Health.UNREACHABLE, ("babysit trust gpu1 --fingerprint SHA256:abc",)),
        (Health.LOST, ("babysit patrol --once",)),
        (Health.FINISHED, ("babysit logs gpu1 train",)),
    ],
)
def test_what_the_table_advises_first_is_followed(health, advised, make):
    assert one(make, health, next=advised).next.command == advised[0]


def test_whoever_looks_is_not_sent_to_look_again(make):
    advised = ("babysit resume gpu1 train",)
    assert one(make, Health.QUEUED, attempt=None, next=advised).next.command == "babysit arm gpu1 train"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_no_row_of_the_table_is_contradicted(row, make):
    """A start is proposed only where the row advises one; otherwise the row's command or a harmless one."""
    texts = {"c.run": "train", "c.box": "gpu1", "c.ssh": "gpu1", "c.trust": "babysit trust gpu1"}
    advised = []
    for command in row.next:
        for name, text in texts.items():
            command = command.replace(f"{{{name}}}", text)  # noqa: PLW2901 - filled in step by step
        advised.append(command)
    proposed = one(make, row.health, next=tuple(advised)).next.command
    once = "babysit arm gpu1 train" if advised[:1] == ["babysit resume gpu1 train"] else advised[0]
    assert proposed in (*advised, once, "babysit watch gpu1 train")
    if " --yes" in proposed:
        assert proposed in advised


def test_of_several_runs_the_most_urgent_is_named(make):
    order = [
        ("failed", Health.FAILED),
        ("orphan", Health.ORPHANED),
        ("stalled", Health.STALLED),
        ("away", Health.UNREACHABLE),
        ("unknown", Health.UNKNOWN),
        ("stopped", Health.STOPPED),
        ("running", Health.RUNNING),
        ("finished", Health.FINISHED),
    ]
    for first in range(len(order)):
        truth = several(make, **dict(reversed(order[first:])))
        assert [each.run.name for each in truth.runs] == [name for name, _ in order[first:]]
        assert order[first][0] in truth.next.command


def test_what_can_still_be_started_goes_before_what_cannot(make):
    runs = (make.run(run_id="a-1", spec_name="a"), make.run(run_id="b-1", spec_name="b"))
    fresh = {
        "a-1": make.verdict(run_id="a-1", run="a", attempt=3),
        "b-1": make.verdict(run_id="b-1", run="b", attempt=1),
    }
    assert reconcile(runs, {}, fresh, (), (), make.now).next.command == "babysit resume gpu1 b --yes"


def test_a_belief_that_the_box_refutes_is_named(make):  # R113
    before = make.verdict(Health.RUNNING, facts_at=make.now - 1860)
    truth = one(make, Health.INTERRUPTED, before=before)
    assert truth.believed_and_wrong == ("train was running, seen 31 min ago: it is interrupted",)


@pytest.mark.parametrize("health", [Health.UNREACHABLE, Health.UNKNOWN])
def test_a_box_that_does_not_answer_refutes_nothing(health, make):  # R14
    before = make.verdict(Health.RUNNING, facts_at=make.now - 1860)
    assert one(make, health, before=before).believed_and_wrong == ()


def test_what_is_still_so_is_not_called_wrong(make):
    assert one(make, Health.RUNNING, before=make.verdict(Health.RUNNING)).believed_and_wrong == ()


def test_another_attempt_is_news_even_in_the_same_health(make):
    truth = one(make, Health.RUNNING, attempt=2, before=make.verdict(Health.RUNNING, attempt=1))
    assert "attempt 1, now 2" in truth.believed_and_wrong[0]


@pytest.mark.parametrize(
    ("waiter", "health", "says"),
    [
        ({"alive": False}, Health.RUNNING, "sentinel 4127 on this machine for train: gone, started 2 h ago"),
        ({"alive": False, "last_seen": -600.0}, Health.RUNNING, "last seen 10 min ago"),
        ({"alive": True}, Health.FINISHED, "still waits, and the run is finished"),
        ({"alive": False, "run_id": "other-1"}, Health.RUNNING, "for other-1: gone"),
        ({"alive": True, "run_id": "other-1"}, Health.RUNNING, None),
        ({"alive": True}, Health.RUNNING, None),
        ({"alive": True}, Health.UNREACHABLE, None),
    ],
)
def test_a_sentinel_that_waits_for_nothing_is_named(waiter, health, says, make):  # R113
    values = {"pid": 4127, "run_id": "train-k3f9", "started_at": make.now - 7200, **waiter}
    if values.get("last_seen"):
        values["last_seen"] += make.now
    found = one(make, health, waiters=(WaiterBelief(**values),)).believed_and_wrong
    assert (says in found[0]) if says else found == ()


def test_the_screen_has_truth_belief_and_one_command(make):
    before = make.verdict(Health.RUNNING, facts_at=make.now - 1860)
    waiter = WaiterBelief(4127, "train-k3f9", make.now - 7200, alive=False)
    assert say(one(make, Health.FAILED, before=before, waiters=(waiter,))) == [
        "Truth (probed just now)",
        "  train  gpu1  failed  stage train was killed by signal 9 · 4 min ago",
        "Believed, and wrong",
        "  train was running, seen 31 min ago: it is failed",
        "  sentinel 4127 on this machine for train: gone, started 2 h ago",
        "Next",
        "  babysit resume gpu1 train --yes",
        "      continue train from its last stamped stage and checkpoint, attempt 2 of 3",
    ]


@pytest.mark.parametrize("health", list(Health))
@pytest.mark.parametrize("armed", [(), ("cron 03:33, last fired 22 min ago",)])
def test_the_screen_says_what_watches_while_anything_can_change(armed, health, make):  # R30
    screen = say(one(make, health, armed=armed))
    if armed:
        assert screen[screen.index("Armed") + 1] == f"  {armed[0]}"
    assert ("Nothing is watching." in screen) == (not armed and health not in TERMINAL)


def test_with_no_run_the_screen_says_how_to_begin(make):
    truth = reconcile((), {}, {}, (), (), make.now)
    assert say(truth)[-2:] == ["  babysit arm BOX RUN -- COMMAND", "      no run is armed"]
    assert document(truth)["exit_code"] == 0


def test_a_run_that_was_not_asked_about_is_not_judged(make):
    truth = reconcile((make.run(),), {}, {}, (), (), make.now)
    assert truth.truth == ("train  gpu1  not asked",)
    assert document(truth)["runs"][0]["health"] is None
    assert "Nothing is watching." in say(truth)


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_the_screen_keeps_to_80_columns_and_lets_nothing_act(make, summary, source, armed):  # S23
    truth = one(make, Health.FAILED, summary=summary, row=source, armed=armed)
    for line in say(truth):
        assert len(line) <= 80
        assert line.isprintable()
    assert truth.next.command == "babysit resume gpu1 train --yes"


@given(st.text(), st.text())
def test_text_from_the_box_never_steers_what_comes_next(make, last, unit):  # S25 S26
    progress = Progress(index=3, total=9, unit=unit, values=(("loss", last),))
    quiet, loud = one(make, Health.FAILED), one(make, Health.FAILED, last_line=last, progress=progress)
    assert (loud.next, loud.truth, say(loud)) == (quiet.next, quiet.truth, say(quiet))
    shown = document(loud)
    assert shown["runs"][0]["untrusted_last_line"] == render_untrusted(last, 200)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_the_document_holds_the_keys_that_programs_read(make):
    progress = Progress(index=37, total=90, unit="epoch", last_step_at=make.now - 60, usual_step_s=40.0)
    shown = document(one(make, Health.RUNNING, exit_code=0, progress=progress, facts_at=make.now))
    assert shown["schema"] == "babysit.resume/1"
    assert (shown["ok"], shown["exit_code"], shown["at"]) == (True, 0, "2026-11-18T11:06:40+00:00")
    run = shown["runs"][0]
    assert (run["run"], run["id"], run["box"], run["health"]) == ("train", "train-k3f9", "gpu1", "running")
    assert run["progress"] == {
        "index": 37,
        "total": 90,
        "unit": "epoch",
        "eta_s": None,
        "last_step_at": "2026-11-18T11:05:40+00:00",
        "usual_step_s": 40.0,
    }
    assert run["evidence"][0]["observed_at"] == "2026-11-18T11:02:40+00:00"
    assert shown["next"] == ["babysit watch gpu1 train"]


def test_the_document_takes_the_worst_exit_code_first(make):
    runs = (make.run(run_id="a-1", spec_name="a"), make.run(run_id="b-1", spec_name="b"))
    fresh = {
        "a-1": make.verdict(Health.UNREACHABLE, run_id="a-1", exit_code=11),
        "b-1": make.verdict(Health.STALLED, run_id="b-1", exit_code=10),
    }
    assert document(reconcile(runs, {}, fresh, (), (), make.now))["exit_code"] == 10
