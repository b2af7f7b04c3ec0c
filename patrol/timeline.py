"""What happened to a run, in order of time: what the patrol told, and what people told its loops. Pure."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from fleet.ledger.rows import Event
from fleet.text.say import ago
from fleet.text.untrusted import render_untrusted
from patrol.report import iso

SHOWN = 20  # of a run, newest
COMMANDS_SHOWN = 5  # of all runs
COMMAND = "steer"
_WHO = {COMMAND: "command", "met": "notify", "died": "notify"}
_AGE_CHARS, _WHO_CHARS, _SAYS_CHARS = 15, 9, 300


def lines(events: Sequence[Event], now: float, width: int = 80) -> Iterator[str]:
    """A line an event, more where it is long, the newest last; none is wider than `width`."""
    for event in sorted(events, key=lambda event: event.at):
        head = f"  {ago(now - event.at):<{_AGE_CHARS}}{who(event):<{_WHO_CHARS}}"
        yield from textwrap.wrap(
            says(event), width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )


def document(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The same for programs; `run` is null for a loop of no run."""
    return [
        {
            "at": iso(event.at),
            "run": None if event.run_id == "-" else event.run_id,
            "by": who(event),
            "kind": event.kind,
            "severity": event.severity,
            "title": render_untrusted(event.title, _SAYS_CHARS),
            "untrusted_says": render_untrusted(event.body, _SAYS_CHARS) if event.kind in _WHO else None,
        }
        for event in sorted(events, key=lambda event: event.at)
    ]


def who(event: Event) -> str:
    """Who is behind it: patrol, a command that somebody gave, or a condition that somebody waited for."""
    return _WHO.get(event.kind, "patrol")


def says(event: Event) -> str:
    """The event on one harmless line; of a command also what came of it."""
    text = f"{event.title}: {event.body}" if event.kind == COMMAND else event.title
    return render_untrusted(text, 2 * _SAYS_CHARS)
