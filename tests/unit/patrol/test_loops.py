"""Loops in a probe's answer: read within bounds, joined to their run by its tag, an advance when they move."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fleet.model.probe import Alive, BoxFacts, Broken, Reachable, RunFacts
from fleet.model.reading import Known, Missing
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from fleet.model.verdict import Health, Severity, Verdict
from fleet.text.frame import Section
from patrol.case import Case
from patrol.evidence import evidence
from patrol.history import History, fold
from patrol.progress import loop_progress
from patrol.readers.broken import read_broken
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


def entry(card_text, state_text=b"", *, head="71 500 S 1799999999", age_s=600, lines=b""):
    sizes = f"{len(card_text)} {len(state_text)} {len(lines)}"
    return f"{head} {age_s} {sizes}\n".encode() + b"".join(
        text + b"\n" for text in (card_text, state_text, lines)
    )


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
    [
        b"71 500 S 1 9 5", b"71 500 S 1 9 99999 2 0\nx", b"x\n", b"71 500 S 1 9 2 2 0\n", b"71 500 S 1 9 -1 2 0\n{}\n{}\n\n",
        b"71 500 S 1 9 2 2 2\n{}\n{}\n",
    ],
)  # fmt: skip
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
    assert [loop.pid for loop in loops_of(every, TAG, NOTHING).value] == [4, 3]


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


def listed(pid=71, **changes):
    """The lines of 0.1.x's registry that name a process, as `json.dumps(indent=2)` writes them."""
    said = {
        "pid": pid, "label": "train", "script": "t.py", "language": "python", "start_time": "2027-01-15T07:55:00.5+00:00", "ppid": 1,
    }  # fmt: skip
    whole = json.dumps({str(pid): {**said, **changes}, "9": {}}, indent=2)
    return whole.partition("\n")[2].partition('  "9"')[0].encode()


def foreign(state_text=b"", *, mtime=NOW - 1, age_s=600, lines=None, how="S"):
    head = f"71 500 {how} {mtime:.0f}"
    return read(
        entry(b"", state_text, head=head, age_s=age_s, lines=listed() if lines is None else lines)
    ).value


def test_a_loop_that_only_the_registry_names_is_read_and_says_whose_it_is():
    (found,) = foreign(state(tracked={"loss": 0.25}))
    assert (found.kind, found.pid, found.label, found.tag) == ("loopmonitor", 71, "train", None)
    assert (found.iteration, found.total, found.eta_s, found.moved_at) == (34, 100, 66.0, NOW - 1)
    assert found.tracked == (("loss", 0.25),) and found.state_age_s is None and not found.paused
    assert [loop.kind for loop in foreign(lines=listed(language="R"))] == ["R"]
    assert [loop.paused for loop in foreign(how="T")] == [True]
    # A card that its process wrote itself is believed before the registry.
    (ours,) = read(entry(card(), state(), lines=listed())).value
    assert (ours.kind, ours.tag) == ("onbox", f"{TAG}/01-train")
    # One of an earlier process of that number is not, and the registry is asked.
    (other,) = read(entry(card(start_ticks=499), state(), lines=listed())).value
    assert other.kind == "loopmonitor"


@pytest.mark.parametrize(
    ("age_s", "lines", "mtime", "alive"),
    [
        (600, listed(), NOW - 1, True),
        (301, listed(), NOW - 1, True),  # began as its process did
        (250, listed(), NOW - 1, True),  # within what a clock may have been set
        (200, listed(), NOW - 1, False),  # the number came again
        (200, listed(start_time="?"), NOW - 1, True),  # nobody says when: its state is of this process
        (200, listed(start_time="2027-01-15T07:55:00"), NOW - 300, False),
        (200, listed(start_time="?"), 0, False),
        (600, listed(pid=72), NOW - 1, False),
        (600, listed().replace(b'"pid": 71', b'"pid": 72'), NOW - 1, False),
        (600, listed()[:60], NOW - 1, False),
        (600, b"", NOW - 1, False),
        (600, b"\xff" * 4096, NOW - 1, False),
        (600, listed(start_time="9" * 3000), NOW - 1, True),
        (600, listed(label=7), NOW - 1, False),
    ],
)
def test_an_entry_that_is_older_than_the_process_of_its_number_is_of_another(
    age_s, lines, mtime, alive
):  # S38
    assert bool(foreign(state(), mtime=mtime, age_s=age_s, lines=lines)) == alive


def test_a_state_that_lay_there_before_the_loop_began_is_not_its_own():
    (found,) = foreign(state(), mtime=NOW - 400)
    assert (found.iteration, found.moved_at) == (None, NOW - 299.5)


@pytest.mark.parametrize("text", [b"", b'{\n  "pid": 71,\n  "iter', b"[]"])
def test_a_torn_state_leaves_a_loop_of_the_registry_without_figures(text):
    (found,) = foreign(text)
    assert (found.iteration, found.eta_s, found.state_age_s) == (None, None, None)


@pytest.mark.parametrize(
    ("elapsed_s", "iteration", "old_s", "says"),
    [
        (3.4, 34, 50, None),
        (3.4, 34, 90, 90.0),
        (3400.0, 34, 250, None),  # 100 s a turn
        (3400.0, 34, 290, None),
        (2720.0, 34, 270, 270.0),  # 80 s a turn
        (0.0, 0, 90, 90.0),
    ],
)
def test_a_state_older_than_its_pace_explains_tells_its_age(elapsed_s, iteration, old_s, says):
    text = json.dumps({"iteration": iteration, "elapsed_sec": elapsed_s, "total": None}).encode()
    (found,) = foreign(text, mtime=NOW - old_s)
    assert found.state_age_s == says
    case = Case(RUN, looked(Known((found,), NOW, "loops")), History(), NOW)
    shown = f"loopmonitor's state is {'1 min' if says == 90 else '4 min'} old" if says else ""
    assert Words(case).state_age == shown
    assert any("1 loop of loopmonitor, the first moved" in seen.says for seen in evidence(case))


def test_a_loop_that_does_not_know_its_run_belongs_to_it_by_being_its_process():
    every = Known(foreign(state()), NOW, "loops")
    mine = Known((Alive(71, "tag", "python"),), NOW, "alive")
    assert len(loops_of(every, TAG, mine).value) == 1
    assert loops_of(every, TAG, Known((), NOW, "alive")).value == ()
    assert loops_of(every, TAG, NOTHING).value == ()
    # One that names another run is that one's, whatever lives.
    other = read(entry(card(tag="eval-9d2k-0123456789abcdef/01-eval")))
    assert loops_of(other, TAG, mine).value == ()


END = {
    "format": 1, "pid": 71, "start_ticks": 500, "boot_id": "b", "host": "h", "cwd": "/w", "script": "t.py", "tag": f"{TAG}/02-train", "group": None, "rank": None,
    "world": None, "n": 1, "label": "x", "ended": "broken", "exception": None, "exit_code": 88, "started_at": NOW - 900, "ended_at": NOW - 300.5,
}  # fmt: skip
SAVED = "/w/loopmonitor_break_71_20270115T075459Z.json"


def left(*, state_={"iteration": 7, "tracked": {"big": [0.5] * 900}}, last=None, **changes):  # noqa: B006 - read only
    text = json.dumps({**END, **changes, "state": state_, "history": {"x": [[1, 2.0]] * 900}, **(last or {})})
    return f"{text[:3072]}\n{text[-1024:]}\n".encode()


def ended(*records, status=0):
    return read_broken(Section("broken", TAG, status, b"".join(records)), TAG, NOW)


@pytest.mark.parametrize("how", [{"saved": SAVED}, {"last": {"saved": SAVED}}])
def test_the_end_of_a_loop_that_was_broken_off_tells_where_and_what_was_saved(how):
    (found,) = ended(left(**how)).value
    assert found == Broken("02-train", 7, 88, NOW - 300.5, None, SAVED, NOW - 900)
    assert ended(left()).value[0].saved is None and ended(left(saved=None)).value[0].saved is None


def test_the_lowest_rank_and_the_outermost_loop_speak_first_and_eight_are_read():
    more = [left(rank=9, ended="left", exit_code=None)] * 4
    found = ended(
        left(rank=1), left(rank=0, n=2), left(rank=0, n=1, exit_code=9), left(rank=3), *more, left(rank=0, exit_code=1)
    )  # fmt: skip
    assert [(loop.rank, loop.exit_code) for loop in found.value] == [(0, 9), (0, 88), (1, 88), (3, 88)]


LATER = {"n": 2, "started_at": NOW - 300, "ended_at": NOW - 299}


@pytest.mark.parametrize(
    ("other", "last"),
    [
        ({**LATER, "ended": "exception", "exit_code": 1}, False),
        ({**LATER, "ended": "finished", "exit_code": None}, False),
        (LATER, False),  # of two that were broken off, the first
        (
            {**LATER, "started_at": NOW - 800, "ended": "left", "exit_code": None},
            True,
        ),  # a rank, or around it
        ({**LATER, "started_at": NOW - 800, "ended": "exception", "exit_code": 1}, True),
        ({**LATER, "tag": f"{TAG}/01-prepare", "ended": "finished"}, True),
        ({**LATER, "tag": f"{TAG}x/02-train", "ended": "finished"}, True),
        ({**LATER, "format": 2, "ended": "finished"}, True),
    ],
)
def test_a_loop_that_was_broken_off_is_the_last_where_none_began_after_it(other, last):  # R34
    assert {loop.last for loop in ended(left(n=1), left(**other)).value if loop.started_at == NOW - 900} == {
        last
    }
    assert {loop.last for loop in ended(left(**other), left(n=1)).value if loop.started_at == NOW - 900} == {
        last
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2}, {"ended": "continued"}, {"tag": f"{TAG}x/02-train"}, {"tag": TAG}, {"tag": f"{TAG}/../x"}, {"tag": None}, {"exit_code": None},
        {"exit_code": "88"}, {"ended_at": None}, {"rank": "0"}, {"ended_at": float("nan")}, {"started_at": None}, {"started_at": "0"},
    ],
)  # fmt: skip
def test_an_end_that_is_no_break_of_this_run_is_none(changed):  # S38
    assert [loop.iteration for loop in ended(left(**changed), left()).value] == [7]


def test_without_the_section_nothing_was_broken_off_and_one_that_failed_is_missing():
    assert read_broken(None, TAG, NOW).value == ()
    assert isinstance(ended(status=124), Missing) and isinstance(ended(status=3), Missing)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_of_a_box_break_the_reader_of_ends(head, tail):
    ended(head + b"\n" + tail + b"\n")
    ended(left()[:200] + head + b"\n" + tail + b"\n")
    foreign(tail, lines=head)
