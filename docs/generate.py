"""Writes the generated pages anew from the code they describe; `tests/house` compares them."""

import html
import re
import tomllib
from pathlib import Path

import click

from babysit.verbs import VERBS, cli
from fleet.errors import EXIT_CODES, TICK_PRECEDENCE
from patrol.table import TABLE

DOCS = Path(__file__).parent


def exit_codes() -> str:
    """docs/exit-codes.md."""
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    order = ", ".join(str(code) for code in TICK_PRECEDENCE)
    return (
        "# Exit codes\n\nA code keeps its meaning for ever; a code that is not listed means failure.\n\n"
        f"| code | meaning |\n| --- | --- |\n{rows}\n\n"
        f"When one tick holds several, the first of these that applies is its code: {order}.\n"
    )


def decision_table() -> str:
    """docs/decision-table.md: the rows in their order; the first that matches decides."""
    rows = "\n".join(
        f"| {row.id} | {row.health} | {row.severity} | {row.exit_code} | {row.because} |" for row in TABLE
    )
    return (
        "# The decision table\n\nOne tick asks these questions in this order, for each run; the first row\n"
        "that matches decides. Patrol, watch, resume and stop all use it, and nothing else judges.\n\n"
        f"| row | health | severity | exit | when |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )


def commands() -> str:
    """docs/commands.md: every verb's own help."""
    root = click.Context(cli, info_name="babysit", terminal_width=80, **cli.context_settings)
    parts = ["# Commands\n", f"```text\n{cli.get_help(root)}\n```\n"]
    for name in VERBS:
        command = cli.get_command(root, name)
        assert command is not None  # noqa: S101 - VERBS is the group's own list
        context = click.Context(command, info_name=name, parent=root, terminal_width=80)
        parts.append(f"## babysit {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


_NAMED = re.compile(r"#\s*((?:[RPSD]\d+[ ,]*)+)$", re.MULTILINE)


def requirements() -> str:
    """docs/requirements.md: each row of requirements.toml with the test files that name it."""
    rows = tomllib.loads((DOCS / "requirements.toml").read_text(encoding="utf-8"))
    tests: dict[str, set[str]] = {}
    for path in sorted((DOCS.parent / "tests").rglob("*.py")):
        for found in _NAMED.findall(path.read_text(encoding="utf-8")):
            for row in re.findall(r"[RPSD]\d+", found):
                tests.setdefault(row, set()).add(str(path.relative_to(DOCS.parent / "tests")))
    lines = [f"| {row} | {text} | {', '.join(sorted(tests.get(row, ())))} |" for row, text in rows.items()]
    return (
        "# Requirements\n\nWhat must be true, and the tests (below `tests/`) that show it. R: what it must\n"
        "do. P: promises. S: security. D: mistakes of earlier tools, never to be repeated.\n\n"
        "| row | must hold | tests |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


_SHOWN = ("--- 3.", "--- 9.")  # the chapters of docs/demo.txt, a real run, that README shows
_LINE, _CHAR, _MARGIN = 17, 7.83, 16
_COLOURS = (("--- ", "#8b949e"), ("$ ", "#7ee787"), ("(exit 0)", "#8b949e"), ("(exit", "#ffa657"))


def picture() -> str:
    """docs/demo.svg: a part of docs/demo.txt, the output of one `make demo`, as a terminal shows it."""
    text = (DOCS / "demo.txt").read_text(encoding="utf-8")
    lines = text[text.index(_SHOWN[0]) : text.index(_SHOWN[1])].rstrip().split("\n")
    width = round(max(map(len, lines)) * _CHAR) + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    rows = []
    for number, line in enumerate(lines):
        colour = next((colour for start, colour in _COLOURS if line.startswith(start)), "#e6edf3")
        if "FAILED" in line or "why R-" in line:
            colour = "#ff7b72"
        y = _MARGIN + number * _LINE + 12
        rows.append(f'<text x="{_MARGIN}" y="{y}" fill="{colour}">{html.escape(line)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" '
        'xml:space="preserve">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


PAGES = {
    "requirements.md": requirements,
    "exit-codes.md": exit_codes,
    "decision-table.md": decision_table,
    "commands.md": commands,
    "demo.svg": picture,
}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")
