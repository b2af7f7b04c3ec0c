"""The one place where SQLite's errors become ours: what, on which file, what helps."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.errors import LedgerDamaged, LedgerError
from fleet.text.quote import sh

BUSY_S = 5.0  # how long one writer waits for another
REPAIR = "babysit check --repair"
_LEAST_BYTES = 64 * 1024  # the index of the log takes 32 KiB, and the log itself a page more than nothing

# What SQLite calls it, what a person reads, and what helps; {file} and {folder} are shell words.
_ERRORS: tuple[tuple[str, type[LedgerError], str, str], ...] = (
    ("SQLITE_NOTADB", LedgerDamaged, "is not a ledger", REPAIR),
    ("SQLITE_CORRUPT", LedgerDamaged, "is damaged", REPAIR),
    ("SQLITE_BUSY", LedgerError, f"was locked by another babysit for {BUSY_S:g} s", "fuser -v {file}"),
    ("SQLITE_FULL", LedgerError, "cannot grow: the disk is full", "df -h {folder}"),
    ("SQLITE_READONLY", LedgerError, "cannot be written", "ls -la {folder}"),
    ("SQLITE_CANTOPEN", LedgerError, "cannot be opened", "ls -la {folder}"),
    ("SQLITE_IOERR", LedgerError, "cannot be read or written", "df -h {folder}"),
    ("", LedgerError, "cannot be used", "ls -la {folder}"),
)


@contextmanager
def said(path: Path) -> Iterator[None]:
    """Every SQLite error in the block leaves it as LedgerError: what, on which file, what helps."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _full(path.parent):
            name = "SQLITE_FULL"  # it could not make the small file that it keeps beside this one
        if isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):
            name = "SQLITE_CORRUPT"  # Python's words for a text that is none, or an error that quotes one
        kind, words, help_ = next((k, w, h) for prefix, k, w, h in _ERRORS if name.startswith(prefix))
        command = help_.format(file=sh(str(path)), folder=sh(str(path.parent)))
        raise kind(
            f"{path} {words} ({error})", where=str(path), hint="nothing was overwritten", next=(command,)
        ) from error


def _full(folder: Path) -> bool:
    with suppress(OSError):
        left = os.statvfs(folder)
        return left.f_bavail * left.f_frsize < _LEAST_BYTES
    return False
