"""How every verb speaks: results on stdout, prose on stderr, one JSON document when asked for one."""

import json
import shutil
import sys
import textwrap
from typing import Any

import click

from fleet.errors import BabysitError, SpecError
from fleet.text.redact import redact
from fleet.text.untrusted import render_untrusted

_LEAST_COLUMNS = 20


def line(text: str = "") -> None:
    """One line of result."""
    click.echo(redact(text))


def prose(text: str, *, beside: bool = False) -> None:
    """One sentence of result, or `beside` it, in lines of at most 80 columns, fewer on a narrow terminal.

    No word of it is cut. A secret is taken out while it still stands on one line.
    """
    columns = max(_LEAST_COLUMNS, min(80, width()))
    for wrapped in textwrap.wrap(
        redact(text), columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    ):
        (note if beside else line)(wrapped)


def note(text: str) -> None:
    """One line beside the result: progress, warnings."""
    click.echo(redact(text), err=True)


def trouble(text: str) -> None:
    """A sentence of ours about what went wrong: wrapped for a terminal, one line for a log."""
    shown = render_untrusted(text)
    if sys.stderr is not None and sys.stderr.isatty():
        prose(shown, beside=True)
    else:
        note(shown)


def document(content: dict[str, Any]) -> None:
    """The one JSON document of a `--json` call: ASCII only, whatever a log holds."""
    click.echo(redact(json.dumps(content, allow_nan=False)))


def error(caught: BabysitError, *, as_json: bool) -> int:
    """Say what failed, on which thing, and the next command; returns the exit code.

    What was typed, or came from a box, may stand in it: no control character of theirs reaches the terminal.
    """
    if as_json:
        document(error_document(caught))
        return caught.exit_code
    where = f"{caught.where}: " if caught.where and caught.where not in caught.what else ""
    trouble(f"babysit: {where}{caught.what}")
    for problem in caught.problems if isinstance(caught, SpecError) else ():
        trouble(f"  {problem}")
    for text in caught.hint.splitlines():
        trouble(text)
    for text in caught.untrusted:
        note(render_untrusted(text))
    for command in caught.next:
        note(f"next: {render_untrusted(command)}")
    sys.stderr.flush()
    return caught.exit_code


def error_document(caught: BabysitError) -> dict[str, Any]:
    """The JSON shape of an error, schema babysit.error/1."""
    shaped: dict[str, Any] = {
        "schema": "babysit.error/1",
        "ok": False,
        "exit_code": caught.exit_code,
        "code": caught.code,
        "where": caught.where,
        "what": caught.what,
        "next": list(caught.next),
    }
    untrusted = caught.untrusted
    if caught.quotes_box:
        # What a program reads as ours is ours: the kind of error. The sentence repeats the box.
        shaped["what"] = (type(caught).__doc__ or "").partition("\n")[0]
        untrusted = (caught.what, *caught.hint.splitlines(), *untrusted)
    elif caught.hint:
        shaped["hint"] = caught.hint
    if untrusted:
        shaped["untrusted_lines"] = [render_untrusted(text) for text in untrusted]
    if isinstance(caught, SpecError):
        shaped["problems"] = list(caught.problems)
    return shaped


def takes_unicode() -> bool:
    """Whether results can hold more than ASCII."""
    return (getattr(sys.stdout, "encoding", None) or "ascii").lower().startswith("utf")


def width() -> int:
    """The columns of the terminal that results go to; 80 where there is none."""
    return min(shutil.get_terminal_size((80, 24)).columns, 200)


def said_yes(question: str) -> bool:
    """Whether somebody at a terminal answered it with yes."""
    return at_a_terminal() and click.confirm(question, err=True)


def at_a_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()
