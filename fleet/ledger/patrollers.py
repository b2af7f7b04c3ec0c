"""Who patrols from a terminal, again and again."""

from fleet.ledger.rows import Patroller
from fleet.ledger.store import Store


class Patrollers:
    """The `patroller` table. Whether a patroller still lives is for its reader to prove by `identity`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, identity: str, *, every_s: float, at: float, next_at: float) -> int:
        """Keep a patroller that began at `at`; returns its id."""
        return self._store.change(
            "INSERT INTO patroller (identity, every_s, at, next_at) VALUES (?, ?, ?, ?)",
            identity,
            every_s,
            at,
            next_at,
        )

    def all(self) -> tuple[Patroller, ...]:
        """Those that began and were not dropped, first one first."""
        found = self._store.rows(
            "SELECT id, identity, every_s, at, next_at, skipped FROM patroller ORDER BY id"
        )
        return tuple(Patroller(*row) for row in found)

    def fires_next(self, patroller_id: int, next_at: float) -> None:
        """When its next firing is, host time."""
        self._store.change("UPDATE patroller SET next_at = ? WHERE id = ?", next_at, patroller_id)

    def skipped(self, patroller_id: int) -> None:
        """One more of its firings did not become a tick."""
        self._store.change("UPDATE patroller SET skipped = skipped + 1 WHERE id = ?", patroller_id)

    def drop(self, patroller_id: int) -> None:
        """Take a patroller off: it left, or its process is gone. No matter when it is gone already."""
        self._store.change("DELETE FROM patroller WHERE id = ?", patroller_id)
