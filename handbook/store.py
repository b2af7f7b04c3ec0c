"""Where handbooks lie on the host: a page a run, and the index. Whole files or none; decides nothing."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from fleet.errors import LedgerError
from fleet.ledger.lock import kernel_lock
from fleet.text import redact
from handbook.render import has_place_for_notes, merge_notes

INDEX = "handbook.md"
_WAIT_S = 5.0


def path(folder: Path, run_id: str) -> Path:
    """The page of one run.

    Raises ValueError for a run id that would lead out of the folder.
    """
    if not run_id or run_id.startswith(".") or {"/", "\0"} & set(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    return folder / f"{run_id}.md"


def write(folder: Path, run_id: str, text: str | Callable[[], str]) -> Path:
    """The page of one run, now holding `text` and the notes that stood in it by hand; 0600.

    Text that is made by a call is made when nobody else writes any more: the last page knows the most.
    An old page in which the place for notes was damaged is kept beside it as `.kept`.
    Raises LedgerError where it cannot be written, Busy when another writer holds on for five seconds.
    """
    target = path(folder, run_id)
    with _alone(folder):
        text = text if isinstance(text, str) else text()
        old = _read(target)
        if old is not None and not has_place_for_notes(old, text):
            _replace(target.with_name(f"{target.name}.kept"), old)
        _replace(target, merge_notes(old or "", text))
    return target


def holds(folder: Path, run_id: str, text: str) -> bool:
    """Whether the page of that run is still `text`, whatever notes stand in it. Raises LedgerError."""
    now = _read(path(folder, run_id))
    return now is not None and now == merge_notes(now, text)


def write_index(folder: Path, text: str | Callable[[], str]) -> Path:
    """The index page, now holding `text`; 0600. As `write`."""
    with _alone(folder):
        _replace(folder / INDEX, text if isinstance(text, str) else text())
    return folder / INDEX


def _alone(folder: Path) -> AbstractContextManager[None]:
    return kernel_lock(folder / ".lock", what="another writer of handbooks", wait_s=_WAIT_S)


def _read(target: Path) -> str | None:
    try:
        return target.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"cannot read {target}: {error.strerror}", where=str(target)) from None


def _replace(target: Path, text: str) -> None:
    """Old or new, never half: beside it, to the disk, over it, and the folder to the disk too."""
    fresh = target.with_name(f".{target.name}.new")
    content = redact.redact(text).encode("utf-8", "surrogateescape")
    try:
        fresh.unlink(missing_ok=True)  # of a writer that was killed
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - the handle was opened so that no link is followed
            os.fchmod(handle, 0o600)
            file.write(content)
            file.flush()
            os.fsync(handle)
        fresh.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LedgerError(f"cannot write {target}: {error.strerror}", where=str(target)) from None
