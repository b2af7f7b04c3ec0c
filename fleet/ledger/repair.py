"""A damaged ledger moved aside, and a new one from what could still be read of it and of its backups."""

import os
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from fleet.errors import LedgerError
from fleet.ledger import rebuild, swap
from fleet.ledger.content import Kinds
from fleet.ledger.ledger import Ledger
from fleet.ledger.private import private_file
from fleet.ledger.said import said
from fleet.ledger.salvage import Found, known_ids, salvage, version_of
from fleet.ledger.store import FILE_NAME, alone, kept_copies, refuse_newer
from fleet.ledger.swap import synced

_LOST = "lost.json"


class LostRun(Struct, frozen=True):
    """A run that something names and nothing describes any more; `box` None: nobody knows where it is."""

    run_id: str
    name: str
    box: str | None = None


class Repaired(Struct, frozen=True):
    """What a repair led to. `aside` is the folder with the damaged file as it was found.

    `kept`, `restored` and `lost` count rows by table: read from the damaged file, taken from `backup` (or
    older ones), and known to have been there but neither. `unread` are tables of which nobody can say what
    else was in them.
    """

    aside: Path
    kept: dict[str, int]
    restored: dict[str, int]
    lost: dict[str, int]
    unread: tuple[str, ...]
    lost_runs: tuple[LostRun, ...]
    backup: Path | None


def repair(
    folder: Path, *, at: float, more: Kinds, told: Iterable[str] = (), strict: bool = False
) -> Repaired:
    """Rebuild the ledger in `folder`; nothing of the old one is deleted. `told` are run ids known elsewhere.

    `strict` takes rows that a newer babysit may have written for damaged ones: only where a person says so.

    Whatever ends us, there is the old file or the new one. Raises Busy when another babysit is at it,
    LedgerNewer, or LedgerError (a full disk): nothing was changed then.
    """
    path = folder / FILE_NAME
    with alone(folder), said(path):
        swap.finish(path)
        try:
            return _repaired(path, at, more, tuple(told), strict=strict)
        except OSError as error:
            says = f"the ledger could not be rebuilt: {error.strerror}"
            raise LedgerError(says, where=str(path), hint="nothing was changed") from None
        finally:
            shutil.rmtree(_work(folder), ignore_errors=True)


def forgotten(folder: Path, ledger: Ledger) -> tuple[LostRun, ...]:
    """The runs that repairs have lost and nobody has adopted again since.

    They are told until their run is back, or its folder `damaged-…` is gone.
    """
    lost: dict[str, LostRun] = {}
    for file in sorted(folder.glob(f"damaged-*/{_LOST}")):
        try:
            found = msgspec.json.decode(file.read_bytes(), type=tuple[LostRun, ...])
        except (OSError, msgspec.MsgspecError):
            continue
        lost |= {run.run_id: run for run in found}
    if not lost:
        return ()
    back = {run.run_id for run in ledger.runs.all(current=False)}
    return tuple(run for run_id, run in lost.items() if run_id not in back)


def _repaired(path: Path, at: float, more: Kinds, told: tuple[str, ...], *, strict: bool) -> Repaired:
    work = _work(path.parent)
    shutil.rmtree(work, ignore_errors=True)  # copies of a repair that was cut short
    work.mkdir(mode=0o700)
    copy = work / FILE_NAME
    for ending in ("", "-wal"):  # the log after the file that it is merged into
        part = path.with_name(f"{path.name}{ending}")
        if part.exists():
            private_file(copy.with_name(part.name))
            shutil.copyfile(part, copy.with_name(part.name))
    refuse_newer(version_of(copy), path)
    found = salvage(copy, more, strict=strict)
    backups = kept_copies(path.parent)
    older = tuple(salvage(backup, more, strict=strict) for backup in backups)
    new = work / "new.db"
    private_file(new)
    built = rebuild.build(new, found, older, known_ids(found, told), at)
    lost_runs = tuple(_lost_run(run_id, (found, *older)) for run_id in built.lost_runs)
    aside = _aside(path, at)
    lost = aside / _LOST
    private_file(lost)
    lost.write_bytes(msgspec.json.encode(lost_runs))
    synced(lost)
    synced(aside)
    synced(path.parent)
    swap.begin(path, new)
    return Repaired(
        aside=aside,
        kept=built.kept,
        restored=built.restored,
        lost=built.lost,
        unread=tuple(table for table, each in found.items() if not each.whole),
        lost_runs=lost_runs,
        backup=next((b for b, rows in zip(backups, older, strict=True) if rows["run"].rows), None),
    )


def _work(folder: Path) -> Path:
    return folder / ".repair"


def _aside(path: Path, at: float) -> Path:
    """A new dated folder beside the ledger that holds the very files as they are, by a second name each."""
    stamp = f"damaged-{datetime.fromtimestamp(at, UTC):%Y%m%d-%H%M%S}"
    taken = {each.name for each in path.parent.glob("damaged-*")}
    name = next(n for n in (stamp, *(f"{stamp}-{k}" for k in range(2, 10_000))) if n not in taken)
    folder = path.with_name(name)
    folder.mkdir(mode=0o700)
    for ending in ("", *swap.BESIDE):
        part = path.with_name(f"{path.name}{ending}")
        if part.exists():
            try:
                os.link(part, folder / part.name)
            except OSError:  # a file system without second names
                private_file(folder / part.name)
                shutil.copyfile(part, folder / part.name)
    return folder


def _lost_run(run_id: str, sources: Iterable[dict[str, Found]]) -> LostRun:
    for found in sources:
        for row in (*found["run"].broken, *found["run"].rows):
            if row.get("run_id") == run_id and isinstance(row.get("name"), str):
                box = row.get("box")
                return LostRun(run_id, row["name"], box if isinstance(box, str) else None)
        for row in found["verdict"].rows:
            if row.get("run_id") == run_id:
                known = msgspec.json.decode(row["content"])
                return LostRun(run_id, known["run"], known["box"])
    return LostRun(run_id, run_id.rpartition("-")[0] or run_id)
