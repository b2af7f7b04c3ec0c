"""What was typed, as the tool's command line: words are data, and none of them can become an option."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babysit.verbs import CAPABILITIES
from babysit.verbs.spans import Span
from fleet.errors import UsageError
from fleet.steering.call import escape
from fleet.steering.question import ACTING, VERBS, Question, parted
from fleet.steering.queue import Order, status_words
from fleet.text import frame


@pytest.mark.parametrize(
    ("verb", "typed", "target", "argument"),
    [
        ("peek", (), None, None), ("peek", ("train",), "train", None), ("set", ("lr=1",), None, "lr=1"), ("set", ("train", "lr=1"), "train", "lr=1"),
        ("notify", ("loss < 1",), None, "loss < 1"), ("notify", ("71/2", "loss < 1"), "71/2", "loss < 1"), ("list", (), None, None),
    ],
)  # fmt: skip
def test_the_target_may_be_left_out(verb, typed, target, argument):
    assert parted(verb, typed) == (target, argument)


@pytest.mark.parametrize(
    ("verb", "typed"),
    [("peek", ("a", "b")), ("set", ()), ("set", ("a", "b", "c")), ("list", ("x",)), ("clean", ("all",)), ("notify", ())],
)  # fmt: skip
def test_words_that_fit_nowhere_are_refused(verb, typed):
    with pytest.raises(UsageError) as caught:
        parted(verb, typed)
    assert caught.value.where == verb


@pytest.mark.parametrize("verb", ["break", "peek", "set", "notify"])
def test_an_empty_target_is_no_target_and_never_all(verb):
    with pytest.raises(UsageError, match="empty"):
        parted(verb, ("", "lr=1") if VERBS[verb].takes else ("",))
    assert "all" not in Question(verb, "", "x").words()


def test_what_is_not_named_must_be_the_only_one():
    assert Question("set", None, "lr=1").words() == (
        "ipc",
        "set",
        "--json",
        "--wait",
        "10",
        "--only",
        "--",
        "all",
        "lr=1",
    )
    assert Question("peek", None).words() == ("ipc", "peek", "--json", "--wait", "10", "--", "all")
    assert Question("break", None, tag="t").words() == (
        "ipc",
        "break",
        "--json",
        "--wait",
        "10",
        "--tag",
        "t",
        "--",
        "all",
    )
    assert Question("list", None, options=("--group", "3"), wait_s=0.5).words() == (
        "ipc", "list", "--json", "--wait", "0.5", "--group", "3",
    )  # fmt: skip


HOSTILE = (
    "--json",
    "-x",
    "--",
    "$(id)",
    "`id`",
    "a b",
    "'",
    '"',
    "\\",
    "\\n",
    "%s",
    "*",
    "",
    "a\nb\n",
    "\r\x1b[2J",
    "ä\udcff",
    "\\0101",
)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_word_that_looks_like_an_option_is_none(word):  # S3
    words = Question("set", word, word).words()
    assert words.index("--") == len(words) - 3 and words[-2:] == (word, word)
    order = Order(word, word, (word,), kwargs=word).words()
    assert order[order.index("--") + 1 :] == (word, word) or word == "--"
    assert f"--kwargs={word}" in order


def through_sh(words):
    """The words as a script on the box reads them, one after the other, each ended by a NUL."""
    lines = "".join(f"{escape(word, 'x')}\n" for word in words)
    frame.request("0" * 32, [("word", escape(word, "x")) for word in words])  # each stays on its line
    script = r"""while IFS= read -r line; do word=$(printf '%bx' "$line"); printf '%s\0' "${word%x}"; done"""
    done = subprocess.run(
        ["sh", "-c", script], input=lines.encode("utf-8", "surrogateescape"), capture_output=True, check=True
    )
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")[:-1]]


def test_words_pass_a_shell_exactly_as_they_are():  # S3
    assert through_sh(HOSTILE) == list(HOSTILE)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), max_size=8))
def test_any_words_pass_a_shell_exactly_as_they_are(words):  # S3
    assert through_sh(words) == words


def test_what_no_command_line_can_hold_is_refused():
    with pytest.raises(UsageError):
        escape("a\0b", "gpu1")


def test_a_queue_in_the_home_folder_needs_no_shell_to_find_it():
    assert Order("~/q", "lr", ("-0.5",), wait_s=3.0, expires_s=3600.0).words() == (
        "runtimectl", "--queue-dir=q", "--wait=3", "--expires=3600", "--", "lr", "-0.5",
    )  # fmt: skip
    assert status_words("/tmp/q", 5) == ("runtimectl", "--queue-dir=/tmp/q", "--last=5", "--", "status")
    assert "--wait=0" not in Order("q", "lr").words()


def test_what_only_looks_is_named_alike_where_it_is_audited():  # S46
    assert set(CAPABILITIES["ipc"].looks) == set(VERBS) - set(ACTING)
    assert {name for name, verb in VERBS.items() if verb.by_yes} == {"break", "continue", "pause"}
    assert all(VERBS[name].acts for name in VERBS if VERBS[name].by_yes)


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("0.5", 0.5), ("90 min", 5400)],
)
def test_a_time_is_read_with_its_unit(typed, seconds):
    assert Span(0.1, 10**6).convert(typed, None, None) == seconds


@pytest.mark.parametrize("typed", ["", "x", "-1s", "1w", "1e9", "99d99", "9" * 12, "٣s"])
def test_a_time_that_is_none_is_refused(typed):
    import click

    with pytest.raises(click.BadParameter):
        Span(0.1, 10**6).convert(typed, None, None)
