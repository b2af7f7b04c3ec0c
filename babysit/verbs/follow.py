"""What `logs -f` shows of each piece of a log: whole harmless lines, or the bytes as they are."""

from collections import deque
from typing import BinaryIO

from babysit.verbs import speak
from fleet import clock
from fleet.arming.follow_log import Piece, Spot
from fleet.text.lines import Lines
from fleet.text.untrusted import render_untrusted

_BAR_EVERY_S = 10.0


class Screen:
    """Shows the last `count` lines of the first piece, and all of those that follow.

    `raw` takes the bytes as they are, on request; None: they are shown as harmless lines.
    """

    def __init__(self, count: int, *, raw: BinaryIO | None) -> None:
        self._count = count
        self._raw = raw
        self._lines = Lines()
        self._spot: Spot | None = None
        self._bar = ""
        self._bar_at = clock.monotonic()

    def take(self, piece: Piece) -> None:
        """Show what is new in `piece`."""
        if piece.spot is None:
            return
        begins = self._spot is None
        if not begins and Spot(piece.spot.file_id, piece.start) != self._spot:
            self.close()  # what it does not follow on must not become one line with it
        self._spot = piece.spot
        if self._raw is not None:
            self._raw.write(self._tail(piece) if begins else piece.data)
            self._raw.flush()
            return
        lines = self._lines.feed(piece.data)
        if begins and piece.start > 0:
            next(lines, None)  # the end of a line whose beginning was not fetched
        for line in deque(lines, maxlen=self._count if begins else None):
            speak.line(render_untrusted(line))
        self._redrawn()

    def close(self) -> None:
        """Show the line that has not ended, when there is one."""
        if not self._lines.empty:
            speak.line(render_untrusted(self._lines.rest()))

    def _tail(self, piece: Piece) -> bytes:
        lines = piece.data.splitlines(keepends=True)
        return b"".join(lines[-self._count :])

    def _redrawn(self) -> None:
        """A progress bar, as a line of its own now and then: nothing of a log may move our cursor."""
        bar, now = self._lines.bar, clock.monotonic()
        if bar and bar != self._bar and now - self._bar_at >= _BAR_EVERY_S:
            self._bar, self._bar_at = bar, now
            speak.line(render_untrusted(bar))
