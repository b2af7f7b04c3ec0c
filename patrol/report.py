"""Verdicts as people and programs read them: some lines a run, one document. Pure text.

What a box wrote stands only in `untrusted_…` fields, or quoted at the end of a line, made harmless.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fleet.model.probe import Broken, Loop
from fleet.model.verdict import TERMINAL, Health, Progress, Severity, Verdict
from fleet.text.say import ago, plural
from fleet.text.untrusted import render_untrusted

SCHEMA = "babysit.patrol/1"
NAME_COLUMN_MAX = 20
_LAST_LINE_CHARS = 200
_LINES_BEFORE = 3  # of the log, above its last line
_LAST_LINE_ROWS = 3  # what a program said last is what its owner needs: whole, as far as that goes
_QUOTED = frozenset({Health.FAILED, Health.STALLED, Health.VANISHED, Health.ORPHANED, Health.INTERRUPTED})


def lines(verdicts: Sequence[Verdict], now: float, width: int = 80) -> list[str]:
    """A line a run, with more lines below it where somebody is needed; none is wider than `width`.

    A run that needs somebody has its health in capitals and is followed by `why ROW` and the next command.
    """
    names = _column([verdict.run for verdict in verdicts])
    boxes = _column([verdict.box for verdict in verdicts])
    indent = names + 3
    text: list[str] = []
    for verdict in verdicts:
        needs = verdict.severity is Severity.PAGE
        health = verdict.health.upper() if needs else verdict.health.value
        head = f"{cut(verdict.run, names):<{names}}   {cut(verdict.box, boxes):<{boxes}}  {health:<11} "
        pieces = [piece for piece in verdict.summary.split(" · ") if piece]
        text += _wrapped(head, [*pieces, *_tracked(verdict), _age(verdict, now)], indent, width)
        if needs:
            command = verdict.next[0] if verdict.next else ""
            why = f"{'':<{indent}}why {verdict.row:<15} next: {command}"
            text += (
                [why]
                if len(why) <= width
                else [f"{'':<{indent}}why {verdict.row}", *_command(command, indent, width)]
            )
        if verdict.broken is not None and verdict.broken.saved is not None:
            text += _quoted("snapshot", verdict.broken.saved, indent, width, rows=_LAST_LINE_ROWS)
        if verdict.last_line and verdict.health in _QUOTED:
            before = verdict.last_lines[:-1] if verdict.last_lines[-1:] == (verdict.last_line,) else ()
            for line in before[-_LINES_BEFORE:]:
                text += _quoted("log", line, indent, width)
            text += _quoted("last line", verdict.last_line, indent, width, rows=_LAST_LINE_ROWS)
    return text


def summary(verdicts: Sequence[Verdict]) -> str:
    """`3 runs, 1 needs you`."""
    need = sum(verdict.severity is Severity.PAGE for verdict in verdicts)
    return f"{plural(len(verdicts), 'run')}, {need or 'none'} need{'' if need > 1 else 's'} you"


def closing(verdicts: Sequence[Verdict], took_s: float, armed: Sequence[str], width: int = 80) -> list[str]:
    """The last line of a tick: the summary, how long it took, what else watches; more lines if need be."""
    watch = armed or ("nothing else is watching (babysit crontab)",)
    return _wrapped("", [summary(verdicts), f"checked in {took_s:.1f} s", *watch], 2, width)


def document(
    verdicts: Sequence[Verdict],
    *,
    at: float | None,
    cursor: str | None,
    exit_code: int,
    errors: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The one JSON document of a tick. null stands for what is not known; times are ISO 8601 in UTC."""
    return {
        "schema": SCHEMA,
        "ok": not errors,
        "at": iso(at),
        "exit_code": exit_code,
        "cursor": cursor,
        "summary": summary(verdicts),
        "runs": [_run(verdict) for verdict in verdicts],
        "errors": list(errors),
    }


def iso(at: float | None) -> str | None:
    """Epoch seconds as `2026-11-22T03:03:02+00:00`; None for None and for what no calendar holds."""
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None


def _run(verdict: Verdict) -> dict[str, Any]:
    return {
        "run": verdict.run,
        "id": verdict.run_id,
        "box": verdict.box,
        "health": verdict.health.value,
        "row": verdict.row,
        "severity": verdict.severity.value,
        "says": verdict.summary,
        "since": iso(verdict.since),
        "facts_at": iso(verdict.facts_at),
        "attempt": verdict.attempt,
        "budget": verdict.budget,
        "strict_kex": verdict.strict_kex,
        "progress": _progress(verdict.progress),
        "loops": [_loop(loop) for loop in verdict.loops],
        "broken_off": _broken(verdict.broken),
        "usage": _usage(verdict),
        "evidence": [
            {"source": seen.source, "observed_at": iso(seen.observed_at), "says": seen.says}
            for seen in verdict.evidence
        ],
        "untrusted_last_lines": [render_untrusted(line, _LAST_LINE_CHARS) for line in verdict.last_lines],
        "untrusted_last_line": (
            None if verdict.last_line is None else render_untrusted(verdict.last_line, _LAST_LINE_CHARS)
        ),
        "next": list(verdict.next),
    }


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {
        "index": progress.index,
        "total": progress.total,
        "unit": progress.unit,
        "eta_s": progress.eta_s,
        "last_step_at": iso(progress.last_step_at),
        "usual_step_s": progress.usual_step_s,
    }


def _tracked(verdict: Verdict) -> list[str]:
    if not verdict.loops:
        return []
    from patrol.progress import tracked_words  # noqa: PLC0415 - `status` reads no log: its patterns take time

    return tracked_words(verdict)


def _usage(verdict: Verdict) -> dict[str, Any] | None:
    if verdict.usage is None:
        return None
    from patrol.usage import document  # noqa: PLC0415 - as above, with all that judges a run

    return document(verdict.usage, iso)


def _loop(loop: Loop) -> dict[str, Any]:
    return {
        "pid": loop.pid,
        "rank": loop.rank,
        "iteration": loop.iteration,
        "total": loop.total,
        "eta_s": loop.eta_s,
        "moved_at": iso(loop.moved_at),
        "paused": loop.paused,
        "kind": loop.kind,
        "state_age_s": loop.state_age_s,
        "untrusted_label": render_untrusted(loop.label, _LAST_LINE_CHARS),
        "untrusted_tracked": {render_untrusted(name): number for name, number in loop.tracked},
    }


def _broken(loop: Broken | None) -> dict[str, Any] | None:
    if loop is None:
        return None
    return {
        "iteration": loop.iteration,
        "at": iso(loop.ended_at),
        "rank": loop.rank,
        "untrusted_saved": None if loop.saved is None else render_untrusted(loop.saved, _LAST_LINE_CHARS),
    }


def _age(verdict: Verdict, now: float) -> str:
    if verdict.facts_at is None:
        return "no facts yet"
    age = ago(now - verdict.facts_at)
    # What is over is not asked again: its sentence says "ended 1 min ago" of that moment.
    return f"seen {age}" if verdict.health in TERMINAL and age != "now" else age


def _wrapped(head: str, pieces: Iterable[str], indent: int, width: int) -> list[str]:
    """`head` and the pieces with ` · ` between them; a piece that does not fit begins a line of its own."""
    out: list[str] = []
    line, empty = head, True
    for piece in pieces:
        if not empty and len(line) + 3 + len(piece) <= width:
            line += f" · {piece}"
            continue
        if not empty:
            out.append(line)
            line = " " * indent
        for number, word in enumerate(piece.split(" ")):
            gap = "" if number == 0 or not line.strip() else " "
            if line.strip() and len(line) + len(gap) + len(word) > width:
                out.append(line)
                line, gap = " " * indent, ""
            while len(line) + len(gap) + len(word) > width:
                room = max(1, width - len(line))
                out.append((line + word[:room]).rstrip())
                line, word, gap = " " * indent, word[room:], ""  # noqa: PLW2901 - what is left of a long word
            line += gap + word
        empty = False
    return [line.rstrip() for line in [*out, line]]


def _command(command: str, indent: int, width: int) -> list[str]:
    """A command whole on one line where that fits; a longer one is not cut, but begins at the margin."""
    line = f"{'':<{indent}}next: {command}"
    if len(line) <= width:
        return [line]
    return _wrapped(" " * indent, [f"next: {command}"], indent, width)


def _quoted(label: str, text: str, indent: int, width: int, rows: int = 1) -> list[str]:
    """A line of the box in quotes, harmless, on at most `rows` lines; a cut is shown."""
    lead = f"{'':<{indent}}{label:<9} "
    room = max(8, width - len(lead))
    shown = f'"{cut(render_untrusted(text, _LAST_LINE_CHARS), room * rows - 2)}"'
    pieces = [shown[at : at + room] for at in range(0, len(shown), room)]
    return [lead + pieces[0], *(" " * len(lead) + piece for piece in pieces[1:])]


def _column(names: Sequence[str]) -> int:
    return min(max(map(len, names), default=0), NAME_COLUMN_MAX)


def cut(text: str, size: int) -> str:
    """The first `size` characters; `…` stands for what is left out."""
    return text if len(text) <= size else text[: size - 1] + "…"
