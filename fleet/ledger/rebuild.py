"""A new ledger's file from salvaged rows: the damaged file's first, then the backups'."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from fleet.ledger import schema
from fleet.ledger.content import Row
from fleet.ledger.salvage import TABLES, Found, columns
from fleet.ledger.swap import BESIDE
from fleet.model.spec import TargetSpec

# Rows of these are never taken out by anything: one that a backup has and the file has not was lost.
_NEVER_LEAVE = frozenset({"run", "box", "pin"})
# What is true of the moment only: an old copy of it is worse than none.
_OF_THE_MOMENT = frozenset({"waiter", "away", "patroller"})
# More ids than a day can use between a backup and the damage: a cursor never comes again.
_GAP = 10_000


class Built(Struct, frozen=True):
    """How many rows of each table came from where, or were `lost`; and the ids of runs that it has not."""

    kept: dict[str, int]
    restored: dict[str, int]
    lost: dict[str, int]
    lost_runs: tuple[str, ...]


def build(
    path: Path,
    found: dict[str, Found],
    older: Sequence[dict[str, Found]],
    named: frozenset[str],
    at: float,
) -> Built:
    """Fill the empty file at `path`; it is closed, sound and has nothing beside it then.

    `named` are the ids of all runs that there were; a page is queued for those that are lost. Raises
    sqlite3.Error.
    """
    counts: dict[str, Counter[str]] = {"kept": Counter(), "restored": Counter(), "lost": Counter()}
    with _opened(path) as connection:
        schema.migrate(connection)
        with _transaction(connection):
            for table in TABLES:
                names = columns(connection, table)
                for row in found[table].rows:
                    counts["kept" if _put(connection, table, names, row) else "lost"][table] += 1
                for copy in older if _wanted(table, found[table]) else ():
                    for row in copy[table].rows:
                        counts["restored"][table] += _put(connection, table, names, row)
                if table == "tick":
                    _mark(connection, at)
                broken = len(found[table].broken) - counts["restored"][table]
                counts["lost"][table] += max(0, broken)
            connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name <> 'tick'", (_GAP,))
            have = {run_id for (run_id,) in connection.execute("SELECT run_id FROM run")}
            gone = tuple(sorted(named - have))
            if gone:
                _announce(connection, gone, at)
        # Last: a log that could not be merged when this closes would be left behind.
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        whole = connection.execute("PRAGMA quick_check").fetchall()
    if mode != ("wal",) or whole != [("ok",)] or any(path.with_name(path.name + e).exists() for e in BESIDE):
        raise sqlite3.OperationalError("the new file could not be finished")
    kept, restored, lost = ({t: n for t, n in counts[how].items() if n} for how in counts)
    return Built(kept, restored, lost, gone)


def _announce(connection: sqlite3.Connection, run_ids: tuple[str, ...], at: float) -> None:
    """Queue one page for every receiver of pages: these runs are watched no longer. Once a loss."""
    event_id = f"ledger-{hashlib.sha256(' '.join(run_ids).encode()).hexdigest()[:16]}"
    many = "a run is" if len(run_ids) == 1 else f"{len(run_ids)} runs are"
    title = f"babysit: the ledger was damaged and {many} watched no longer"
    body = f"lost: {', '.join(run_ids)}\nnext: babysit check\nevent: {event_id}"
    connection.execute(
        "INSERT OR IGNORE INTO event (event_id, run_id, kind, severity, at, title, body)"
        " VALUES (?, ?, 'ledger', 'page', ?, ?, ?)",
        (event_id, run_ids[0], at, title, body),
    )
    for (content,) in connection.execute("SELECT content FROM target").fetchall():
        target = msgspec.json.decode(content, type=TargetSpec)
        if "page" in target.on:
            connection.execute(
                "INSERT OR IGNORE INTO outbox (event_id, target, reference, due_at) VALUES (?, ?, ?, ?)",
                (event_id, target.name, target.url, at),
            )


def _wanted(table: str, found: Found) -> bool:
    return table in _NEVER_LEAVE or (not found.whole and table not in _OF_THE_MOMENT)


def _put(connection: sqlite3.Connection, table: str, names: Sequence[str], row: Row) -> bool:
    """Whether the row is in the table now and was not before, under the table's own rules."""
    known = {name: value for name, value in row.items() if name in names}
    if table == "verdict":
        # A verdict's own tick may be lost; the newest one, this repair's, stands for it.
        known["tick"] = connection.execute("SELECT max(id) FROM tick").fetchone()[0]
    marks = ", ".join("?" * len(known))
    sql = f"INSERT OR IGNORE INTO {table} ({', '.join(known)}) VALUES ({marks})"  # noqa: S608 - names of ours
    try:
        return connection.execute(sql, tuple(known.values())).rowcount > 0
    except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        return False


def _mark(connection: sqlite3.Connection, at: float) -> None:
    """One tick that says when a repair was, with an id that no lost tick had."""
    connection.execute(
        "INSERT INTO tick (id, at, took_s, origin, exit_code)"
        " SELECT coalesce(max(id), 0) + ?, ?, 0, 'repair', 10 FROM tick",
        (_GAP, at),
    )


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection
    finally:
        connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
