"""Facts to pages: the handbook of one run, the index of all. Pure but for reading our own templates."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleet.model.verdict import Health
from fleet.text import redact, say, untrusted
from handbook import commands
from handbook.facts import HandbookFacts
from patrol import timeline

MEANINGS: tuple[tuple[Health, str], ...] = (
    (Health.QUEUED, "armed, and not started yet"),
    (Health.STARTING, "started moments ago; too early to tell more"),
    (Health.RUNNING, "alive, and getting on"),
    (Health.SLOW, "alive, and getting on more slowly than it used to"),
    (Health.STALLED, "alive, but no progress for longer than its limit"),
    (Health.AT_RISK, "alive, but the box is about to fail it (disk, memory)"),
    (Health.ORPHANED, "its chain died and something it started lives on; stop that first"),
    (Health.FAILED, "a stage ended badly, and the record says how"),
    (Health.VANISHED, "nothing of it lives and there is no record of an end"),
    (Health.INTERRUPTED, "the box restarted under it"),
    (Health.PREEMPTED, "the provider took the box away and gave it back"),
    (Health.FINISHED, "every stage ended well, and the record proves it"),
    (Health.STOPPED, "somebody stopped it on purpose"),
    (Health.SUPERSEDED, "a newer run of the same name took its place"),
    (Health.LOST, "what answers is not the box that it was started on"),
    (Health.UNREACHABLE, "the box did not answer, which says nothing about the run"),
    (Health.UNKNOWN, "an answer came that could not be read; nothing is claimed"),
)

# A line of the page starts so only where we wrote it: see _tame.
_NOTES = "<!-- notes by hand"
_OURS = ("begin", "end")  # printed as they are: Markdown's own comments, made of nothing but a run id
_OPENING = re.compile(rf"^{_NOTES}, \S+: begin; .*-->$", re.MULTILINE)


def render(facts: HandbookFacts, now: float) -> str:
    """The handbook of one run as Markdown, known secrets masked. `now` is host time, epoch seconds."""
    verdict = facts.verdict
    seen_at = None if verdict is None else verdict.facts_at
    return _filled(
        "handbook/run.md",
        facts=facts,
        verdict=verdict,
        away=verdict is not None and verdict.health is Health.UNREACHABLE,
        seen=None if seen_at is None else stamp(seen_at),
        age=None if seen_at is None else say.duration(now - seen_at),
        written=stamp(now),
        armed_at=stamp(facts.armed_at),
        evidence=[
            {"source": each.source, "at": stamp(each.observed_at), "says": each.says}
            for each in (verdict.evidence if verdict else ())
        ],
        happened=[
            {
                "at": stamp(each.at),
                "who": timeline.who(each),
                "says": each.title,
                "box": _quoted(each.body) if each.kind == timeline.COMMAND else None,
            }
            for each in sorted(facts.events, key=lambda event: event.at)
        ],
        last_line=_quoted(verdict.last_line if verdict else None),
        stages=[{"file": stage.file, "command": _tame(stage.command)} for stage in facts.stages],
        first=_tame(commands.adopt(facts)),
        way=_tame(f"Host {facts.host}\n  {facts.way}") if facts.way else None,
        carry_on=commands.carry_on(facts.box, facts.name),
        look=commands.look(facts.box, facts.name),
        watch=commands.watch(facts.box, facts.name),
        logs=commands.logs(facts.box, facts.name),
        usage=commands.usage(facts.box, facts.name),
        watched=[stage.file for stage in facts.stages if stage.monitor],
        stop=commands.stop(facts.box, facts.name),
        tail_log=_tame(commands.tail_log(facts)),
        read_records=_tame(commands.read_records(facts)),
        start_by_hand=_tame(commands.start_by_hand(facts)),
        show_results=_tame(commands.show_results(facts) or ""),
        expected=commands.expected(verdict),
        meanings=MEANINGS,
        begin=f"{_NOTES}, {facts.run_id}: begin; what stands below is kept when the page is rewritten -->",
        end=f"{_NOTES}, {facts.run_id}: end -->",
    )


def render_index(runs: Sequence[HandbookFacts], now: float) -> str:
    """The page that lists all current runs, in the order given, each with its page and first command."""
    rows = [
        {"name": run.name, "box": run.box, "run_id": run.run_id, "says": _standing(run, now)} for run in runs
    ]
    first = "\n".join(commands.adopt(run) for run in runs)
    return _filled("handbook/index.md", rows=rows, commands=first, written=stamp(now))


def merge_notes(old_text: str, new_text: str) -> str:
    """`new_text` with the notes that stand by hand in `old_text`; without any, `new_text` as it is.

    Notes are what stands below the opening comment of the same run, what was added below the closing
    one included. Blank lines around them are ours.
    """
    opening = _opening(new_text)
    kept = _below(opening, old_text)
    if opening is None or kept is None:
        return new_text
    closing = f"{opening.partition(': begin')[0]}: end -->"
    before, found, after = f"\n{kept}\n".rpartition(f"\n{closing}\n")
    notes = f"{before}\n{after}".strip("\n") if found else kept.strip("\n")
    head = f"\n{new_text}".rpartition(f"\n{opening}\n")[0].removeprefix("\n")
    return f"{head}\n{opening}\n\n{notes}\n\n{closing}\n" if notes else new_text


def has_place_for_notes(old_text: str, new_text: str) -> bool:
    """Whether the opening comment of `new_text` stands in `old_text`: nobody damaged it."""
    return _below(_opening(new_text), old_text) is not None


def stamp(at: float) -> str:
    """A moment as a page says it: read days later, by somebody elsewhere."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _standing(run: HandbookFacts, now: float) -> str:
    if run.verdict is None:
        return "not looked at yet"
    at = run.verdict.facts_at
    age = "never seen" if at is None else f"seen {say.ago(now - at)}"
    return f"{run.verdict.health.value}, {age}; {', '.join(run.armed) or 'nothing is watching it'}"


def _quoted(line: str | None) -> str | None:
    # One line whatever it holds, and marked as the box's.
    return None if line is None else f"box| {untrusted.render_untrusted(line)}"


def _tame(text: str) -> str:
    # No line of a command may pass for the comments between which notes are kept.
    return re.sub(rf"^{_NOTES}", r"\\x3c" + _NOTES[1:], text, flags=re.MULTILINE)


def _filled(template: str, **values: Any) -> str:
    from fleet.text import fill  # noqa: PLC0415 - most commands fill no page, and jinja2 takes its time

    own = {name: fill.Raw(value) if name in _OURS else value for name, value in values.items()}
    return redact.redact(fill.fill_markdown(template, **own))


def _opening(text: str) -> str | None:
    return next(iter(_OPENING.findall(text)[-1:]), None)


def _below(opening: str | None, text: str) -> str | None:
    _, found, below = f"\n{text}".partition(f"\n{opening}\n")
    return below if found else None
