"""What `ssh -G` answered, kept in a file until something changes that it reads: see fleet.link.ssh_reads.

The answers say where we go and through which command, so that the file counts only when it is ours alone.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from fleet.link.ssh_config import Options, ask_ssh
from fleet.link.ssh_reads import reads, reads_all
from fleet.text import quote

FILE_NAME = "ssh-config.json"
_FORMAT = 1
_MOST_BYTES = 8_000_000  # an answer has 5 kB
_MOST_BOXES = 1000

# Box -> question -> answer. By box, so that one that cannot be reached is looked up anew.
Told = dict[str, dict[str, Options]]


class _Kept(Struct, frozen=True):
    format: int
    mark: str
    told: Told


class Answers:
    """One look's questions to ssh. `ask` takes the place of `ask_ssh`, from any thread."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self._reads = reads()
        kept = _load(self._file)
        self._valid = kept is not None and self._reads is not None and kept.mark == self._reads.mark
        self._told: Told = kept.told if kept and self._valid else {}
        self._was = {box: dict(answers) for box, answers in self._told.items()}
        self._forgotten: set[str] = set()

    def ask(self, where: str, host: str, words: tuple[str, ...]) -> Options:
        """What ssh says of `host`, or said while everything was as it is now. Raises UsageError."""
        question = " ".join(map(quote.sh, (*words, host)))
        mine = self._told.setdefault(where, {})
        answer = mine.get(question)
        if answer is None:
            answer = mine[question] = ask_ssh(where, host, words)
        return answer

    def forget(self, where: str) -> None:
        """Ask about this box once more, and at the next look too, whatever is known."""
        self._told.pop(where, None)
        self._forgotten.add(where)

    def keep(self) -> None:
        """Write down what was learnt, where it will hold; a disk that takes nothing costs time, no more."""
        lasting = [(box, dict(told)) for box, told in list(self._told.items()) if box not in self._forgotten]
        told = {box: answers for box, answers in lasting[-_MOST_BOXES:] if answers}
        known = self._reads
        if known is None or told == self._was or reads() != known:  # it changed while we asked
            return
        if not self._valid and not all(reads_all(known, host) for host in _one_host(told)):
            return
        with suppress(OSError):
            _write(self._file, msgspec.json.encode(_Kept(_FORMAT, known.mark, told)))


def _one_host(told: Told) -> tuple[str, ...]:
    """Some host that was asked about: what is read does not depend on it."""
    return tuple(next(iter(answers.values()))["hostname"][0] for answers in told.values())[:1]


def _load(file: Path) -> _Kept | None:
    """What is kept; None for nothing, rubbish, and what others could have written or read."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077 and stat.S_ISREG(found.st_mode)
        content = os.read(handle, _MOST_BYTES) if ours and found.st_size <= _MOST_BYTES else b""
        kept = msgspec.json.decode(content, type=_Kept)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    finally:
        os.close(handle)
    return kept if kept.format == _FORMAT else None


def _write(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(fresh, flags, 0o600), "wb") as opened:  # noqa: PTH123 - a descriptor, not a path
            opened.write(content)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
