"""A verdict as a notice: the title says it all, the body what was seen and the next command. Pure."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from fleet.model.verdict import Severity, Verdict
from fleet.text.say import ago, duration
from fleet.text.untrusted import render_untrusted

# Title and body are together below 2000 characters, the least that a chat service takes (Discord): what gets
# more refuses the notice.
_MAX_LINE_CHARS = 160
_MAX_COMMAND_CHARS = 200
_MAX_EVIDENCE = 4
_MAX_NEXT = 2

# Why it is told, as patrol names it, in words for the reader. The first time needs no words.
TOLD: dict[str, str] = {
    "worse": "told again: it got worse",
    "repeat": "told again: still so",
    "resolved": "resolved: the trouble told before is over",
}

# `no step for 26 min (usual: 40 s)`: what stands in brackets at the end is for the body.
_ASIDE = re.compile(r" \([^()]*\)$")
# What makes a chat service call people or build a link: `@all`, `<!channel>`, `<@U1>`, `https://`.
_CALLS_OR_LINKS = re.compile(r"[@<](?=\S)|:(?=//)")


def message(verdict: Verdict, event_id: str, now: float, kind: str = "first") -> tuple[str, str]:
    """Title and body of the notice about `verdict`; `kind` says why it is told (`TOLD`).

    Every line is one line of harmless text. What the box wrote stands only in the last line, named untrusted.
    """
    says = _ASIDE.sub("", verdict.summary.partition(" · ")[0])
    title = f"{verdict.run} on {verdict.box}: {_shown(verdict)}" + (f" ({says})" if says else "")
    return _line(title), "\n".join(_lines(verdict, event_id, now, kind))


def _lines(verdict: Verdict, event_id: str, now: float, kind: str) -> Iterator[str]:
    yield _line(f"{verdict.run}  {verdict.box}  {_shown(verdict)}  {verdict.summary}")
    if kind in TOLD:
        yield TOLD[kind]
    yield _line(f"since {_iso(verdict.since)} ({duration(now - verdict.since)}) · why {verdict.row}")
    for seen in verdict.evidence[:_MAX_EVIDENCE]:
        yield _line(f"seen: {seen.source}: {seen.says} ({ago(now - seen.observed_at)})")
    for command in verdict.next[:_MAX_NEXT]:
        # Whole or not at all: half a command must not be typed.
        if (line := _line(command, _MAX_COMMAND_CHARS)) == command:
            yield f"next: {line}"
    if verdict.facts_at is None:
        yield "facts: none, the box has never answered"
    else:
        yield f"facts: {ago(now - verdict.facts_at)} ({_iso(verdict.facts_at)})"
    yield _line(f"event: {event_id}")
    if verdict.last_line is not None:
        yield f"log (untrusted): {defused(verdict.last_line)}"


def defused(text: str, max_chars: int = _MAX_LINE_CHARS) -> str:
    """The box's text on one harmless line that calls nobody and links to nothing where notices are read."""
    return _line(_CALLS_OR_LINKS.sub(r"\g<0> ", text), max_chars)


def _shown(verdict: Verdict) -> str:
    word = verdict.health.value.replace("_", " ")
    return word.upper() if verdict.severity is Severity.PAGE else word


def _line(text: str, max_chars: int = _MAX_LINE_CHARS) -> str:
    return render_untrusted(text, max_chars)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
