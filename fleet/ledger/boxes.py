"""Boxes that no file names, the host keys we hold them to, and who waits for their runs."""

from fleet.ledger.rows import Pin, Waiter
from fleet.ledger.store import Store, encode
from fleet.model.spec import BoxSpec


class Boxes:
    """The `box` table: boxes given on a command line, kept for the commands after it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, box: BoxSpec) -> None:
        """Keep `box` in place of what was known under its name."""
        self._store.change("INSERT OR REPLACE INTO box (name, content) VALUES (?, ?)", box.name, encode(box))

    def find(self, name: str) -> BoxSpec | None:
        """The box of this name; None: never kept."""
        found = self._store.rows("SELECT content FROM box WHERE name = ?", name)
        return self._store.decode(found[0][0], BoxSpec) if found else None

    def all(self) -> tuple[BoxSpec, ...]:
        """Every kept box, by name."""
        found = self._store.rows("SELECT content FROM box ORDER BY name")
        return tuple(self._store.decode(content, BoxSpec) for (content,) in found)


class Pins:
    """The `pin` table: one host key a box, and the keys it had before."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, box: str) -> Pin | None:
        """The key that `box` must show; None: none was ever confirmed."""
        found = self._store.rows(
            "SELECT box, key_type, key_b64, at, source, address FROM pin WHERE box = ?", box
        )
        return Pin(*found[0]) if found else None

    def put(self, pin: Pin) -> None:
        """From now on the box must show this key; another one from before goes to the history."""
        with self._store.transaction():
            self._store.change(
                "INSERT INTO pin_history (box, key_type, key_b64, at, source, address, replaced_at)"
                " SELECT box, key_type, key_b64, at, source, address, ?1 FROM pin"
                " WHERE box = ?2 AND (key_type, key_b64) <> (?3, ?4)",
                pin.at,
                pin.box,
                pin.key_type,
                pin.key_b64,
            )
            self._store.change(
                "INSERT OR REPLACE INTO pin (box, key_type, key_b64, at, source, address)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                pin.box,
                pin.key_type,
                pin.key_b64,
                pin.at,
                pin.source,
                pin.address,
            )

    def before(self, box: str) -> tuple[Pin, ...]:
        """The keys that `box` was held to earlier, oldest first."""
        found = self._store.rows(
            "SELECT box, key_type, key_b64, at, source, address FROM pin_history WHERE box = ? ORDER BY id",
            box,
        )
        return tuple(Pin(*row) for row in found)


class Waiters:
    """The `waiter` table. Whether a waiter still lives is for its reader to prove by `identity`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, run_id: str, identity: str, deadline: float, at: float) -> int:
        """Line up for a run; returns the waiter's id. The lowest id among the living has the run."""
        return self._store.change(
            "INSERT INTO waiter (run_id, identity, deadline, at) VALUES (?, ?, ?, ?)",
            run_id,
            identity,
            deadline,
            at,
        )

    def all(self, run_id: str | None = None) -> tuple[Waiter, ...]:
        """Those who lined up and were not dropped, first one first; for one run, or for all."""
        found = self._store.rows(
            "SELECT id, run_id, identity, deadline, at FROM waiter"
            " WHERE ?1 IS NULL OR run_id = ?1 ORDER BY id",
            run_id,
        )
        return tuple(Waiter(*row) for row in found)

    def drop(self, waiter_id: int) -> None:
        """Take a waiter off: it left, died or was superseded. No matter when it is gone already."""
        self._store.change("DELETE FROM waiter WHERE id = ?", waiter_id)
