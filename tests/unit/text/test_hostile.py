"""The hostile corpus through everything that shows a box's text, with a terminal emulator as the judge."""

import json
import re
import unicodedata
from collections.abc import Callable

import pyte
import pytest
from hostile import CORPUS, ENTRIES
from unit.patrol.build import FREE, GONE, NOW, box, end, facts, known, log, probe, run

from fleet.model.probe import Alive, Gpu
from fleet.notices.message import message
from fleet.text.fill import fence, inline_code, markdown
from fleet.text.untrusted import decode, render_untrusted
from handbook.facts import facts as handbook_facts
from handbook.render import render
from patrol.ask import LOG_BYTES_RUN
from patrol.decide import decide
from patrol.history import History, fold
from patrol.progress import read_news
from patrol.report import document, lines

BENIGN = b"saving to disk"
# What shows nothing, although Python calls it printable: a name could hide in it (Unicode's Default_Ignorable).
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


class Acts:
    """Stands where the emulator has its screen, and notes every event that it is asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattr__(self, event: str) -> Callable[..., None]:
        return lambda *_, **__: self.seen.append(event)


def acts_of(text: str) -> list[str]:
    """What a terminal does with `text` other than showing it line by line."""
    acts = Acts()
    pyte.Stream(acts).feed(text.replace("\n", "\r\n"))
    return [act for act in acts.seen if act not in ("draw", "carriage_return", "linefeed")]


def shows(text: str) -> None:
    """Fails where `text` could act on a terminal, or hides something."""
    assert not acts_of(text)
    bad = [
        char
        for char in text
        if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")
    ]
    assert not bad
    assert not UNSEEN.search(text)
    text.encode()


def test_the_corpus_is_wide_enough_and_every_entry_is_one_line():  # S23
    assert len(ENTRIES) >= 150
    assert len({entry for _, entry in ENTRIES}) == len(ENTRIES)
    assert not [entry for _, entry in ENTRIES if b"\n" in entry]


@pytest.mark.parametrize("kind", ["csi", "osc", "escape", "c1"])
def test_the_judge_sees_what_is_shown_as_it_is(kind):
    """Without the filter the same entries do act: the judge can say no."""
    seen = [entry for entry in CORPUS[kind] if acts_of(entry.decode("utf-8", "replace"))]
    assert seen


@pytest.mark.parametrize("kind", CORPUS)
def test_shown_text_only_shows(kind):  # S23
    for entry in CORPUS[kind]:
        text = decode(entry)
        for shown in (render_untrusted(text), markdown(text), inline_code(text), fence(text)):
            shows(shown)
        assert "\n" not in render_untrusted(text)


def look(last: bytes, *, failed: bool):
    """A run whose log ends with `last`, judged after a first healthy look."""
    of = run()
    more = (
        {"end": known(end("failed", stage="02-train", rc=3, why="exit")), **GONE, "locks": FREE}
        if failed
        else {}
    )
    history = fold(History(), of, probe(), NOW - 60)
    text = b"Epoch 3/9 - loss: 0.5\n" + last + b"\n"
    seen = probe(facts(log=log(text, start=1_000_000 - len(text)), **more))
    folded = fold(history, of, seen, NOW)
    return of, decide(of, seen, folded, NOW)


@pytest.mark.parametrize("failed", [False, True], ids=["running", "failed"])
@pytest.mark.parametrize("kind", CORPUS)
def test_a_line_of_the_log_steers_nothing_and_acts_nowhere(kind, failed):  # S24 S25 S26 S33 D10
    of, benign = look(BENIGN, failed=failed)
    base = render(handbook_facts(of, host="gpu1.example", verdict=benign), NOW).splitlines()
    for entry in CORPUS[kind]:
        of, verdict = look(entry, failed=failed)
        judged = (verdict.row, verdict.health, verdict.severity, verdict.exit_code, verdict.next)
        assert judged == (benign.row, benign.health, benign.severity, benign.exit_code, benign.next), entry
        shown = lines([verdict], NOW)
        shows("\n".join(shown))
        assert all(len(line) <= 80 for line in shown)
        text = json.dumps(document([verdict], at=NOW, cursor="1", exit_code=verdict.exit_code))
        assert text.isascii() and json.loads(text)["runs"][0]["next"] == list(benign.next)
        fields = {key for key, value in json.loads(text)["runs"][0].items() if "canary" in json.dumps(value)}
        assert fields <= {"untrusted_last_line", "untrusted_last_lines"}
        title, body = message(verdict, "ev-1", NOW)
        shows(title)
        shows(body)
        told = body.split("\n")
        assert [line for line in told if line.startswith("next: ")] == [
            f"next: {each}" for each in benign.next[:2]
        ]
        assert (
            "@everyone" not in body and "<!channel>" not in body and "<@U" not in body and "://" not in body
        )
        page = render(handbook_facts(of, host="gpu1.example", verdict=verdict), NOW)
        shows(page)
        other = [line for line in page.splitlines() if line not in base]
        assert all(line.startswith(("box| ", "`")) for line in other), other


@pytest.mark.parametrize("kind", CORPUS)
def test_names_that_the_box_gives_its_processes_and_devices_act_nowhere(kind):  # S23 S26
    for entry in CORPUS[kind]:
        name = decode(entry)[:64]
        of = run()
        seen = probe(
            facts(**{**GONE, "alive": known((Alive(7, "tag", name),))}),
            box(gpus=known((Gpu(0, name, 0.0, 1, 2),))),
        )
        verdict = decide(of, seen, fold(History(), of, seen, NOW), NOW)
        assert verdict.row.startswith("R-ORPHAN")
        shows("\n".join(lines([verdict], NOW)))
        shows("\n".join(message(verdict, "ev-1", NOW)))
        assert not [command for command in verdict.next if name and len(name) > 8 and name in command]


@pytest.mark.parametrize(
    "piece", [b"Epoch ", b"1/", b"1/1 ", b"loss: ", b"- ", b"a", b"(", b"[", b"\x1b[", b"\x1b[1", b"\r", b" ", b"\t1", b"1.", b"e", b"%|"]
)  # fmt: skip
@pytest.mark.timeout(20)
def test_no_line_makes_a_reader_work_for_long(piece):  # S19 S22
    """Four times what a probe brings of a log, as one line and as many: each pattern looks at a bounded piece."""
    whole = (piece * (4 * LOG_BYTES_RUN))[: 4 * LOG_BYTES_RUN]
    lines = b"\n".join(whole[at : at + 300] for at in range(0, len(whole), 300))
    for text in (whole, lines):
        assert read_news(text + b"!\n", ("(a+)+$",)).tail_bytes == 0
