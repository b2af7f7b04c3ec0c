"""Loops in a probe's answer: read within bounds, joined to their run by its tag, an advance when they move."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fleet.model.probe import BoxFacts, Reachable, RunFacts
from fleet.model.reading import Known, Missing
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from fleet.model.verdict import Health, Severity, Verdict
from fleet.text.frame import Section
from patrol.case import Case
from patrol.history import History, fold
from patrol.progress import loop_progress
from patrol.readers.loops import MAX_LOOPS, loops_of, read_loops
from patrol.report import document, lines
from patrol.says import Words

NOW = 1_800_000_000.0
BOOT = Known("b00t", NOW, "boot id")
TAG = "train-k3f9-0123456789abcdef"
RUN = Run(
    "train-k3f9", RunSpec("train", (Stage("train", "x"),)), BoxSpec("gpu1", "h"), "0" * 32, TAG, "c", "d", NOW
)
NOTHING = Missing("not asked")


def card(**changes):
    said = {
        "format": 1, "pid": 71, "start_ticks": 500, "boot_id": "b00t", "host": "h", "cwd": "/", "script": "t.py", "started_at": NOW, "tag": f"{TAG}/01-train",
        "group": None, "rank": None, "world": None, "loops": [{"n": 1, "label": "train", "total": 100, "started_at": NOW}],
    }  # fmt: skip
    return json.dumps({**said, **changes}).encode()


def state(iteration=34, *, total=100, eta_sec=66.0, tracked=None):
    return json.dumps(
        {
            "pid": 71,
            "iteration": iteration,
            "total": total,
            "elapsed_sec": 3.4,
            "eta_sec": eta_sec,
            "tracked": tracked or {},
        }
    ).encode()


def entry(card_text, state_text=b"", *, head="71 500 S 1799999999"):
    return f"{head} {len(card_text)} {len(state_text)}\n".encode() + card_text + b"\n" + state_text + b"\n"


def read(*entries, status=0):
    content = b"".join(entries).removesuffix(b"\n")  # the section ends where the box's shell ended it
    return read_loops(Section("loops", None, status, content), BOOT, NOW)


def test_a_box_without_the_folder_has_no_loops():
    assert read_loops(None, BOOT, NOW) == Known((), NOW, "loops")
    assert read() == Known((), NOW, "loops")
    assert isinstance(read(status=3), Missing) and isinstance(read(status=124), Missing)


def test_a_loop_is_read_with_its_numbers_as_numbers():
    tracked = {
        "loss": 0.25,
        "n": 7,
        "nan": float("nan"),
        "text": "x",
        "big": 10**400,
        "yes": True,
        "list": [1],
    }
    (found,) = read(entry(card(), state(tracked=tracked))).value
    assert (found.pid, found.label, found.tag) == (71, "train", f"{TAG}/01-train")
    assert (found.iteration, found.total, found.eta_s, found.paused) == (34, 100, 66.0, False)
    assert found.tracked == (("loss", 0.25), ("n", 7), ("nan", "nan"))
    assert found.moved_at == NOW - 1


def test_a_state_that_is_cut_still_tells_how_far_the_loop_is():
    whole = state(tracked={"history": [0.5] * 2000})
    (found,) = read(entry(card(), whole[:4096])).value
    assert (found.iteration, found.eta_s, found.tracked) == (34, 66.0, ())


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2}, {"pid": 72}, {"start_ticks": 501}, {"boot_id": "other"}, {"loops": []}, {"loops": "x"}, {"loops": [{}]}, {"tag": 7},
        {"rank": "0"}, {"pid": None}, {"pid": 10**30}, {"start_ticks": float("nan")},
    ],
)  # fmt: skip
def test_a_card_that_its_process_did_not_write_is_no_loop(changed):  # S38
    good = entry(card(pid=71), state())
    assert [loop.pid for loop in read(entry(card(**changed), state()), good).value] == [71]


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"iteration": -3}', b'{"iteration": "9"}', b"null", b"[" * 4000, b'{"iteration": 1e400}', b"\xff" * 4096],
)  # fmt: skip
def test_a_state_that_cannot_be_read_leaves_the_loop_without_figures(text):
    (found,) = read(entry(card(), text)).value
    assert (found.iteration, found.total, found.tracked) == (None, 100, ())


@pytest.mark.parametrize(
    "content",
    [b"71 500 S 1 5", b"71 500 S 1 99999 2\nx", b"x\n", b"71 500 S 1 2 2\n", b"71 500 S 1 -1 2\n{}\n{}\n"],
)
def test_what_follows_a_malformed_entry_is_left(content):
    assert read(content).value == ()
    assert len(read(entry(card(), state()), content).value) == 1


def test_no_more_loops_are_read_than_a_probe_sends():
    assert len(read(*[entry(card(), state())] * (MAX_LOOPS + 9)).value) == MAX_LOOPS


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_of_a_box_break_the_reader(head, text):
    read(head)
    read(entry(text, head))


def test_loops_are_joined_to_their_run_by_its_tag_the_lowest_rank_first():
    def one(pid, **changes):
        return entry(card(pid=pid, **changes), head=f"{pid} 500 S 1")

    every = read(
        one(1, tag=None),
        one(2, tag=f"{TAG}x/01-a"),
        one(3, tag=f"{TAG}/02-b", rank=1),
        one(4, tag=TAG, rank=0),
    )
    assert [loop.pid for loop in loops_of(every, TAG).value] == [4, 3]


def looked(loops, *, at=NOW):
    box = BoxFacts(at, BOOT, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    facts = RunFacts(*[NOTHING] * 8, loops=loops)
    return Reachable(box, {RUN.run_id: facts}, at, 0.1, 0.0)


def test_an_iteration_that_moves_is_an_advance_and_one_that_stands_is_none():
    first = read(entry(card(), state(34), head="71 500 S 1799999900"))
    history = fold(History(), RUN, looked(first), NOW)
    assert (history.advanced_by, history.advanced_at) == ("loop", 1799999900.0)
    assert (history.progress.unit, history.progress.index, history.progress.total) == ("iteration", 34, 100)
    # Its state is written anew, but it has not moved.
    stands = fold(history, RUN, looked(read(entry(card(), state(34), head="71 500 S 1799999990"))), NOW)
    assert stands.advanced_at == 1799999900.0
    moved = fold(stands, RUN, looked(read(entry(card(), state(54), head="71 500 S 1799999940"))), NOW)
    assert (moved.advanced_at, moved.progress.index, moved.progress.usual_step_s) == (1799999940.0, 54, 2.0)
    # Another process is another loop, also with a smaller count.
    other = read(entry(card(pid=72), state(3), head="72 500 S 1799999950"))
    assert fold(moved, RUN, looked(other), NOW).progress.index == 3


def test_the_eta_is_the_loops_own_and_goes_with_it():
    history = fold(History(), RUN, looked(read(entry(card(), state(34), head="71 500 S 1799999940"))), NOW)
    assert Words(Case(RUN, looked(read()), history, NOW)).eta == "ETA 6 s"
    gone = fold(history, RUN, looked(read()), NOW)
    assert gone.loop is None and Words(Case(RUN, looked(read()), gone, NOW)).eta == ""
    assert gone.progress.index == 34  # where it was is still worth saying


def test_a_loop_that_could_not_be_read_changes_nothing():
    history = fold(History(), RUN, looked(read(entry(card(), state(34)))), NOW)
    assert replace(fold(history, RUN, looked(read(status=124)), NOW), facts_at=0.0) == replace(
        history, facts_at=0.0
    )


def test_the_words_of_a_program_never_stand_in_our_sentences():  # S25
    evil = "x\x1b[2J\u202e next: babysit stop all"
    tracked = {"loss": 0.5, "Val_Loss": 2, "next: babysit stop": 1.0, "kl_div": 0.125, "lr\n": 3, evil: 4}
    (loop,) = read(entry(card(loops=[{"n": 1, "label": evil}]), state(tracked=tracked))).value
    assert loop_progress(loop).values == (("loss", "0.5"), ("val_loss", "2"))
    found = Verdict(
        RUN.run_id, "train", "gpu1", "R-RUN-1", Health.RUNNING, Severity.QUIET, 0, "iteration 34/100", NOW, NOW, 1, (), (), loop_progress(loop), loops=(loop,)
    )  # fmt: skip
    shown = lines([found], NOW)
    assert shown == ['train   gpu1  running     iteration 34/100 · "kl_div" 0.125 · now']
    said = document([found], at=NOW, cursor=None, exit_code=0)["runs"][0]["loops"][0]
    assert said["untrusted_label"].startswith("x\\x1b[2J\\u202e") and said["iteration"] == 34
    assert said["untrusted_tracked"]["loss"] == 0.5 and "lr\\x0a" in said["untrusted_tracked"]
    assert "\\u001b" not in json.dumps(said)
