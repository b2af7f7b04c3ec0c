"""Fillers: one a target syntax. A value that a template prints is always escaped for that syntax."""

import re
from collections.abc import Callable
from functools import cache
from html import escape
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


def fill_toml(template: str, **values: Any) -> str:
    """A TOML file: text is printed as one basic string, numbers as they are; the `key` filter makes a key.

    `#%` starts a statement line. Raises jinja2.UndefinedError for a missing name, ValueError for text that
    TOML cannot hold.
    """
    return _environment("toml").get_template(template).render(values)


def fill_markdown(template: str, **values: Any) -> str:
    """A Markdown page: printed values cannot act as markup; `code` filters make fenced or inline code.

    Raises jinja2.UndefinedError for a missing name.
    """
    return _environment("markdown").get_template(template).render(values)


def fill_html(template: str, **values: Any) -> str:
    """An HTML page: every printed value is text or the value of a quoted attribute, never markup.

    Raises jinja2.UndefinedError for a missing name.
    """
    return _environment("html").get_template(template).render(values)


@cache
def _environment(syntax: str) -> Environment:
    loader = FileSystemLoader(folder())
    if syntax in _LIKE_SH:
        # Delimiters that leave ${#name} and {{ to the shell, and keep a template a readable script.
        environment = Environment(  # noqa: S701 - shell or TOML: finalize quotes each value
            loader=loader,
            undefined=StrictUndefined,
            finalize=_LIKE_SH[syntax],
            keep_trailing_newline=True,
            line_statement_prefix="#%",
            variable_start_string="@{",
            variable_end_string="}@",
            block_start_string="@%",
            block_end_string="%@",
            comment_start_string="@#",
            comment_end_string="#@",
        )
        environment.filters["key"] = lambda name: Raw(toml_key(str(name)))
        return environment
    environment = Environment(  # noqa: S701 - Markdown or HTML: finalize escapes each value
        loader=loader,
        undefined=StrictUndefined,
        finalize=_finalize(html if syntax == "html" else markdown),
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


# Syntaxes whose comments begin with #, so that a template of theirs is almost a file of theirs.
_LIKE_SH: dict[str, Callable[[Any], str]] = {
    "sh": _finalize(quote.sh),
    "toml": lambda value: value if isinstance(value, Raw) else toml(value),
}


def toml(value: Any) -> str:
    """`value` as TOML: a number as it is, anything else as one basic string.

    Raises ValueError for text that is no Unicode (what was typed need not be).
    """
    if isinstance(value, int | float):
        return str(value).lower()
    text = str(value)
    text.encode()  # a lone surrogate stands for a byte that is no UTF-8: UnicodeEncodeError is a ValueError
    return f'"{"".join(_TOML_ESCAPES.get(char) or _toml_char(char) for char in text)}"'


_TOML_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _toml_char(char: str) -> str:
    # Controls must be escaped; what would be invisible or turn the line around is, for the reader's sake.
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def toml_key(name: str) -> str:
    """`name` as one key of a TOML table: bare where it can be, else quoted (a dot would nest)."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def markdown(text: str) -> str:
    """`text` as plain words of Markdown: harmless, on one line, none of it markup."""
    return render_untrusted(text).translate(_MARKDOWN_ACTS)


def html(text: str) -> str:
    """`text` as plain words of HTML, also inside a quoted attribute; harmless, on one line."""
    return escape(render_untrusted(text), quote=True)


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
