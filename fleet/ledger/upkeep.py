"""The file as a file: is it sound, a copy of it, and old history taken out in small bites."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet.ledger.store import Store

HISTORY_S = 90 * 86400
KEEP_TICKS = 1000
BITE = 500  # rows a table and tick: a backlog of years goes within days, and no tick feels it

# :before is when history begins. What is open, due or the newest of its kind stays, however old it is: a tick
# that a verdict names, an event until its last row has ended.
_OLD_TICKS = """
    DELETE FROM tick WHERE id IN (
        SELECT id FROM tick WHERE at < :before
        AND id < (SELECT id FROM tick ORDER BY id DESC LIMIT 1 OFFSET :newest - 1)
        AND id NOT IN (SELECT tick FROM verdict) ORDER BY id LIMIT :bite)"""
_OLD_ROWS = """
    DELETE FROM outbox WHERE rowid IN (
        SELECT outbox.rowid FROM outbox JOIN event USING (event_id) WHERE at < :before AND NOT EXISTS (
            SELECT 1 FROM outbox AS other WHERE other.event_id = event.event_id AND other.state = 'due')
        LIMIT :bite)"""
_OLD_EVENTS = """
    DELETE FROM event WHERE rowid IN (
        SELECT rowid FROM event WHERE at < :before
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event_id = event.event_id) LIMIT :bite)"""
_OLD_INTENTS = """
    DELETE FROM intent WHERE id IN (
        SELECT id FROM intent WHERE outcome IS NOT NULL AND done_at < :before ORDER BY id LIMIT :bite)"""


class Upkeep:
    """All tables, as so many rows and bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def copy_to(self, empty: Path) -> None:
        """All that is committed, as one whole file. Raises LedgerDamaged when a page cannot be read."""
        self._store.change("VACUUM INTO ?", str(empty))

    def prune(self, now: float) -> None:
        """History older than 90 days goes, at most BITE rows of each table at once."""
        with self._store.transaction():
            for sql in (_OLD_TICKS, _OLD_ROWS, _OLD_EVENTS, _OLD_INTENTS):
                self._store.change(sql, {"before": now - HISTORY_S, "bite": BITE, "newest": KEEP_TICKS})

    def version(self) -> int:
        """The format that the file says it has."""
        return int(self._store.rows("PRAGMA user_version")[0][0])

    def wrong_pages(self) -> list[str]:
        """What SQLite finds wrong with pages and rows, in its words; empty when nothing is."""
        found = [str(said) for (said,) in self._store.rows("PRAGMA quick_check")]
        return [] if found == ["ok"] else [line for said in found for line in said.splitlines()]

    def orphans(self) -> list[str]:
        """Rows that name another row which is not there: `outbox 3 of event`."""
        found = self._store.rows("PRAGMA foreign_key_check")
        return [f"{table} {rowid} of {parent}" for table, rowid, parent, _ in found]

    def table(self, name: str) -> Iterator[dict[str, Any]]:
        """Every row of one table, by column."""
        names = [row[1] for row in self._store.rows(f"PRAGMA table_info({name})")]
        for values in self._store.rows(f"SELECT {', '.join(names)} FROM {name}"):  # noqa: S608 - names of ours
            yield dict(zip(names, values, strict=True))
