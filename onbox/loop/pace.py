"""How often a loop is looked at for its history: of a fast one not each turn."""

import time

_FIRST = 64  # turns after which the rate is known well enough
_AGAIN = 4  # then after so many times as many: looking at each of the first was most of their time
_GAPS = ((20_000, 13), (60_000, 101), (200_000, 499))  # turns a second, and from which on


class Pace:
    """`gap` is how many turns lie from one look to the next; measured by the loop itself and from beside."""

    __slots__ = ("_due", "_since", "_turns", "gap")

    def __init__(self) -> None:
        self.gap = 1
        self._due, self._turns, self._since = _FIRST, 0, time.monotonic()

    def started(self) -> None:
        """Nothing comes back: the first turn begins now."""
        self._since = time.monotonic()

    def counted(self, turns: int) -> None:
        """Nothing comes back: so many are finished, and the gap is right for the newest of them."""
        if turns >= self._due:
            now = time.monotonic()
            self.gap = gap((turns - self._turns) / max(1e-6, now - self._since))
            self._due, self._turns, self._since = turns * _AGAIN, turns, now


def gap(rate: float) -> int:
    """From one look to the next, of so many turns a second: not more than a plot can show.

    Never a round number: what is tracked every hundredth time must not fall between for ever.
    """
    fast = [wide for least, wide in _GAPS if rate >= least]
    return fast[-1] if fast else 1
