"""What `ipc` decides without touching anything: targets, groups, lines, exit codes, words."""

import argparse
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onbox.ipc import answers, says, together
from onbox.ipc.answers import Answer, Trouble
from onbox.ipc.channel import MAX_LINE, Refused, encoded
from onbox.ipc.ended import sentence, went_well
from onbox.ipc.known import Known
from onbox.ipc.options import asks_for_json, parser
from onbox.ipc.shown import shown, value_text
from onbox.ipc.target import Chosen, chosen, label, target
from onbox.wire.card import Card, Loop
from onbox.wire.identity import Identity
from onbox.wire.registry import Entry


def ours(pid, name="training", *, ppid=1, group=None, rank=None, world=None, inner=()):
    loops = tuple(Loop(at + 1, text, None, 0.0) for at, text in enumerate((name, *inner)))
    who = Identity(pid, 7, "boot")
    card = Card(who, "here", "/tmp", "train.py", 0.0, None, group, rank, world, loops)
    return Known("onbox", who, name, ppid, None, card)


def foreign(pid, name="theirs", ppid=1):
    entry = Entry(pid, name, "t.py", "python", "2026-01-01T00:00:00+00:00", ppid)
    return Known("loopmonitor", Identity(pid, 7, "boot"), name, ppid, entry, None)


LIVING = [
    ours(100, "worker-1", ppid=50, inner=("batches",)),
    ours(101, "worker-2", ppid=50),
    foreign(102, "theirs", ppid=50),
    foreign(50, "launcher", ppid=1),
    foreign(103, "all", ppid=100),
]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("all", [(100, 1), (101, 1), (102, 1), (50, 1), (103, 1)]),
        ("100", [(100, 1)]),
        ("100/1", [(100, 1)]),
        ("100/2", [(100, 2)]),
        ("100/3", []),
        ("102/1", [(102, 1)]),
        ("102/2", []),
        ("50", [(50, 1)]),  # a pid before a parent's pid
        ("1", [(50, 1)]),
        ("7/1", []),
        ("worker-*", [(100, 1), (101, 1)]),
        ("worker-[2-9]", [(101, 1)]),
        ("Worker-*", []),
        ("batches", []),  # an inner loop only by its number
        ("*", [(100, 1), (101, 1), (102, 1), (50, 1), (103, 1)]),
        ("al?", [(103, 1)]),
        ("", []),
        ("0", []),
        ("-100", []),
        ("100/", []),
        ("\u0661\u0660\u0660", []),
        ("9" * 40, []),
        ("[", []),
    ],
)
def test_a_target_means_these_loops(text, meant):
    assert [(one.known.pid, one.n) for one in chosen(target(text), LIVING)] == meant


@given(st.text(max_size=30))
def test_any_text_is_a_target(text):
    assert set(chosen(target(text), LIVING)) <= {Chosen(known, n) for known in LIVING for n in (1, 2)}


def test_the_label_is_that_of_the_loop_that_is_meant():
    assert [label(Chosen(LIVING[0], n)) for n in (1, 2)] == ["worker-1", "batches"]


# Groups

RANKS = [ours(200 + rank, "fit", ppid=60, group="g", rank=rank, world=4) for rank in range(4)]


def named(*pids):
    return [Chosen(known, 1) for known in RANKS + LIVING if known.pid in pids]


def test_a_whole_group_leaves_together_and_who_is_alone_leaves_alone():
    parts = together.parted("continue", named(200, 201, 202, 203, 100), RANKS + LIVING)
    assert [[one.known.pid for one in group] for group in parts.groups] == [[200, 201, 202, 203]]
    assert [one.known.pid for one in parts.single] == [100] and not parts.refused


def test_a_part_of_a_group_is_refused_with_the_command_for_all_of_it():
    parts = together.parted("break", named(200, 203), RANKS + LIVING)
    assert not parts.groups and not parts.single
    assert [(one.pid, one.exit_code) for one in parts.refused] == [(200, 22), (203, 22)]
    assert "ipc break 60 (or --alone)" in parts.refused[0].says


@pytest.mark.parametrize(
    ("labels", "others", "command"),
    [
        (("fit", "fit"), [], "ipc continue 60 "),
        (("fit", "fit"), [foreign(9, "x", ppid=60)], "ipc continue fit "),
        (("a b", "a b"), [foreign(9, "x", ppid=60)], "ipc continue 'a b' "),
        (("a", "b"), [foreign(9, "x", ppid=60)], "ipc continue all "),
        (("it's", "it's"), [foreign(9, "x", ppid=60)], "ipc continue all "),
    ],
)
def test_the_command_for_the_whole_group_means_just_that_group(labels, others, command):
    ranks = [ours(300 + at, text, ppid=60, group="g", rank=at, world=2) for at, text in enumerate(labels)]
    parts = together.parted("continue", [Chosen(ranks[0], 1)], ranks + others)
    assert command in parts.refused[0].says


def test_ranks_that_run_elsewhere_make_every_choice_a_part():
    parts = together.parted("continue", named(200, 201), RANKS[:2])
    assert [one.exit_code for one in parts.refused] == [22, 22]
    assert "one of 4 ranks, and 2 run here" in parts.refused[0].says


def test_an_inner_loop_of_a_rank_is_a_part():
    ranks = [ours(200 + at, "fit", group="g", rank=at, world=2, inner=("b",)) for at in range(2)]
    inner = [Chosen(rank, 2) for rank in ranks]
    assert len(together.parted("continue", inner, ranks).refused) == 2


def test_a_group_of_one_is_no_group():
    alone = ours(9, group="g", rank=0, world=1)
    assert together.parted("continue", [Chosen(alone, 1)], [alone]).single == [Chosen(alone, 1)]


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        ([0, 124, 0], [124, 124, 124]),  # one is silent: the others have agreed, and stay
        ([0, 22, 0], [22, 22, 22]),
        ([23, 0, 0], [23, 22, 22]),
        ([0, 0, 0], [22, 22, 22]),  # nobody to blame: no iteration that all could reach
        ([], [22, 22, 22]),
    ],
)
def test_a_group_that_stays_never_says_that_it_left(found, codes):
    ranks = [Chosen(known, 1) for known in RANKS[:3]]
    answered = [one(code, pid=rank.known.pid) for rank, code in zip(ranks, found, strict=False)]
    assert [each.exit_code for each in together._held_back(ranks, answered)] == codes


def state(iteration, elapsed=10.0, total=None):
    return {"iteration": iteration, "elapsed_sec": elapsed, "total": total}


def test_ranks_aim_beyond_the_furthest_and_further_each_time():
    slow = [together.aim([state(4, 400.0), state(3, 400.0)], attempt) for attempt in range(5)]
    assert slow[0] in (5, 6) and slow == sorted(set(slow))
    fast = [together.aim([state(10_000), state(9_000)], attempt) for attempt in range(5)]
    assert fast[0] >= 10_000 + 250 and fast == sorted(set(fast))


def test_ranks_never_aim_behind_the_end_of_a_loop():
    assert together.aim([state(98, total=100), state(90, total=100)], 4) == 100


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "iteration": st.integers() | st.none() | st.text(max_size=2),
                "elapsed_sec": st.floats() | st.none(),
            },
        ),
        min_size=1,
    )
)
def test_an_odd_state_does_not_break_the_aim(states):
    assert together.aim(states, 0) >= 0


# Lines


@pytest.mark.parametrize(
    "line",
    [
        "set a=1\nbreak",
        "set a=1\rbreak",
        *(
            f"set a='{chr(code)}'"
            for code in (0, 7, 0x0B, 0x0C, 0x1B, 0x1C, 0x1D, 0x1E, 0x7F, 0x85, 0x2028, 0x2029)
        ),
        "set a='\ud800'",
        "\x85",
        "peek\u2028",
        "",
        "x" * (MAX_LINE + 1),
        "é" * (MAX_LINE // 2 + 1),
    ],
)
def test_what_would_be_two_commands_or_a_cut_one_is_no_line(line):
    with pytest.raises(Refused):
        encoded(line)


@pytest.mark.parametrize("line", ["peek", "x" * MAX_LINE, "é" * (MAX_LINE // 2), "set name='naïve 宽'"])
def test_a_whole_line_is_written_as_it_is(line):
    assert encoded(line) == line.encode() + b"\n" and len(encoded(line)) <= 4096


@given(st.text(max_size=200))
def test_a_line_that_is_written_reads_back_as_one(line):
    try:
        content = encoded(line)
    except Refused:
        return
    assert content.decode().splitlines() == [line]


# Exit codes and documents


def one(code, **facts):
    return Answer(
        **{"pid": 1, "label": "l", "kind": "onbox", "n": 1, "exit_code": code, "says": "s", **facts}
    )


@pytest.mark.parametrize(
    ("codes", "first"),
    [((), 0), ((0, 0), 0), ((0, 3), 3), ((3, 124), 124), ((124, 22, 0), 22), ((22, 23, 124, 3), 23)],
)
def test_the_gravest_code_stands_for_all(codes, first):
    assert answers.exit_code([one(code) for code in codes]) == first


def test_a_document_has_its_keys_in_their_order():
    said = answers.document("peek", [one(0, tag="t", reply={"a": 1}, confirmed=True)])
    assert list(said) == ["schema", "verb", "ok", "exit_code", "answers", "error"]
    assert (said["schema"], said["ok"], said["error"]) == ("onbox.ipc/1", True, None)
    assert list(said["answers"][0]) == [
        "pid",
        "label",
        "kind",
        "n",
        "exit_code",
        "tag",
        "confirmed",
        "reply",
        "says",
    ]
    failed = answers.document("peek", [], Trouble(3, "no-loop", "none", "ipc list"))
    assert (failed["ok"], failed["exit_code"]) == (False, 3)
    assert failed["error"] == {"code": "no-loop", "what": "none", "next": "ipc list"}


@pytest.mark.parametrize(
    ("record", "well", "words"),
    [
        (None, False, "it was killed"),
        ({"ended": "finished", "state": {"iteration": 50}}, True, "finished after iteration 50"),
        ({"ended": "broken", "exit_code": 88, "state": {}}, True, "broken, exit code 88"),
        ({"ended": "exception", "exception": "ValueError"}, False, "exception, ValueError"),
        ({"ended": "\x1b[31m", "state": 3}, False, "\\x1b[31m"),
    ],
)
def test_an_end_record_in_words(record, well, words):
    assert went_well(record) == well and words in sentence(record)


# The command line


@pytest.mark.parametrize(
    "words",
    [
        "",
        "peek",
        "frobnicate 1",
        "peek 1 2",
        "list --group x",
        "list --group -1",
        "set 1",
        "plot 1 --last -1",
        "plot 1 --last 99999999999",
        "tail 1 --interval 0",
        "tail 1 --interval nan",
        "peek 1 --wait inf",
        "peek 1 --wai 3",
        "continue 1 --last 3",
        "notify 1",
    ],
)
def test_a_wrong_command_line_is_trouble_and_no_exit(words):
    with pytest.raises(Trouble) as raised:
        parser().parse_args(words.split())
    assert raised.value.exit_code == 2 and raised.value.next_step


def test_every_verb_of_the_original_is_there_with_its_options():
    read = parser().parse_args
    for verb in ("peek", "plot", "continue", "break", "checkpoint", "stack", "memory", "pause", "resume"):
        assert read([verb, "all", "--json", "--wait", "3"]).wait == 3.0
    assert (read(["tail", "1"]).interval, read(["notify", "1", "x<1"]).interval) == (2.0, 5.0)
    assert read(["notify", "--interval", "10", "1", "loss < 0.2"]).condition == "loss < 0.2"
    assert read(["list", "--group", "12"]).group == 12 and read(["clean"]).verb == "clean"
    assert read(["plot", "1", "--last", "5", "--png", "x.png"]).last == 5
    assert read(["set", "1", "lr=-0.1"]).assignment == "lr=-0.1"
    assert read(["break", "1", "--alone"]).alone is True


def test_help_fits_a_terminal():
    verbs = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    for one_help in (parser().format_help(), *(each.format_help() for each in verbs.values())):
        assert max(map(len, one_help.splitlines())) <= 80


def test_json_is_asked_for_before_any_double_dash():
    assert asks_for_json(["peek", "--json"]) and not asks_for_json(["notify", "1", "--", "--json"])


# Words on a terminal


@given(st.text(max_size=80))
def test_shown_text_cannot_act(text):
    line = shown(text)
    assert all(char.isprintable() for char in line) and len(line.splitlines()) <= 1


def test_a_list_is_told_by_its_length_and_last_value():
    assert value_text([1, 2, 3]) == "[3 values, last 3]" and value_text([]) == "[]"
    assert value_text("a" * 100) == "a" * 60 + "... (cut)"


def test_a_peek_block_is_that_of_the_original_while_it_fits():
    tracked = {"loss": 0.3847, "accuracy": 0.8821}
    said = {
        "pid": 12345,
        "iteration": 3421,
        "total": 10000,
        "elapsed_sec": 517.3,
        "eta_sec": 995.6,
        "tracked": tracked,
    }
    assert says.peek_lines(said) == [
        "[loopmonitor] PID 12345  iter 3421/10000  (34.2%)",
        "         elapsed 08:37  ETA 16:35",
        "         loss=0.3847  accuracy=0.8821",
    ]
    many = {**said, "tracked": {f"key{at}": at / 7 for at in range(20)}}
    assert max(map(len, says.peek_lines(many))) <= 80
    assert says.peek_lines({}) == ["[loopmonitor] PID ?  iter ?", "         elapsed ?  ETA ?"]
    evil = {**said, "tracked": {"a\x1b[2J": "x\ny", "list": list(range(5000))}}
    assert says.peek_lines(evil)[2] == "         a\\x1b[2J=x\\x0ay  list=[5000 values, last 4999]"


def test_a_terminal_without_unicode_gets_other_signs():
    assert says.fitting("── a — b", "ascii") == "-- a - b"
    assert says.fitting("é", "ascii") == "\\xe9" and says.fitting("é─", "utf-8") == "é─"


@given(st.text(alphabet=string.printable + "é─宽\u202e", max_size=60))
def test_a_name_is_one_line(text):
    words = says.name(one(0, label=text))
    assert len(words.splitlines()) == 1 and words.startswith("PID 1")
