"""Is the ledger what it should be? Reads everything, changes nothing; each finding has its fix."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from fleet.errors import BabysitError, LedgerDamaged, LedgerError, LedgerNewer
from fleet.ledger import schema
from fleet.ledger.content import CONTENT, Kinds, rotten, strange
from fleet.ledger.ledger import Ledger
from fleet.ledger.said import REPAIR
from fleet.ledger.salvage import TABLES, columns
from fleet.ledger.store import FILE_NAME, kept_copies, refuse_newer
from fleet.text.quote import sh
from fleet.text.say import ago, plural

_BACKUP_OLD_S = 3 * 86400
_STUCK_S = 3600.0
_STRANGE = f"if no newer one is in use, not by cron either, they are damaged: {REPAIR}"
_SHOWN = 3  # of many alike, so many are named


class Finding(Struct, frozen=True):
    """One thing that is not as it should be. `fix` is a command. `damaged`: only a rebuilt file mends it.

    `strange`: whole rows that this babysit cannot read; they are a newer one's, or damaged all the same.
    `unusable`: nothing can be read, or written, before it is mended. `open_to_others`: what others may see.
    """

    what: str
    fix: str
    damaged: bool = False
    strange: bool = False
    unusable: bool = False
    open_to_others: Path | None = None


def check(folder: Path, now: float, more: Kinds) -> tuple[Finding, ...]:
    """All findings on the ledger in `folder`, gravest first; none where nothing was ever armed.

    `more` are types of content that only the patrol knows. Never raises for what is wrong with the files.
    """
    if not folder.exists():
        return ()
    if folder.is_symlink():
        says = f"{folder} is a symbolic link: nothing is written there"
        return (Finding(says, f"export BABYSIT_STATE={sh(str(folder.resolve()))}", unusable=True),)
    found: list[Finding] = []
    modes = tuple(_modes(folder))  # before we look: what a reader leaves beside a file has that file's mode
    try:
        with Ledger.open(folder, write=False) as ledger:
            found += _newer(ledger, folder)
            found += _pages(ledger)
            if not found:
                found += _rows(ledger, {**CONTENT, **more})
            if not found:
                found += _outbox(ledger, now)
    except (LedgerDamaged, LedgerError) as error:
        damaged = isinstance(error, LedgerDamaged)
        found.append(Finding(error.what, _fix(error), damaged=damaged, unusable=True))
    return (*found, *modes, *_backups(folder, now))


def _fix(error: BabysitError) -> str:
    return error.next[0] if error.next else error.hint


def _newer(ledger: Ledger, folder: Path) -> Iterator[Finding]:
    try:
        refuse_newer(ledger.upkeep.version(), folder / FILE_NAME)
    except LedgerNewer as error:
        yield Finding(error.what, _fix(error), unusable=True)


def _pages(ledger: Ledger) -> Iterator[Finding]:
    wrong = ledger.upkeep.wrong_pages()
    if wrong:
        yield Finding(f"the ledger's file is damaged: {_some(wrong)}", REPAIR, damaged=True)


def _rows(ledger: Ledger, kinds: Kinds) -> Iterator[Finding]:
    for table in TABLES:
        rows = tuple(ledger.upkeep.table(table))
        wrong = [why for row in rows if (why := rotten(table, row, kinds))]
        if wrong:
            count = f"{plural(len(wrong), 'row')} of table {table}"
            yield Finding(f"{count} cannot be read: {_some(wrong)}", REPAIR, damaged=True)
        other = [why for row in rows if not rotten(table, row, kinds) and (why := strange(table, row, kinds))]
        if other:
            count = f"{plural(len(other), 'row')} of table {table}"
            what = f"{count} cannot be read by this babysit: {_some(other)}; {_STRANGE}"
            yield Finding(what, "babysit --version", strange=True)
    orphans = ledger.upkeep.orphans()
    if orphans:
        yield Finding(f"rows that name others which are gone: {_some(orphans)}", REPAIR, damaged=True)


def _outbox(ledger: Ledger, now: float) -> Iterator[Finding]:
    for row in ledger.outbox.undelivered():
        age = ago(now - row.event.at)
        if row.state == "dead":
            tried = f"given up after {plural(row.tries, 'try').replace('trys', 'tries')}"
            what = f"notice {row.event.event_id} of {age} never reached {row.target}: {tried} ({row.error})"
            yield Finding(what, "babysit status")
        elif now - row.due_at > _STUCK_S:
            what = f"notice {row.event.event_id} for {row.target} was due {ago(now - row.due_at)}"
            yield Finding(f"{what}, and nothing has sent it", "babysit patrol --once")


def _modes(folder: Path) -> Iterator[Finding]:
    for each in (folder, folder / "backup", *sorted(folder.glob("*")), *kept_copies(folder)):
        try:
            mode = each.lstat().st_mode
        except OSError:
            continue
        wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
        if stat.S_ISLNK(mode) or stat.S_IMODE(mode) & 0o077 == 0:
            continue
        what = f"others may look into {each} (mode {stat.S_IMODE(mode):04o})"
        yield Finding(what, f"chmod {wanted:o} {sh(str(each))}", open_to_others=each)


def _backups(folder: Path, now: float) -> Iterator[Finding]:
    kept = kept_copies(folder)
    for each in kept:
        if wrong := _unsound(each):
            yield Finding(
                f"the backup {each} is damaged: {wrong}", f"mv {sh(str(each))} {sh(str(each))}.broken"
            )
    if kept and now - kept[0].stat().st_mtime > _BACKUP_OLD_S:
        what = f"the newest backup is of {ago(now - kept[0].stat().st_mtime)}"
        yield Finding(what, "babysit patrol --once")


def _unsound(file: Path) -> str:
    """What is wrong with a backup, empty when nothing is."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            if schema.version(connection) == 0 or not columns(connection, "run"):
                return "it holds no ledger"
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return "" if said == "ok" else str(said)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def _some(every: list[str]) -> str:
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "; ".join(every[:_SHOWN]) + more
