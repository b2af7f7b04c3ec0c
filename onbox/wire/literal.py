"""A value that someone typed: literals only, and only small ones."""

import ast
import re
from typing import Any

_BYTES = 4096
_DEPTH = 20
# The parser would print a warning on the program's standard error for each of these.
_ESCAPE = re.compile(r"""(?<!\\)(?:\\\\)*\\(?:[^\\'"abfnrtvx0-7NuU]|[4-7][0-7]{2})""")
_WARNS = re.compile(r"[0-9a-fA-F.jJ](?:and|else|for|if|in|is|not|or)\b")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_OPENING, _CLOSING = "([{", ")]}"


def literal(text: str) -> Any:
    """The value of a Python literal: `0.001`, `'adam'`, `[1, 2]`. Raises ValueError with a sentence."""
    stripped = text.strip()
    if len(stripped.encode("utf-8", "surrogatepass")) > _BYTES:
        raise ValueError("longer than %d bytes" % _BYTES)
    if any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in stripped):
        raise ValueError("a control character stands in it")
    if _WARNS.search(_QUOTED.sub("''", stripped)) or _ESCAPE.search(stripped):
        raise ValueError("not a Python literal that every Python reads alike: %s" % stripped[:60])
    if _nested(stripped) > _DEPTH:
        raise ValueError("nested deeper than %d" % _DEPTH)
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError, TypeError):
        raise ValueError("not a Python literal: %s (text needs quotes)" % stripped[:60]) from None
    except (RecursionError, MemoryError, OverflowError):
        raise ValueError("too large to read") from None


def _nested(text: str) -> int:
    """How deep brackets or signs stand in each other; those in quotes count too: that only refuses more."""
    deep = most = signs = 0
    for sign in text:
        if sign in _OPENING:
            deep += 1
        elif sign in _CLOSING:
            deep -= 1
        signs = signs + (sign in "+-~") if sign in "+-~ " else 0
        most = max(most, deep, signs)
    return most
