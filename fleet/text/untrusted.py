"""The one way in which text from a box reaches a terminal, a file of ours or a notice: made harmless."""

import re
import unicodedata

MAX_LINE_CHARS = 4096

# Printable to Python, and yet nothing on a screen: fillers, joiners and selectors in which a name could hide.
# Source: Unicode's Default_Ignorable_Code_Point, without what isprintable() already refuses.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def decode(data: bytes) -> str:
    """Bytes from a box as text; what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def render_untrusted(text: str, max_chars: int = MAX_LINE_CHARS) -> str:
    """One line of harmless text: every control, format or invisible character is shown as its code.

    Any other blank becomes a space. What is then longer than `max_chars` is cut, and the cut is said.
    """
    line = text[:max_chars]
    if not (line.isascii() and line.isprintable()):
        line = "".join(map(_harmless, line))
    cut = len(text) > max_chars or len(line) > max_chars
    return f"{line[:max_chars]}… (line cut)" if cut else line


def _harmless(char: str) -> str:
    # isprintable() is false for controls, formats (bidi, zero width), surrogates, private use, line
    # separators and every blank but the space: none of them may act on a screen.
    if char.isprintable() and not _UNSEEN.match(char):
        return char
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
