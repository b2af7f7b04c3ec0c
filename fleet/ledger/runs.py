"""Runs, and the effects on them that were written down before they were tried."""

from collections.abc import Iterable

from fleet.ledger.rows import Intent
from fleet.ledger.store import Store, encode
from fleet.model.run import Run


class Runs:
    """The `run` table: one row a launched job."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, run: Run) -> None:
        """Keep `run` in place of what was known under its run id."""
        self._store.change(
            "INSERT INTO run (run_id, name, box, armed_at, superseded_by, disarmed_at, content)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id) DO UPDATE SET name = excluded.name, box = excluded.box,"
            " armed_at = excluded.armed_at, superseded_by = excluded.superseded_by,"
            " disarmed_at = excluded.disarmed_at, content = excluded.content",
            run.run_id,
            run.name,
            run.box.name,
            run.armed_at,
            run.superseded_by,
            run.disarmed_at,
            encode(run),
        )

    def find(self, name_or_id: str, box: str | None = None) -> Run | None:
        """The run with this id, else the newest of this name that no other superseded; None: no such run."""
        if not f"{name_or_id}{box or ''}".isascii():  # no name has more, and what is no text cannot be asked
            return None
        found = self._store.rows(
            "SELECT content FROM run WHERE (run_id = ?1 OR (name = ?1 AND superseded_by IS NULL))"
            " AND (?2 IS NULL OR box = ?2) ORDER BY run_id = ?1 DESC, armed_at DESC, rowid DESC LIMIT 1",
            name_or_id,
            box,
        )
        return self._store.decode(found[0][0], Run) if found else None

    def disarm(self, runs: Iterable[Run], incidents: bytes) -> None:
        """Keep `runs` as they are given and `incidents` as the ones still open: both, or neither."""
        with self._store.transaction():
            for run in runs:
                self.put(run)
            self._store.change("INSERT OR REPLACE INTO incidents (id, content) VALUES (1, ?)", incidents)

    def disarmed(self) -> frozenset[str]:
        """The ids of the runs that nothing shall watch any more."""
        return frozenset(
            run_id for (run_id,) in self._store.rows("SELECT run_id FROM run WHERE disarmed_at IS NOT NULL")
        )

    def all(self, *, current: bool = True) -> tuple[Run, ...]:
        """Every run, oldest first; `current` leaves out the superseded and the disarmed."""
        found = self._store.rows(
            "SELECT content FROM run WHERE (superseded_by IS NULL AND disarmed_at IS NULL) OR NOT ?"
            " ORDER BY armed_at, rowid",
            current,
        )
        return tuple(self._store.decode(content, Run) for (content,) in found)


class Intents:
    """The `intent` table: what we set out to do, and how it went."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, run_id: str, kind: str, text: str, at: float) -> int:
        """Write down an effect before it is tried; returns the id to end it by."""
        return self._store.change(
            "INSERT INTO intent (run_id, kind, text, at) VALUES (?, ?, ?, ?)", run_id, kind, text, at
        )

    def done(self, intent_id: int, outcome: str, at: float) -> None:
        """Say how it went; the first outcome holds."""
        self._store.change(
            "UPDATE intent SET outcome = ?, done_at = ? WHERE id = ? AND outcome IS NULL",
            outcome,
            at,
            intent_id,
        )

    def let_go(self, at: float) -> None:
        """Close what was cut short here and of which this ledger itself knows what came.

        An arming without a run: nothing, told until the same was armed again or a day is over. A disarming:
        what the run says. A command to a loop: nothing either, told for a day.
        """
        self._store.change(
            "UPDATE intent SET outcome = 'cut short: nobody knows whether it happened', done_at = ?1"
            " WHERE outcome IS NULL AND kind = 'steer' AND at < ?1 - 86400",
            at,
        )
        self._store.change(
            "UPDATE intent SET done_at = ?1, outcome = CASE WHEN run_id IN"
            " (SELECT run_id FROM run WHERE disarmed_at IS NOT NULL) THEN 'disarmed'"
            " ELSE 'cut short before it was disarmed' END"
            " WHERE outcome IS NULL AND kind = 'disarm' AND at < ?1 - 300",
            at,
        )
        self._store.change(
            "UPDATE intent SET outcome = 'cut short before anything was placed', done_at = ?1"
            " WHERE outcome IS NULL AND kind = 'arm' AND run_id NOT IN (SELECT run_id FROM run)"
            " AND (at < ?1 - 86400 OR EXISTS (SELECT 1 FROM intent AS later WHERE later.id > intent.id"
            " AND later.kind = 'arm' AND later.text = intent.text AND later.outcome IS NOT NULL))",
            at,
        )

    def open(self, run_id: str | None = None) -> tuple[Intent, ...]:
        """The effects of which nobody knows how they went, oldest first; of one run, or of all."""
        found = self._store.rows(
            "SELECT id, run_id, kind, text, at, outcome, done_at FROM intent"
            " WHERE outcome IS NULL AND (?1 IS NULL OR run_id = ?1) ORDER BY id",
            run_id,
        )
        return tuple(Intent(*row) for row in found)
