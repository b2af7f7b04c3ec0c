"""The turns of a range, handed out in stretches: nothing of ours runs between two turns of one."""

from operator import length_hint
from typing import Iterator


class Stretch:
    """The turns `first` up to `until`. Whoever wants the loop to look up cuts it: it ends behind this turn.

    Each line here is one step of C: the loop's own thread cannot take a turn in the middle of it.
    """

    __slots__ = ("turns", "until")

    def __init__(self, first: int, until: int) -> None:
        self.turns: Iterator[int] = iter(range(first, until))
        self.until = until

    def finished(self) -> int:
        """How many turns of the loop are finished at least, where one of these is running."""
        return self.until - 1 - length_hint(self.turns)

    def cut(self) -> None:
        """Nothing comes back: the turn that is running is the last one. For one thread at a time."""
        self.until -= len(list(self.turns))
