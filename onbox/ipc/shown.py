"""Text of a loop on a person's terminal: labels and tracked values may hold anything."""

import re
import unicodedata
from typing import Any, Dict, Iterable, List

WIDTH = 80
_INDENT = " " * 9
_VALUE_CHARS = 60
# Printable to Python, and yet nothing on a screen. Source: Unicode's Default_Ignorable_Code_Point.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def quoted(word: str) -> str:
    """`word` as one word for a shell; bare where nothing in it means anything there."""
    bare = word.isascii() and word.replace("/", "").replace(".", "").replace("-", "").isalnum()
    return word if bare else "'%s'" % word.replace("'", "'\\''")


def shown(text: Any, max_chars: int = 400) -> str:
    """`text` as one harmless line: what could act on a terminal, or hide in it, is written as its code."""
    line = text if isinstance(text, str) else str(text)
    cut = len(line) > max_chars
    line = line[:max_chars]
    if not (line.isascii() and line.isprintable()):
        line = "".join(map(_harmless, line))
    return line + "... (cut)" if cut else line


def value_text(value: Any) -> str:
    """A tracked value in a few words; of a list its length and last value."""
    if isinstance(value, list) and value:
        return "[%d values, last %s]" % (len(value), shown(value[-1], _VALUE_CHARS))
    return shown(value, _VALUE_CHARS)


def harmless_state(state: Dict[str, Any]) -> Dict[str, Any]:
    """A state whose texts can be printed; its `tracked` values are texts then."""
    clean = {key: shown(value) if isinstance(value, str) else value for key, value in state.items()}
    tracked = state.get("tracked")
    if isinstance(tracked, dict):
        clean["tracked"] = {shown(key, _VALUE_CHARS): value_text(value) for key, value in tracked.items()}
    return clean


def wrapped(words: Iterable[str], width: int = WIDTH) -> List[str]:
    """`words` two spaces apart, as many a line as fit, each line indented as in a peek block."""
    lines: List[str] = []
    for word in words:
        joined = lines[-1] + "  " + word if lines else ""
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(_INDENT + word)
    return lines


def _harmless(char: str) -> str:
    if char.isprintable() and not _UNSEEN.match(char):
        return char
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    code = ord(char)
    return "\\x%02x" % code if code < 0x100 else "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code
