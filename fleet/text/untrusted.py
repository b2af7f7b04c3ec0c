"""The one way in which text from a box reaches a terminal, a file of ours or a notice: made harmless."""

import unicodedata

# Cc control, Cf format (bidi, zero width), Cs lone surrogates, Co private use, Cn unassigned,
# Zl and Zp line and paragraph separators: none of them may act on a screen.
_SHOWN_AS_CODE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
MAX_LINE_CHARS = 4096


def decode(data: bytes) -> str:
    """Bytes from a box as text; what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def render_untrusted(text: str, max_chars: int = MAX_LINE_CHARS) -> str:
    """One line of harmless text: every control, format or invisible character is shown as its code.

    A tab becomes a space. What is longer than `max_chars` is cut, and the cut is said.
    """
    cut = len(text) > max_chars
    line = "".join(_harmless(char) for char in text[:max_chars])
    return f"{line}… (line cut)" if cut else line


def _harmless(char: str) -> str:
    if char == "\t":
        return " "
    if unicodedata.category(char) not in _SHOWN_AS_CODE:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
