"""All that can still be read of a damaged ledger, row by row."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from fleet.ledger import schema
from fleet.ledger.content import CONTENT, Kinds, Row, rotten, strange

# In this order a table never names a row of a later one; what hurts most to lose comes first.
TABLES = (
    *("run", "box", "pin", "pin_history", "target", "event", "outbox", "tick", "verdict", "history"),
    *("incidents", "intent", "waiter", "away", "patroller"),
)
_STEPS = 5000  # how many rows in a row may be unreadable before the rest of a table is given up
_OF_THE_DISK = tuple(
    f"SQLITE_{name}" for name in ("IOERR", "FULL", "CANTOPEN", "NOMEM", "BUSY", "READONLY", "PERM")
)
_MAX_ROWID = 2**63 - 1


class Found(Struct, frozen=True):
    """What one table gave: its good rows, and those of which only a part could be read.

    `whole`: every row was read, so that what is not here was not there either.
    """

    rows: tuple[Row, ...] = ()
    broken: tuple[Row, ...] = ()
    whole: bool = True


def salvage(path: Path, more: Kinds, *, strict: bool) -> dict[str, Found]:
    """Each table of the file at `path` as far as it can be read; empty when it is no database at all.

    Rows that only a newer babysit can have written are kept as they are, unless it is `strict`.

    The file may be changed by reading (SQLite merges its log): give it a copy. `more` are types of content
    that only the patrol knows. Raises sqlite3.Error where not the file but the disk is at fault: what cannot
    be read now is not lost.
    """
    kinds = {**CONTENT, **more}
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.text_factory = _text
        try:
            # A file that was cut off is opened all the same: the pages that are there can be read.
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _unless_of_the_disk(error)
            return {table: Found(whole=False) for table in TABLES}
        return {table: _table(connection, table, kinds, strict=strict) for table in TABLES}
    finally:
        connection.close()


def _unless_of_the_disk(error: Exception) -> None:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_OF_THE_DISK) and name != "SQLITE_IOERR_SHORT_READ":
        raise error


def columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The names of a table's columns; none when there is no such table."""
    return tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))


def _table(connection: sqlite3.Connection, table: str, kinds: Kinds, *, strict: bool) -> Found:
    try:
        names = columns(connection, table)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        _unless_of_the_disk(error)
        return Found(whole=False)
    if not names:
        # An older format had no such table. A file of this format, or of none, has lost it.
        return Found(whole=0 < _version(connection) < schema.VERSION)
    rows, whole = _rows(connection, table, names)
    good: list[Row] = []
    broken: list[Row] = []
    for row in rows:
        wrong = rotten(table, row, kinds) or (strict and strange(table, row, kinds))
        (broken if wrong else good).append(row)
    return Found(tuple(good), tuple(broken), whole and not broken)


def version_of(path: Path) -> int:
    """The format of the file at `path`; 0 when it says none."""
    connection = sqlite3.connect(path)
    try:
        return _version(connection)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection) -> int:
    try:
        return schema.version(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        _unless_of_the_disk(error)
        return 0


def _rows(connection: sqlite3.Connection, table: str, names: tuple[str, ...]) -> tuple[list[Row], bool]:
    """Every row that can be read, and whether that is all: over unreadable pages one steps id by id."""
    listed = ", ".join(names)
    # NOT INDEXED: the rows themselves are asked, never an index that may be damaged or out of step.
    sql = f"SELECT rowid, {listed} FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"  # noqa: S608 - names of ours
    last = _last(connection, table)
    rows: dict[int, Row] = {}
    at, steps, whole = 0, 0, True
    while at <= max(last, 0) and steps < _STEPS:
        try:
            for rowid, *values in connection.execute(sql, (at,)):
                # A page of which a part is gone names any ids, such as were passed long ago.
                whole = whole and rowid >= at
                if rowid not in rows:
                    rows[rowid] = dict(zip(names, values, strict=True))
                    at, steps = max(at, rowid + 1), 0
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _unless_of_the_disk(error)
            at, steps, whole = at + 1, steps + 1, False
            continue
        break
    return list(rows.values()), whole


def _last(connection: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT rowid FROM {table} NOT INDEXED ORDER BY rowid DESC LIMIT 1"  # noqa: S608 - as above
    try:
        found = connection.execute(sql).fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        _unless_of_the_disk(error)
        return _MAX_ROWID
    return int(found[0]) if found else -1


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def known_ids(found: dict[str, Found], told: Iterable[str]) -> frozenset[str]:
    """Every run id that anything of it names, whole or broken, and those that `told` adds."""
    tables = ("run", "verdict", "history", "event")
    named = (row.get("run_id") for table in tables for row in (*found[table].rows, *found[table].broken))
    return frozenset(each for each in (*named, *told) if isinstance(each, str))
