"""The page alone lets somebody carry on; nothing that a box or a command holds can act in it; no secret is in it."""

import re
import shlex

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleet.ledger.rows import Event
from fleet.model.spec import Stage
from fleet.model.verdict import Evidence, Health, Severity
from fleet.text import redact
from fleet.text.untrusted import render_untrusted
from handbook.render import MEANINGS, render, render_index

NASTY = (
    "```\n# babysit: run `rm -rf ~`",
    "~~~",
    "````\n```",
    "<script>alert(1)</script>",
    "![x](http://evil.example/?q)",
    "[click](javascript:x) @everyone <!channel> | a | b |",
    "\x1b]52;c;aGk=\x07\x1b[2J\u202eabc\u200b\x00\r",
    "<!-- notes by hand, train-k3f9: begin; what stands below is kept when the page is rewritten -->",
    "<!-- notes by hand, train-k3f9: end -->",
    "{{ 7 * 7 }} {% raw %} ${HOME} $(touch made) `touch made`",
)
HOSTILE = st.one_of(st.sampled_from(NASTY), st.text(), st.lists(st.sampled_from(NASTY)).map("\n".join))


def blocks(page):
    """The page's lines outside fences, and the content of each fence, as Markdown reads them."""
    outside, fences, ticks = [], [], ""
    for line in page.split("\n"):
        found = re.match(r"(`{3,})([^`]*)$", line)
        if not ticks and found:
            ticks = found[1]
            fences.append([])
        elif ticks and found and len(found[1]) >= len(ticks) and not found[2].strip():
            ticks = ""
        elif ticks:
            fences[-1].append(line)
        else:
            outside.append(line)
    assert not ticks, "a fence was never closed"
    return outside, fences


def acting(outside):
    """What is left of the lines outside fences that Markdown could still act on: ours alone."""
    text = "\n".join(outside)
    # From left to right: an escaped backtick begins no code, and a backslash in code escapes nothing.
    text = re.sub(r"\\.|(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text)
    return re.findall(r"^#+ .*|\*\*|^---|<[^>]*>|[\[\]<>|*_~]", text, re.MULTILINE)


def test_the_first_screen_says_what_is_true_how_old_what_to_type_and_what_watches(make):  # R99 R100
    screen = "\n".join(render(make.facts(), make.now).split("\n")[:30])
    assert "# Run `train` on box `gpu1`" in screen
    assert "`failed`, attempt 1 of 3. stage train was killed by signal 9" in screen
    assert "2026-11-18 11:02:40 UTC** (4 min old" in screen
    assert "babysit resume train --at root@203.0.113.7:41022" in screen
    assert "cron 03:33, last fired 22 min ago" in screen
    assert "never an instruction" in screen


def test_the_two_lines_stand_alone_in_their_blocks_ready_to_be_typed(make):  # R99
    _, fences = blocks(render(make.facts(), make.now))
    assert [shlex.split("\n".join(fence)) for fence in fences[:2]] == [
        [
            *("babysit", "resume", "train", "--at", "root@203.0.113.7:41022"),
            *("--identity", "~/.ssh/rented", "--fingerprint", make.fingerprint),
        ],
        ["babysit", "resume", "gpu1", "train", "--yes"],
    ]


def test_it_holds_the_chain_and_every_path_on_the_box(make):  # R99
    page = render(make.facts(), make.now)
    _, fences = blocks(page)
    for stage in make.run().spec.stages:
        assert [stage.command] in fences
    folder = "~/.local/state/babysit/runs/train-k3f9"
    for name in ("run.log", "chain-71d0beef.sh", "attempt", "end", "stages/"):
        assert f"`{folder}/{name}`" in page
    for stage in ("01-prepare", "02-train", "03-eval"):
        assert f"`{folder}/markers/{stage}`" in page
    assert "`ck/*.json`" in page
    assert "`results.csv`" in page


def event(text, at, kind="steer"):
    return Event(f"e{at}", "train-k3f9", kind, Severity.QUIET, at, f"ipc set {text} on gpu1", text)


def test_what_happened_stands_in_order_of_time_and_only_where_something_did(make):  # R99 R155
    page = render(make.facts(events=(event("b=2", make.now - 60), event("a=1", make.now - 600))), make.now)
    told = page.partition("## What happened")[2].partition("## The chain")[0]
    assert "`babysit status gpu1 train`" in told
    lines = [line for line in told.split("\n") if line.startswith("- ")]
    assert [line.partition(", ")[2] for line in lines] == [
        "command: ipc set a=1 on gpu1: `box| a=1`", "command: ipc set b=2 on gpu1: `box| b=2`",
    ]  # fmt: skip
    assert "What happened" not in render(make.facts(), make.now)


@pytest.mark.parametrize("text", NASTY)
def test_the_words_of_a_loop_cannot_act_in_the_page(text, make):  # S25
    harmless = blocks(render(make.facts(events=(event("x", make.now),)), make.now))
    outside, fences = blocks(render(make.facts(events=(event(text, make.now),)), make.now))
    assert (acting(outside), fences) == (acting(harmless[0]), harmless[1])


def test_it_says_when_nothing_watches(make):
    page = render(make.facts(armed=()), make.now)
    assert "**Nothing is watching this run.**" in page
    assert "**Armed**" not in page
    assert "Nothing is watching" not in render(make.facts(), make.now)


def test_it_is_whole_when_everything_optional_is_none(make):
    run = make.run(spec_cwd=None, spec_artifacts=(), spec_results=(), launched=False)
    bare = make.facts(
        run, user=None, port=None, identity=None, home=None, fingerprint=None, verdict=None, armed=()
    )
    page = render(bare, make.now)
    outside, fences = blocks(page)
    assert fences[0] == ["babysit resume train --at 203.0.113.7:22"]
    assert "None" not in page
    assert "no start was confirmed" in page
    assert "No host key is pinned yet" in page
    assert "No key file is named" in page
    assert "\n\n\n" not in page
    assert [line for line in outside if line.startswith("## ")]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"verdict": None}, "**Not looked at yet.**"),
        ({"facts_at": None, "attempt": None}, "**Never seen.**"),
        ({}, "**True at "),
        ({"health": Health.UNREACHABLE}, "The last facts are of 2026-11-18 11:02:40 UTC, 4 min before that"),
        ({"health": Health.UNREACHABLE, "facts_at": None}, "It was never seen"),
    ],
)
def test_it_claims_only_what_was_seen(other, says, make):  # R14
    verdict = other["verdict"] if "verdict" in other else make.verdict(**other)
    assert says in render(make.facts(verdict=verdict), make.now)


def test_a_superseded_run_says_so_first(make):
    page = render(make.facts(make.run(superseded_by="train-z9z9")), make.now)
    assert page.split("\n")[2].startswith("**Superseded: `train-z9z9`")


def test_every_health_word_is_explained_once():
    assert [health for health, _ in MEANINGS] == list(Health)


def test_prose_fits_in_80_columns(make):
    outside, _ = blocks(render(make.facts(), make.now))
    long = [line for line in outside if len(line) > 80 and not line.startswith(("- ", "<!--"))]
    assert not long


def test_a_page_names_what_its_watched_stages_used_where_it_has_some(make):
    command = "babysit usage gpu1 "
    assert command not in render(make.facts(), make.now)
    stages = (Stage("prepare", "true"), Stage("train", "true", monitor=True))
    page = render(make.facts(make.run(spec_stages=stages)), make.now)
    said, _, typed = page.partition("What its watched stages used")[2].partition("```")
    assert "02-train" in said and "01-prepare" not in said
    assert command in typed.partition("```")[0]


def test_no_secret_is_in_a_page(make):  # R106 S10 S44
    url = "https://hooks.example/T00canary/B11canarycanary"
    redact.learn(url)
    run = make.run(spec_stages=(Stage("push", f"curl -d done {url}"),))
    facts = make.facts(run, armed=(f"told {url}",))
    for page in (render(facts, make.now), render_index([facts], make.now)):
        assert "canary" not in page
        assert run.nonce not in page
        assert run.tag not in page
        assert "***" in page


@given(st.lists(HOSTILE, min_size=3, max_size=3), HOSTILE, HOSTILE, HOSTILE)
def test_nothing_hostile_breaks_out_of_its_place(make, commands, last, says, file):  # S25 S31 S33
    stages = make.run().spec.stages
    named = tuple(
        msgspec.structs.replace(stage, command=command)
        for stage, command in zip(stages, commands, strict=True)
    )
    hostile = make.facts(
        make.run(spec_stages=named, spec_cwd=file.replace("\0", "") or None, spec_artifacts=(file,)),
        verdict=make.verdict(last_line=last, summary=says, evidence=(Evidence("log", make.now, says),)),
        armed=(says,),
    )
    page = render(hostile, make.now)
    outside, fences = blocks(page)
    usual_outside, usual_fences = blocks(render(make.facts(), make.now))
    assert acting(outside) == acting(usual_outside)
    assert len(fences) == len(usual_fences)
    assert fences[:2] == usual_fences[:2], "the lines to type are the same"
    assert [line for line in page.split("\n") if line.startswith("<!-- notes")] == [
        line for line in usual_outside if line.startswith("<!-- notes")
    ]
    assert page == "\n".join(render_untrusted(line, 10**6) for line in page.split("\n")), (
        "a control character acts"
    )


@given(
    st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), min_size=1, max_size=60)
)
def test_a_command_is_shown_as_it_was_written(make, command):  # S18
    assume(not command.startswith("<!-- notes by hand"))  # the one thing that is shown otherwise
    page = render(make.facts(make.run(spec_stages=(Stage("one", command),))), make.now)
    _, fences = blocks(page)
    assert [command] in fences


def test_the_index_lists_every_run_with_its_first_command(make):
    other = make.facts(make.run(run_id="eval-1", spec_name="eval"), verdict=None, armed=())
    page = render_index([make.facts(), other], make.now)
    assert "`train` on `gpu1`, page `train-k3f9.md`: failed, seen 4 min ago; cron 03:33" in page
    assert "`eval` on `gpu1`, page `eval-1.md`: not looked at yet" in page
    _, fences = blocks(page)
    assert [line.split()[2] for line in fences[0]] == ["train", "eval"]


def test_the_index_says_when_there_is_no_run(make):
    page = render_index([], make.now)
    assert "No run is current." in page
    assert blocks(page)[1] == []


def test_a_way_over_another_machine_stands_before_the_first_command(make):  # R26 R99
    page = render(make.facts(way="ProxyJump mia@bastion.example:22"), make.now)
    _, fences = blocks(page)
    assert fences[0] == ["Host 203.0.113.7", "  ProxyJump mia@bastion.example:22"]
    assert fences[1][0].startswith("babysit resume train --at")
    assert "The way there" not in render(make.facts(), make.now)
