"""Quoting, showing, hiding, filling, saying."""

import base64
import json
import shutil
import subprocess
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from fleet.text import fill, quote, say
from fleet.text.redact import learn, redact
from fleet.text.untrusted import render_untrusted

SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]
ODD = [
    "",
    " ",
    "a b",
    "it's",
    '"',
    "$(id)",
    "`id`",
    "$HOME",
    "-n",
    "a\nb",
    "\\",
    "*",
    "~",
    "!x",
    "#",
    "ä\udcff",
    "=",
    "&|;<>()",
]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_quoted_word_is_that_word_in_every_shell(shell):  # S17
    script = "for word in " + " ".join(quote.sh(word) for word in ODD) + "; do printf '%s\\0' \"$word\"; done"
    out = subprocess.run(
        [*shell, "-c", script.encode("utf-8", "surrogateescape")], capture_output=True, check=True
    ).stdout
    assert out.decode("utf-8", "surrogateescape").split("\0")[:-1] == ODD


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@settings(max_examples=30, deadline=None)
def test_any_text_round_trips_through_sh(text):  # S17
    out = subprocess.run(["sh", "-c", f"printf %s {quote.sh(text)}"], capture_output=True, check=True).stdout
    assert out.decode() == text


def test_nul_is_no_word():
    with pytest.raises(ValueError, match="NUL"):
        quote.sh("a\0b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb", "a\\u200bb"),
        ("a\x9bb", "a\\x9bb"),
        ("a\tb", "a b"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
        ("[red]loss 0.4 äß[/red]", "[red]loss 0.4 äß[/red]"),
    ],
)
def test_text_of_a_box_cannot_act_on_a_terminal(text, shown):  # S23
    assert render_untrusted(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("x" * 10, "x" * 10), ("x" * 11, "x" * 10 + "… (line cut)"), ("\x1b" * 9, r"\x1b\x1b\x… (line cut)")],
)
def test_text_of_a_box_is_cut_as_it_is_shown(text, shown):  # S23
    assert render_untrusted(text, 10) == shown


@given(st.text())
def test_shown_text_is_one_printable_line(text):  # S23
    assert render_untrusted(text).isprintable()


def test_a_learnt_secret_never_passes():  # S10
    learn("https://user:hunter22@hooks.example/T0KENPATH/abcdef123?key=QUERYSECRET")
    for shape in (
        "hunter22",
        "T0KENPATH",
        "abcdef123",
        "QUERYSECRET",
        "https://user:hunter22@hooks.example/x",
    ):
        assert shape not in redact(f"sent to {shape}: refused")
    assert redact("plain words stay") == "plain words stay"


CANARY = "c4nary/with+odd chars"


@pytest.mark.parametrize(
    "shape",
    [
        CANARY,
        urllib.parse.quote(CANARY),
        urllib.parse.quote(CANARY, safe=""),
        urllib.parse.quote(CANARY, safe="").lower(),
        urllib.parse.quote_plus(CANARY),
        json.dumps(CANARY),
        f"https://hooks.example/{urllib.parse.quote(CANARY, safe='')}/x",
        f"https://hooks.example/?token={urllib.parse.quote_plus(CANARY)}&x=1",
        f"https://user:{urllib.parse.quote(CANARY, safe='')}@hooks.example/",
        f"X-Token: {CANARY}",
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode(),
        "Authorization: Basic " + base64.b64encode(f"user:{CANARY}".encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_whatever_shape_it_is_printed(shape):  # S10
    learn(f"https://user:{urllib.parse.quote(CANARY, safe='')}@hooks.example/hook")
    shown = redact(f"the receiver said: {shape}")
    assert "***" in shown
    for part in (CANARY, "c4nary", base64.b64encode(CANARY.encode()).decode().rstrip("=")):
        assert part not in shown


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "A1b2_" * 8,
        "hf_" + "aBcD" * 8,
        "sk-proj-" + "Ab1-" * 10,
        "AKIA" + "ABCD1234" * 2,
        "xoxb-1234567890-abcdefghij",
        "glpat-" + "x9Y_" * 5,
        "AIza" + "a1B2-" * 7,
        "npm_" + "a1B2" * 9,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "123456789:AA" + "b-C_" * 9,
        "Authorization: Bearer abcdef",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_masked_although_nobody_named_it(token):  # S10
    shown = redact(f"printed by a job: {token} and more")
    assert "***" in shown and shown.endswith(" and more")
    assert token.split(" ")[-1][4:] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "task-runner sk-learn AKIAN hf_model gh_actions",
        "Epoch 3/9 - loss: 0.5 - 12:34:56",
        "sha256 3f9c2e1b7a44d0e1c5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192",
        "SHA256:4QyKl3+abc/def0123456789ABCDEFGHIJKLMNOPQRSTUV",
    ],
)
def test_ordinary_words_and_digests_are_no_secrets(text):
    assert redact(text) == text


def test_a_login_inside_any_url_is_masked():
    assert redact("http://me:pass@host/x") == "http://***@host/x"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (40, "40 s"),
        (60, "1 min"),
        (26 * 60 + 59, "26 min"),
        (11400, "3 h 10 min"),
        (7200, "2 h"),
        (187200, "2 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_durations_are_said_in_two_units(seconds, said):
    assert say.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        *((0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (84_000, "84 kB"), (999_499, "999 kB")),
        *((999_999, "1 MB"), (412e9, "412 GB"), (999.9e9, "1 TB"), (1.5e12, "1.5 TB")),
    ],
)
def test_sizes_are_decimal(count, said):
    assert say.size(count) == said


def test_ages_and_counts():
    assert (say.ago(1), say.ago(300)) == ("now", "5 min ago")
    assert (say.plural(1, "run"), say.plural(3, "run"), say.plural(2, "process")) == (
        "1 run",
        "3 runs",
        "2 processes",
    )


@given(st.text(max_size=80))
def test_a_fence_cannot_be_closed_by_its_content(text):  # S25 S33
    lines = fill.fence(text).split("\n")
    ticks = lines[0].removesuffix("text")
    assert lines[-1] == ticks and not any(ticks in line for line in lines[1:-1])


@given(st.text(max_size=40))
def test_inline_code_cannot_be_closed_by_its_content(text):
    code = fill.inline_code(text)
    ticks = code[: len(code) - len(code.lstrip("`"))]
    assert code.endswith(ticks) and ticks not in code[len(ticks) : -len(ticks)].strip()


def test_a_template_is_strict_about_missing_names():
    with pytest.raises(UndefinedError):
        fill._environment("sh").from_string("@{nothing}@").render()


def test_a_value_in_a_shell_template_is_one_word_and_code_is_not_touched():  # S31
    text = (
        fill._environment("sh")
        .from_string("x=@{value}@ y=${#x} {{7*7}} {# #}\n")
        .render(value="{{7*7}}; $(id)")
    )
    assert text == "x='{{7*7}}; $(id)' y=${#x} {{7*7}} {# #}\n"


def test_a_value_in_markdown_cannot_be_markup():  # S31 S33
    shown = (
        fill._environment("markdown").from_string("{{ v }} {{ v|code }}").render(v="[a](x) <b> `c` @everyone")
    )
    assert shown == "\\[a\\]\\(x\\) \\<b\\> \\`c\\` \\@everyone ``[a](x) <b> `c` @everyone``"


@pytest.mark.parametrize(
    ("count", "word", "said"),
    [(1, "run", "1 run"), (3, "run", "3 runs"), (2, "process", "2 processes"), (2, "box", "2 boxes")],
)
def test_counts_have_their_plural(count, word, said):
    assert say.plural(count, word) == said
