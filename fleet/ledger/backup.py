"""A whole copy of the ledger once a day; three of them are kept, beside it."""

import os
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import LedgerError
from fleet.ledger.ledger import Ledger
from fleet.ledger.private import private_file, private_folder
from fleet.ledger.store import kept_copies
from fleet.ledger.swap import synced

EVERY_S = 24 * 3600
KEEP = 3


def due(folder: Path, now: float) -> bool:
    """Whether the ledger in `folder` has no backup, or none of the last day."""
    newest = next(iter(kept_copies(folder)), None)
    return newest is None or abs(now - newest.stat().st_mtime) > EVERY_S


def back_up(folder: Path, ledger: Ledger, now: float) -> Path:
    """The new backup: whole, 0600 and on the disk before it has its name; all but the newest three go.

    A ledger that cannot be read as a whole makes none: no bad copy takes a good one's place. Raises
    LedgerDamaged, LedgerError.
    """
    kept = folder / "backup"
    private_folder(kept)
    target = kept / f"ledger-{datetime.fromtimestamp(now, UTC):%Y%m%d}.db"
    fresh = kept / ".new"
    try:
        fresh.unlink(missing_ok=True)  # of a backup that was cut short
        private_file(fresh)
        ledger.upkeep.copy_to(fresh)
        synced(fresh)
        os.utime(fresh, (now, now))
        fresh.replace(target)
        synced(kept)
        for old in kept_copies(folder)[KEEP:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"no backup: cannot write {target}: {error.strerror}", where=str(target)) from None
    return target
