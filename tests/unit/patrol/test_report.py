import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.patrol.build import NOW, run

from fleet.model.probe import Cause
from fleet.model.verdict import TERMINAL, Evidence, Health, Progress, Severity, Verdict
from patrol.history import History
from patrol.report import document, iso, lines, summary
from patrol.status import rings, sparkline, status_table

DASH = "\N{EN DASH}"
EVIL = "\x1b[2J\x1b]0;pwned\x07\u202eevil\n"


def verdict(name="train", health=Health.RUNNING, **changed):
    values = {
        "run_id": f"{name}-k3f9", "run": name, "box": "gpu1", "row": "R-RUN-1", "health": health,
        "severity": Severity.QUIET, "exit_code": 0,
        "summary": "epoch 37/90 · loss 0.412 · ETA 3 h 10 min · GPU 94 %", "since": NOW - 60, "facts_at": NOW,
        "attempt": 1, "evidence": (Evidence("log", NOW, "84 kB, last written now"),),
        "next": ("babysit logs gpu1 train",),
    }  # fmt: skip
    return Verdict(**{**values, **changed})


STALLED = verdict(
    "eval", Health.STALLED, box="gpu2", row="R-STALL-1", severity=Severity.PAGE, exit_code=10,
    summary="no new step for 26 min (usual: 40 s) · epoch 12/40 · GPU 0 % · log and artifacts still",
    next=("babysit logs gpu2 eval", "babysit stop eval"), last_line="Epoch 12/40",
)  # fmt: skip
AWAY = verdict(
    "sweep", Health.UNREACHABLE, box="gpu3", row="R-LINK-2", severity=Severity.NOTE, exit_code=11,
    summary="2nd tick · port open but no SSH · last seen running 31 min ago · only you can see the console: balance, power, preemption",
    facts_at=NOW - 1860,
)  # fmt: skip


def test_the_screen():  # R80 P10
    assert lines([verdict(), STALLED, AWAY], NOW) == [
        "train   gpu1  running     epoch 37/90 · loss 0.412 · ETA 3 h 10 min · GPU 94 %",
        "        now",
        "eval    gpu2  STALLED     no new step for 26 min (usual: 40 s) · epoch 12/40",
        "        GPU 0 % · log and artifacts still · now",
        "        why R-STALL-1       next: babysit logs gpu2 eval",
        '        last line "Epoch 12/40"',
        "sweep   gpu3  unreachable 2nd tick · port open but no SSH",
        "        last seen running 31 min ago",
        "        only you can see the console: balance, power, preemption · 31 min ago",
    ]
    assert summary([verdict(), STALLED, AWAY]) == "3 runs, 1 needs you"
    assert summary([STALLED, STALLED]) == "2 runs, 2 need you"
    assert summary([verdict()]) == "1 run, none needs you"
    assert lines([], NOW) == []


def test_what_is_over_says_of_which_moment_its_sentence_is():
    over = verdict(health=Health.FINISHED, summary="ended 56 s ago", facts_at=NOW - 720)
    assert lines([over], NOW) == ["train   gpu1  finished    ended 56 s ago · seen 12 min ago"]
    assert lines([over], NOW - 718)[0].endswith("ended 56 s ago · now")


def test_every_run_has_a_line_even_when_nothing_changed():  # R80 P10
    names = ["a", "b", "c"]
    shown = lines([verdict(name) for name in names], NOW)
    assert [line.split()[0] for line in shown if not line.startswith(" ")] == names


texts = st.text(max_size=60)
verdicts = st.builds(
    verdict,
    name=texts,
    health=st.sampled_from(list(Health)),
    box=texts,
    severity=st.sampled_from(list(Severity)),
    summary=st.lists(texts, max_size=4).map(" · ".join),
    facts_at=st.one_of(st.none(), st.floats(0, 2e9)),
    last_line=st.one_of(st.none(), texts),
    progress=st.one_of(st.none(), st.builds(Progress, st.one_of(st.none(), st.integers(0, 10**12)), st.one_of(st.none(), st.integers(0, 99)))),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(verdicts, max_size=3), st.integers(60, 120))
def test_no_line_is_wider_than_the_screen(found, width):
    for line in lines(found, NOW, width=width):
        assert len(line) <= width
    for line in status_table(
        [run()],
        dict.fromkeys(["train-k3f9"], found[0]) if found else {},
        {"train-k3f9": (1, 2, 3)},
        {"train-k3f9": ["cron 03:33"]},
        NOW,
        width=width,
    ):
        assert len(line) <= width


def test_what_a_box_wrote_cannot_act_on_a_screen_and_stands_only_at_the_end_of_a_line():  # S23 S25
    shown = lines([verdict(health=Health.FAILED, severity=Severity.PAGE, last_line=EVIL)], NOW)
    assert not [line for line in shown if "\x1b" in line or "\x07" in line or "\u202e" in line]
    assert shown[-1].strip().startswith('last line "\\x1b[2J')
    assert shown[-1].endswith('"')
    found = document([verdict(last_line=EVIL)], at=NOW, cursor=None, exit_code=0)
    assert found["runs"][0]["untrusted_last_line"].startswith("\\x1b[2J")
    assert "\\u001b" not in json.dumps(found)


def test_the_document_has_exactly_the_promised_keys():
    progress = Progress(12, 40, "epoch", (("loss", "0.4"),), NOW - 1560, 40.0, None)
    found = document(
        [msgspec.structs.replace(STALLED, progress=progress)], at=NOW, cursor="8812", exit_code=10
    )
    assert list(found) == ["schema", "ok", "at", "exit_code", "cursor", "summary", "runs", "errors"]
    assert (found["schema"], found["ok"], found["exit_code"]) == ("babysit.patrol/1", True, 10)
    assert found["at"] == "2027-01-15T08:00:00+00:00"
    assert found["runs"] == [
        {
            "run": "eval", "id": "eval-k3f9", "box": "gpu2", "health": "stalled", "row": "R-STALL-1", "severity": "page",
            "says": STALLED.summary, "budget": None,
            "since": "2027-01-15T07:59:00+00:00", "facts_at": "2027-01-15T08:00:00+00:00", "attempt": 1,
            "strict_kex": None,
            "progress": {"index": 12, "total": 40, "unit": "epoch", "eta_s": None, "last_step_at": "2027-01-15T07:34:00+00:00", "usual_step_s": 40.0},
            "loops": [],
            "broken_off": None,
            "usage": None,
            "evidence": [{"source": "log", "observed_at": "2027-01-15T08:00:00+00:00", "says": "84 kB, last written now"}],
            "untrusted_last_line": "Epoch 12/40", "untrusted_last_lines": [], "next": ["babysit logs gpu2 eval", "babysit stop eval"],
        }
    ]  # fmt: skip


def test_a_failed_run_shows_its_last_lines_above_the_last_one():
    log = (
        "step 1",
        "Traceback (most recent call last):",
        '  File "t.py", line 3, in f',
        "KeyError: 'x'\x1b[2J",
    )
    shown = lines(
        [verdict(health=Health.FAILED, severity=Severity.PAGE, last_lines=log, last_line=log[-1])], NOW
    )
    assert [line.strip() for line in shown[-4:]] == [
        'log       "step 1"',
        'log       "Traceback (most recent call last):"',
        'log       "  File "t.py", line 3, in f"',
        """last line "KeyError: 'x'\\x1b[2J\"""",
    ]
    assert (
        document([verdict(last_lines=log)], at=None, cursor=None, exit_code=0)["runs"][0][
            "untrusted_last_lines"
        ][0]
        == "step 1"
    )


def test_a_long_last_line_is_shown_whole_on_more_lines_and_a_huge_one_is_cut():
    said = "/home/dev/.local/state/babysit/runs/train-k3f9a/stages/01-train.sh: line 1: trainer: command not found"
    failed = verdict(health=Health.FAILED, severity=Severity.PAGE, last_line=said)
    shown = lines([failed], NOW)
    assert all(len(line) <= 80 for line in shown)
    assert "".join(line.strip() for line in shown[-2:]) == f'last line "{said}"'
    huge = lines([verdict(health=Health.FAILED, severity=Severity.PAGE, last_line="x" * 9000)], NOW)
    assert (
        len(huge)
        == len(lines([verdict(health=Health.FAILED, severity=Severity.PAGE, last_line="x")], NOW)) + 2
    )
    assert huge[-1].endswith('…"')


def test_what_is_not_known_is_null_and_never_zero():  # R56
    found = document([verdict(facts_at=None, attempt=None)], at=None, cursor=None, exit_code=0)
    assert (found["at"], found["cursor"]) == (None, None)
    assert [found["runs"][0][key] for key in ("facts_at", "attempt", "progress", "untrusted_last_line")] == [
        None
    ] * 4
    assert iso(1e30) is None
    assert document([], at=NOW, cursor="1", exit_code=0, errors=({"code": "BS-BUG"},))["ok"] is False


def test_the_status_table():
    runs = [run("train"), run("eval"), run("sweep")]
    known = {
        "train-k3f9": verdict(facts_at=NOW - 720, progress=Progress(37, 90, "epoch", eta_s=11400.0), evidence=(Evidence("gpu", NOW, "GPU 94 %, 1 GB of memory used"),)),
        "eval-k3f9": msgspec.structs.replace(STALLED, facts_at=NOW - 720, progress=Progress(12, 40, "epoch")),
    }  # fmt: skip
    recent = {"train-k3f9": (30, 33, 35, 36, 37), "eval-k3f9": (12,)}
    armed = {each.run_id: ["cron 03:33"] for each in runs}
    armed["train-k3f9"] = ["cron 03:33, last fired 22 min ago"]
    assert status_table(runs, known, recent, armed, NOW, width=78) == [
        "RUN    BOX   STATE         AGE     PROGRESS     ETA         GPU   ARMED",
        "train  gpu1  running       12 min  ▂▄▅▆▇ 37/90  3 h 10 min  94 %  cron 03:33,…",
        f"eval   gpu1  STALLED       12 min  ▅ 12/40      ?           {DASH}     cron 03:33",
        f"sweep  gpu1  not seen yet  {DASH}       {DASH}            {DASH}           {DASH}     cron 03:33",
    ]


@pytest.mark.parametrize("health", Health)
def test_what_is_over_has_no_time_of_arrival_and_what_goes_on_an_unknown_one(health):
    known = {
        "train-k3f9": msgspec.structs.replace(verdict(), health=health, progress=Progress(12, 40, "epoch"))
    }
    (row,) = status_table([run("train")], known, {"train-k3f9": (12,)}, {}, NOW)[1:]
    assert (row.split()[-3] == "?") is (health not in TERMINAL), row


def test_runs_that_nothing_watches_are_marked_where_all_are_shown():
    runs = [
        msgspec.structs.replace(run("train"), disarmed_at=NOW),
        msgspec.structs.replace(run("sweep"), disarmed_at=NOW),
        msgspec.structs.replace(run("eval"), superseded_by="eval-zzzzz"),
    ]
    known = {"train-k3f9": verdict(facts_at=NOW - 720), "eval-k3f9": STALLED}
    lines_ = status_table(runs, known, {}, {}, NOW)[1:]
    assert [line.split("  ")[2].strip() for line in lines_] == [
        "disarmed running",
        "disarmed unseen",
        "superseded stalled",
    ]
    assert not any("cron" in line for line in lines_)


@pytest.mark.parametrize(
    ("counts", "want"),
    [((), ""), ((5,), "▅"), ((1, 1, 1), "▅▅▅"), ((0, 100), "▂▇"), (tuple(range(20)), "▂▃▄▅▇")],
)
def test_sparklines(counts, want):
    assert sparkline(counts) == want


def test_rings_are_read_from_what_is_stored():
    stored = msgspec.json.encode(History(recent=(1, 2)))
    assert rings({"a": stored, "b": b"{}"}) == {"a": (1, 2), "b": ()}


def test_every_cause_has_words():  # R12
    from patrol.link_words import _CAUSES

    assert set(_CAUSES) == set(Cause)
