"""One connection to the ledger's file, and the one place where SQLite's errors become ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote as percent

import msgspec

from fleet.errors import LedgerError
from fleet.ledger import schema
from fleet.ledger.lock import kernel_lock
from fleet.ledger.private import private_file, private_folder
from fleet.text.quote import sh

FILE_NAME = "ledger.db"
BUSY_S = 5.0

T = TypeVar("T")

# What SQLite calls it, what a person reads, and what helps; {file} and {folder} are shell words.
_ERRORS: tuple[tuple[str, str, str], ...] = (
    ("SQLITE_NOTADB", "is not a ledger", "mv {file} {file}.broken && babysit patrol --once"),
    ("SQLITE_CORRUPT", "is damaged", "mv {file} {file}.broken && babysit patrol --once"),
    ("SQLITE_BUSY", f"was locked by another babysit for {BUSY_S:g} s", "fuser -v {file}"),
    ("SQLITE_FULL", "cannot grow: the disk is full", "df -h {folder}"),
    ("SQLITE_READONLY", "cannot be written", "ls -la {folder}"),
    ("SQLITE_CANTOPEN", "cannot be opened", "ls -la {folder}"),
    ("SQLITE_IOERR", "cannot be read or written", "df -h {folder}"),
    ("", "cannot be used", "ls -la {folder}"),
)


class Store:
    """Reads and writes rows. Outside `transaction` every statement is its own transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises LedgerError."""
        with said(self._path):
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> int:
        """Change rows; returns the id of the row that an INSERT made. Raises LedgerError."""
        with said(self._path):
            return self._connection.execute(sql, values).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block or none; the file is locked for writers from its first line."""
        self.change("BEGIN IMMEDIATE")
        try:
            yield
            self.change("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self.change("ROLLBACK")
            raise

    def decode(self, content: bytes, kind: type[T]) -> T:
        """The value in a `content` column. Raises LedgerError when it is none of that kind."""
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise LedgerError(
                f"{self._path} holds a {kind.__name__} that cannot be read: {error}", where=str(self._path)
            ) from None

    def close(self) -> None:
        """Give the file back. Safe to call twice."""
        self._connection.close()


encode = msgspec.json.encode


def open_store(folder: Path, *, write: bool) -> Store:
    """The ledger in `folder`. Reading makes nothing: where there is no file, every query finds no rows.

    Raises LedgerError when the file is no ledger or, for writing, of a newer babysit.
    """
    path = folder / FILE_NAME
    with said(path):
        return Store(_for_writing(path) if write else _for_reading(path), path)


def _for_reading(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "ro") if path.exists() else _memory()
    if schema.version(connection) < schema.VERSION:
        # An older file is brought up to date in memory: who only reads must not change it.
        older, connection = connection, _memory()
        older.backup(connection)
        older.close()
        schema.migrate(connection)
    return connection


def _for_writing(path: Path) -> sqlite3.Connection:
    private_folder(path.parent)
    private_file(path)
    connection = _connect(path, "rw")
    try:
        _refuse_newer(schema.version(connection), path)
        if schema.version(connection) < schema.VERSION:
            with kernel_lock(path.with_suffix(".lock"), what="another babysit", wait_s=BUSY_S):
                connection.execute("PRAGMA journal_mode = WAL")
                schema.migrate(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_newer(found: int, path: Path) -> None:
    if found > schema.VERSION:
        says = f"{path} was written by a newer babysit: format {found}, this one knows {schema.VERSION}"
        hint = "nothing was written; `babysit status` still reads it"
        raise LedgerError(says, where=str(path), hint=hint, next=("babysit --version",))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{percent(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


@contextmanager
def said(path: Path) -> Iterator[None]:
    """Every SQLite error in the block leaves it as LedgerError: what, on which file, what helps."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        words, help_ = next((w, h) for prefix, w, h in _ERRORS if name.startswith(prefix))
        command = help_.format(file=sh(str(path)), folder=sh(str(path.parent)))
        raise LedgerError(
            f"{path} {words} ({error})", where=str(path), hint="nothing was overwritten", next=(command,)
        ) from error
