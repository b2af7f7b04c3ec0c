"""Writes the generated pages anew from the code they describe; `tests/house` compares them with what stands."""

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
        "# Exit codes\n\nA promise: a code keeps its meaning, and a code that is not listed means failure.\n\n"
        f"| code | meaning |\n| --- | --- |\n{rows}\n\n"
        f"When one tick holds several, the first of these that applies is its code: {order}.\n"
    )


def decision_table() -> str:
    """docs/decision-table.md: the rows in their order; the first that matches decides."""
    rows = "\n".join(
        f"| {row.id} | {row.health} | {row.severity} | {row.exit_code} | {row.because} |" for row in TABLE
    )
    return (
        "# The decision table\n\nOne tick asks these questions in this order, for each run; the first row that matches\n"
        "decides. Patrol, watch, resume and stop all use it, and nothing else judges.\n\n"
        f"| row | health | severity | exit | when |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )


def commands() -> str:
    """docs/commands.md: every verb's own help."""
    root = click.Context(cli, info_name="babysit", max_content_width=80, terminal_width=80)
    parts = ["# Commands\n", f"```text\n{cli.get_help(root)}\n```\n"]
    for name in VERBS:
        command = cli.get_command(root, name)
        assert command is not None  # noqa: S101 - VERBS is the group's own list
        context = click.Context(command, info_name=name, parent=root, max_content_width=80, terminal_width=80)
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
        "# Requirements\n\nWhat must be true, and the tests (below `tests/`) that show it. R: what it must do. P: promises.\n"
        "S: security. D: mistakes of earlier tools, never to be repeated.\n\n"
        "| row | must hold | tests |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


PAGES = {"requirements.md": requirements, "exit-codes.md": exit_codes, "decision-table.md": decision_table, "commands.md": commands}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")
