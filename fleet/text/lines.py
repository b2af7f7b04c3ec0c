"""Whole lines out of a stream of bytes, in bounded memory, as a terminal would have shown them."""

from collections.abc import Iterator

from fleet.text.untrusted import MAX_LINE_CHARS, decode

# Enough that a line of which more was dropped is longer than any that is shown whole: its cut is then said.
KEPT_BYTES = 4 * (MAX_LINE_CHARS + 1)


class Lines:
    """Feed it what comes; it gives each line once it is whole, as its last carriage return left it."""

    def __init__(self) -> None:
        self._pending = b""
        self._redrawn = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end in `data`; what follows them is kept, at most KEPT_BYTES of it."""
        *whole, last = data.split(b"\n")
        for part in whole:
            self._add(part)
            yield self.rest()
        self._add(last)

    def rest(self) -> str:
        """The line that has not ended yet, which is forgotten with this."""
        text, self._pending, self._redrawn = decode(self._pending.rstrip(b"\r")), b"", False
        return text

    @property
    def bar(self) -> str:
        """The newest state of a line that is drawn again and again; empty when there is none."""
        return decode(self._pending.rstrip(b"\r")) if self._redrawn else ""

    @property
    def empty(self) -> bool:
        """Whether the last line has ended."""
        return not self._pending

    def _add(self, part: bytes) -> None:
        text = self._pending + part
        shown = text.rstrip(b"\r")
        self._redrawn = self._redrawn or b"\r" in text
        again = b"\r" if len(shown) < len(text) else b""
        self._pending = shown[shown.rfind(b"\r") + 1 :][:KEPT_BYTES] + again
