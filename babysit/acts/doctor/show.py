"""A report as lines of at most 80 columns, and as a document. Pure; a box's text cannot act on a screen."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from babysit.acts.doctor.doctor import Report
from babysit.acts.doctor.lines import Level, Line
from fleet.text.untrusted import render_untrusted

_WIDTH = 80
_MARGIN = 22  # level and name before what is said
_SHOWN = {Level.OK: "ok", Level.WARN: "warn", Level.FAIL: "FAIL"}


def lines(found: Sequence[Line]) -> Iterator[str]:
    """The findings under the headings of their groups; commands are never broken."""
    group = None
    for line in found:
        if line.group != group:
            group = line.group
            yield group
        yield from _one(line)


def _one(line: Line) -> Iterator[str]:
    found = line.found
    head = f"  {_SHOWN[found.level]:<5} {line.name:<14}"
    says = f"{found.says}: {found.untrusted}" if found.untrusted else found.says
    yield from _wrapped(says, f"{head:<{_MARGIN}}")
    for more in found.more:
        yield from _wrapped(more, " " * _MARGIN)
    for command in found.fix if found.level is not Level.OK else ():
        yield f"{'':<{_MARGIN}}fix: {render_untrusted(command)}"


def _wrapped(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        render_untrusted(text),
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * _MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )


def closing(report: Report) -> Iterator[str]:
    """What it comes to, in one or two lines."""
    if report.not_asked and any(line.group == "box" for line in report.lines):
        yield from textwrap.wrap(
            f"not asked, because the box was not reached so far: {', '.join(report.not_asked)}",
            _WIDTH,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
    counts = ((Level.OK, "ok"), (Level.WARN, "to know"), (Level.FAIL, "to mend"))
    says = ", ".join(f"{report.count(level)} {word}" for level, word in counts)
    yield f"{says} · checked in {report.took_s:.1f} s"


def document(report: Report) -> dict[str, Any]:
    """The JSON shape, schema babysit.doctor/1."""
    return {
        "schema": "babysit.doctor/1",
        "ok": report.exit_code == 0,
        "exit_code": report.exit_code,
        "box": report.box,
        "took_s": round(report.took_s, 3),
        "lines": [shaped(line) for line in report.lines],
        "not_asked": list(report.not_asked),
    }


def shaped(line: Line) -> dict[str, Any]:
    """One finding; what the box itself wrote stands in `untrusted_says`, null where it said nothing."""
    return {
        "group": line.group,
        "name": line.name,
        "level": line.found.level,
        "says": render_untrusted(line.found.says),
        "untrusted_says": render_untrusted(line.found.untrusted) or None,
        "more": [render_untrusted(more) for more in line.found.more],
        "fix": [render_untrusted(command) for command in line.found.fix],
    }
