"""Boxes that did not answer, and until when a timer leaves each of them alone."""

from msgspec import Struct

from fleet.ledger.store import Store

# A loop of a minute asks again at its next turn or the one after. The most is so short that a timer of half
# an hour asks each time: 24 minutes and a fifth of them are less than 30.
PAUSE_LEAST_S = 60.0
PAUSE_MOST_S = 24 * 60.0
JITTER = 0.2


class Absence(Struct, frozen=True):
    """A box that did not answer `failures` times in a row, last at `at` for `cause`. Times are host time.

    It is not asked by a timer before `not_before`.
    """

    box: str
    failures: int
    cause: str
    at: float
    not_before: float

    def rests(self, now: float) -> bool:
        """Whether the box is left alone at `now`; a clock that was set back ends the rest."""
        return self.at <= now < self.not_before


def pause_s(failures: int, chance: float) -> float:
    """How long to leave a box alone after `failures` in a row: doubled each time, up to the most.

    `chance` (0 to 1, drawn by the caller) moves it by a fifth at the most, so that boxes behind one gateway
    do not meet again. Pure.
    """
    doubled = PAUSE_LEAST_S * 2.0 ** min(max(failures, 1) - 1, 16)
    return min(PAUSE_MOST_S, doubled) * (1.0 + JITTER * (2.0 * chance - 1.0))


class Away:
    """The `away` table: one row a box that does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, box: str) -> Absence | None:
        """How long `box` has not answered; None: it did, the last time it was asked."""
        found = self._store.rows("SELECT box, failures, cause, at, not_before FROM away WHERE box = ?", box)
        return Absence(*found[0]) if found else None

    def failed(self, box: str, cause: str, at: float, chance: float) -> Absence:
        """One more look at `box` failed. `chance` is as in `pause_s`."""
        with self._store.transaction():
            before = self.find(box)
            failures = before.failures + 1 if before else 1
            now = Absence(box, failures, cause, at, at + pause_s(failures, chance))
            self._store.change(
                "INSERT OR REPLACE INTO away (box, failures, cause, at, not_before) VALUES (?, ?, ?, ?, ?)",
                now.box,
                now.failures,
                now.cause,
                now.at,
                now.not_before,
            )
        return now

    def answered(self, box: str) -> None:
        """Nothing is held against `box` any more. Writes only where something was."""
        if self.find(box) is not None:
            self._store.change("DELETE FROM away WHERE box = ?", box)
