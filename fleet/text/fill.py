"""Fillers: one a target syntax. A value that a template prints is always escaped for that syntax."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fleet.text import quote
from fleet.text.templates import folder
from fleet.text.untrusted import render_untrusted

_MARKDOWN_ACTS = str.maketrans({c: f"\\{c}" for c in r"\`*_{}[]()#+!|<>~@"})


def fill_sh(template: str, **values: Any) -> str:
    """A shell script: every printed value is one quoted word. `#%` starts a statement line.

    Raises jinja2.UndefinedError for a missing name.
    """
    return _environment("sh").get_template(template).render(values)


def fill_markdown(template: str, **values: Any) -> str:
    """A Markdown page: printed values cannot act as markup; `code` filters make fenced or inline code.

    Raises jinja2.UndefinedError for a missing name.
    """
    return _environment("markdown").get_template(template).render(values)


@cache
def _environment(syntax: str) -> Environment:
    loader = FileSystemLoader(folder())
    if syntax == "sh":
        # Delimiters that leave ${#name} and {{ to the shell, and keep a template a readable script.
        return Environment(  # noqa: S701 - shell text: finalize quotes each value
            loader=loader,
            undefined=StrictUndefined,
            finalize=_finalize(quote.sh),
            keep_trailing_newline=True,
            line_statement_prefix="#%",
            variable_start_string="@{",
            variable_end_string="}@",
            block_start_string="@%",
            block_end_string="%@",
            comment_start_string="@#",
            comment_end_string="#@",
        )
    environment = Environment(  # noqa: S701 - Markdown: finalize escapes each value
        loader=loader,
        undefined=StrictUndefined,
        finalize=_finalize(markdown),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: Raw(inline_code(str(text)))
    environment.filters["fence"] = lambda text: Raw(fence(str(text)))
    return environment


class Raw(str):
    """Text that is already in the target's syntax."""

    __slots__ = ()


def _finalize(escape: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, Raw) else escape(str(value))


def markdown(text: str) -> str:
    """`text` as plain words of Markdown: harmless, on one line, none of it markup."""
    return render_untrusted(text).translate(_MARKDOWN_ACTS)


def inline_code(text: str) -> str:
    """`text` as inline code, with as many backticks as it takes."""
    text = render_untrusted(text)
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str) -> str:
    """`text` as a fenced block that its content cannot close; each line harmless."""
    lines = [render_untrusted(line) for line in text.split("\n")]
    ticks = "```"
    while any(ticks in line for line in lines):
        ticks += "`"
    return "\n".join([f"{ticks}text", *lines, ticks])
