"""explain: what a row, a code or a word means."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION
from fleet.errors import EXIT_CODES

if TYPE_CHECKING:
    from babysit.acts.explain import Meaning


@click.command()
@click.argument("word", metavar="[ROW|CODE|WORD]", required=False)
@JSON_OPTION
def explain(*, word: str | None, as_json: bool) -> int:
    """Say what a row, a code or a word means, and what to do. Offline.

    Rows of the decision table (R-STALL-1), exit codes (20), error codes (BS-HOSTKEY-CHANGED), health words
    (orphaned) and severities (page). Without a word: all of them.
    """
    from babysit.acts import explain as act

    found = (act.explain(word),) if word is not None else tuple(act.meanings().values())
    if as_json:
        speak.document(
            {
                "schema": "babysit.explain/1",
                "ok": True,
                "exit_code": 0,
                "meanings": [_shaped(each) for each in found],
            }
        )
        return 0
    if word is None:
        for kind in dict.fromkeys(each.kind for each in found):
            speak.prose(f"{kind}: {', '.join(each.id for each in found if each.kind == kind)}")
        return 0
    for meaning in found:
        speak.line(f"{meaning.id} ({meaning.kind})")
        for label, text in _told(meaning):
            speak.line(
                textwrap.fill(
                    text,
                    80,
                    initial_indent=f"  {label:<14}",
                    subsequent_indent=" " * 16,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    return 0


def _told(meaning: "Meaning") -> Iterator[tuple[str, str]]:
    yield "means", meaning.says
    yield from meaning.facts
    if meaning.exit_code is not None and meaning.kind != "exit code":
        yield "exit code", f"{meaning.exit_code}: {EXIT_CODES[meaning.exit_code]}"
    if meaning.see:
        yield "see", ", ".join(meaning.see)
    for command in meaning.next:
        yield "what to do", command


def _shaped(meaning: "Meaning") -> dict[str, Any]:
    return {
        "id": meaning.id,
        "kind": meaning.kind,
        "says": meaning.says,
        "exit_code": meaning.exit_code,
        **{label.replace(" ", "_"): value for label, value in meaning.facts},
        "see": list(meaning.see),
        "next": list(meaning.next),
    }
