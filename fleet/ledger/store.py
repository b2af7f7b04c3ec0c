"""One connection to the ledger's file: opened safely, shared with other writers, following a repair."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote as percent

import msgspec

from fleet.errors import Busy, LedgerDamaged, LedgerError, LedgerNewer
from fleet.ledger import schema, swap
from fleet.ledger.content import is_json
from fleet.ledger.lock import kernel_lock, lock_file, shared_lock
from fleet.ledger.private import private_file, private_folder
from fleet.ledger.said import BUSY_S, REPAIR, said

FILE_NAME = "ledger.db"
LOCK_NAME = "ledger.lock"
_ANOTHER = "another babysit that rebuilds the ledger"

T = TypeVar("T")


class Store:
    """Reads and writes rows. Outside `transaction` every statement is its own transaction.

    A store opened for writing holds the file's lock together with other writers while it is at work, and
    follows when a repair has put another file in its place. `gate` None: nobody waits for us, we for nobody.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        gate: int | None = None,
        file: tuple[int, int] | None = None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._gate = gate
        self._file = file
        self._inside = False

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises LedgerError."""
        with self._entered(), said(self._path):
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> int:
        """Change rows; returns the id of the row that an INSERT made. Raises LedgerError."""
        with self._entered(), said(self._path):
            named = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
            return self._connection.execute(sql, named).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block or none; the file is locked for writers from its first line."""
        with self._entered():
            self.change("BEGIN IMMEDIATE")
            try:
                yield
                self.change("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self.change("ROLLBACK")
                raise

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._gate is None or self._inside:
            yield
            return
        with _together(self._gate, self._path):
            self._follow()
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def _follow(self) -> None:
        """What has the name now is what we write: a row in a file that was moved aside would be lost."""
        found = _identity(self._path)
        if found == self._file:
            return
        if found is None:
            raise _vanished(self._path)
        with said(self._path):
            self._connection.close()
            self._connection = _opened(self._path)
        self._file = found

    def decode(self, content: bytes, kind: type[T]) -> T:
        """The value in a `content` column. Raises LedgerDamaged for rubbish, LedgerError for another kind."""
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:  # ValueError: bytes that are no text
            says = f"{self._path} holds a {getattr(kind, '__name__', kind)} that cannot be read: {error}"
            if not is_json(content):
                raise LedgerDamaged(says, where=str(self._path), next=(REPAIR,)) from None
            # Whole, but no value of ours: nothing that may be mended unasked.
            hint = "a newer babysit may have written it"
            raise LedgerError(says, where=str(self._path), hint=hint, next=("babysit check",)) from None

    def close(self) -> None:
        """Give the file back. Safe to call twice."""
        if self._gate is None:
            self._connection.close()
            return
        gate, self._gate = self._gate, None
        try:
            # The last one to leave writes the log into the file: not while somebody copies the two.
            with suppress(Busy), _together(gate, self._path):
                self._connection.close()
        finally:
            os.close(gate)


encode = msgspec.json.encode


def open_store(folder: Path, *, write: bool) -> Store:
    """The ledger in `folder`. Reading makes nothing: where there is no file, every query finds no rows.

    Raises LedgerDamaged when the file is no ledger, or gone while a backup of it is there, and LedgerNewer
    when it is of a newer babysit and we want to write.
    """
    path = folder / FILE_NAME
    if not write:
        path = swap.current(path)
        _there(path)
        with said(path):
            return Store(_for_reading(path), path)
    private_folder(folder)
    gate = lock_file(folder / LOCK_NAME)
    try:
        with said(path):
            return _for_writing(path, gate)
    except BaseException:
        if gate is not None:
            os.close(gate)
        raise


def _for_reading(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "ro") if path.exists() else _memory()
    try:
        found = schema.version(connection)
    except sqlite3.OperationalError:
        # Even a reader of a WAL file makes one beside it, which a full or read-only disk does not allow.
        connection.close()
        if _size(path.with_name(f"{path.name}-wal")):
            raise
        connection = _connect(path, "ro&immutable=1")
        found = schema.version(connection)
    if found < schema.VERSION:
        # An older file is brought up to date in memory: who only reads must not change it.
        older, connection = connection, _memory()
        older.backup(connection)
        older.close()
        schema.migrate(connection)
    return connection


def _for_writing(path: Path, gate: int | None) -> Store:
    if swap.pending(path):
        with alone(path.parent):
            swap.finish(path)
    if gate is None:
        return Store(_opened(path), path)
    with _together(gate, path):
        _there(path)
        private_file(path)
        found = _identity(path)
        connection = _opened(path)
        if schema.version(connection) == schema.VERSION:
            return Store(connection, path, gate, found)
        connection.close()
    with alone(path.parent):
        found = _identity(path)
        connection = _opened(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
    return Store(connection, path, gate, found)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Held: nobody else reads or writes the ledger in `folder` as its writer. Raises Busy after 5 s."""
    return kernel_lock(folder / LOCK_NAME, what="another babysit", wait_s=BUSY_S)


def _together(gate: int, path: Path) -> AbstractContextManager[None]:
    return shared_lock(gate, path.with_name(LOCK_NAME), what=_ANOTHER, wait_s=BUSY_S)


def _opened(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "rw")
    try:
        refuse_newer(schema.version(connection), path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_newer(found: int, path: Path) -> None:
    """Raises LedgerNewer when format `found` of the ledger at `path` is one that we do not know."""
    if found > schema.VERSION:
        says = f"{path} was written by a newer babysit: format {found}, this one knows {schema.VERSION}"
        hint = "nothing was written; `babysit status` still reads it"
        raise LedgerNewer(says, where=str(path), hint=hint, next=("babysit --version",))


def _there(path: Path) -> None:
    """Raises LedgerDamaged for a file that is gone or empty beside what was kept of it: it is no new one.

    SQLite would take it for one, drop its log, and every run would be off the watch without a word.
    """
    if _size(path):
        return
    log, pages = path.with_name(f"{path.name}-wal"), path.parent / "handbook"
    if _size(log) or kept_copies(path.parent) or any(pages.glob("*.md")):
        raise _vanished(path)


def _vanished(path: Path) -> LedgerDamaged:
    what = "is empty" if path.exists() else "is gone"
    says = f"{path} {what}, and it was not so before"
    return LedgerDamaged(says, where=str(path), hint="nothing was overwritten", next=(REPAIR,))


def kept_copies(folder: Path) -> tuple[Path, ...]:
    """The backups of the ledger in `folder`, newest first."""
    return tuple(sorted((folder / "backup").glob("ledger-*.db"), reverse=True))


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{percent(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)
