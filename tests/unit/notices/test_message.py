"""A notice says it all in its title, and nothing that a box wrote can act in it."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ledger_samples import NOON, a_verdict

from fleet.model.verdict import Evidence, Health, Severity
from fleet.notices.message import TOLD, message


def test_a_page_as_it_reads():
    title, body = message(a_verdict(), "ev-71d0", NOON)
    assert title == "eval on gpu2: STALLED (no step for 26 min)"
    assert body.split("\n") == [
        "eval  gpu2  STALLED  no step for 26 min (usual: 40 s) · GPU 0 %",
        "since 2026-11-18T10:40:40+00:00 (26 min) · why R-STALL-2",
        "seen: log: no new bytes for 1560 s (4 min ago)",
        "next: babysit logs gpu2 eval",
        "facts: 4 min ago (2026-11-18T11:02:40+00:00)",
        "event: ev-71d0",
        "log (untrusted): step 12/40 loss 0.41",
    ]


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({"summary": "no step for 26 min"}, "eval on gpu2: STALLED (no step for 26 min)"),
        ({"health": Health.AT_RISK, "summary": "disk 97 %"}, "eval on gpu2: AT RISK (disk 97 %)"),
        ({"health": Health.FINISHED, "severity": Severity.NOTE, "summary": ""}, "eval on gpu2: finished"),
        (
            {"health": Health.UNREACHABLE, "severity": Severity.NOTE, "summary": "2nd tick"},
            "eval on gpu2: unreachable (2nd tick)",
        ),
    ],
)
def test_titles(changed, title):
    assert message(a_verdict(**changed), "ev-1", NOON)[0] == title


@pytest.mark.parametrize("kind", ["worse", "repeat", "resolved"])
def test_being_told_again_is_said(kind):
    assert message(a_verdict(), "ev-1", NOON, kind)[1].split("\n")[1] == TOLD[kind]


def test_facts_that_never_came_are_not_given_an_age():
    body = message(a_verdict(facts_at=None, last_line=None, evidence=()), "ev-1", NOON)[1]
    assert "facts: none, the box has never answered" in body.split("\n")
    assert "untrusted" not in body


def test_half_a_command_is_never_shown():
    body = message(a_verdict(next=("babysit " + "x" * 400, "babysit status")), "ev-1", NOON)[1]
    assert [line for line in body.split("\n") if line.startswith("next")] == ["next: babysit status"]


@pytest.mark.parametrize(
    ("wrote", "shown"),
    [
        ("\x1b]52;c;ZXZpbA==\x07\x1b[2J", "\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("@everyone look", "@ everyone look"),
        ("<!channel> <@U123> <https://x|y>", "< !channel> < @ U123> < https: //x|y>"),
        ("done\nnext: rm -rf /", "done\\x0anext: rm -rf /"),
        ("loss 0.3 < 0.4 user @ host", "loss 0.3 < 0.4 user @ host"),
    ],
)
def test_what_the_box_wrote_cannot_act(wrote, shown):  # S23 S25 S33
    lines = message(a_verdict(last_line=wrote), "ev-1", NOON)[1].split("\n")
    assert lines[-1] == f"log (untrusted): {shown}"
    assert [line for line in lines if line.startswith("next")] == ["next: babysit logs gpu2 eval"]


ANY = st.text(max_size=600)


@example(*["\U000e0001" * 600] * 4)
@given(summary=ANY, says=ANY, last_line=ANY, command=ANY)
def test_whatever_the_texts_hold_it_stays_short_harmless_and_on_its_line(
    summary, says, last_line, command
):  # S23
    seen = (Evidence("log", NOON, says),) * 9
    verdict = msgspec.structs.replace(
        a_verdict(last_line=last_line), summary=summary, evidence=seen, next=(command,) * 9
    )
    title, body = message(verdict, "ev-1", NOON, "worse")
    lines = body.split("\n")
    assert len(title) + len(body) < 2000
    assert lines[-1].startswith("log (untrusted): ")
    assert all(line.isprintable() for line in [title, *lines])
    assert sum(line.startswith("log (untrusted): ") for line in lines) == 1
