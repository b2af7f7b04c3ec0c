"""Who changed what, and when: a JSON line when a command that acts begins and one when it ends."""

import contextlib
import fcntl
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from fleet.errors import LedgerError
from fleet.ledger.private import private_folder
from fleet.text.redact import redact

FILE_NAME = "audit.log"
MAX_BYTES = 1_000_000  # then it becomes audit.log.1, in place of the one before: some 4000 commands are kept

# What shows in the environment whose hand it is: the first that is set. A trailing _ stands for a family.
_HANDS: tuple[tuple[str, str], ...] = (
    ("CLAUDECODE", "agent: claude-code"),
    ("CODEX_", "agent: codex"),
    ("CURSOR_AGENT", "agent: cursor"),
    ("GEMINI_CLI", "agent: gemini-cli"),
    ("OPENCODE", "agent: opencode"),
    ("CI", "ci"),
)
_SETTINGS = frozenset({"CODEX_HOME"})  # set by people too, in their shell's profile


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line. `event` is begin or end.

    A begin without its end: the command was killed, or gave its place to the user's own ssh.
    `action` joins the two lines of one command. `by` is the hand: tty, cron, an agent, ci or no tty. `box`
    and `run` stand there only when they are names by the grammar. `exit_code` belongs to the end.
    """

    at: str
    action: str
    event: str
    verb: str
    user: str
    by: str
    host: str
    pid: int
    box: str | None = None
    run: str | None = None
    exit_code: int | None = None


def hand(environment: Mapping[str, str], *, terminal: bool) -> str:
    """Who types, as far as the environment tells: an agent, ci, cron, tty, or `no tty`."""
    for name, who in _HANDS:
        family = name.endswith("_")
        found = (each for each in environment if (each.startswith(name) if family else each == name))
        if any(environment[each] and each not in _SETTINGS for each in found):
            return who
    if environment.get("BABYSIT_ORIGIN") == "cron":
        return "cron"
    return "tty" if terminal else "no tty"


def user() -> str:
    """The name of the user we act as, else its number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def append(folder: Path, entry: Entry) -> None:
    """The entry as one whole line at the end of the log in `folder`; 0600. Raises LedgerError."""
    private_folder(folder)
    path = folder / FILE_NAME
    line = redact(msgspec.json.encode(entry).decode()).encode() + b"\n"
    try:
        written = _written(path, line, may_move=True)
    except OSError as error:
        raise LedgerError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
    if written < len(line):
        raise LedgerError(f"cannot write {path}: only a part of the line went in", where=str(path))


def _written(path: Path, line: bytes, *, may_move: bool) -> int:
    """How many bytes went in, in one write."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        full = os.fstat(descriptor).st_size + len(line) > MAX_BYTES
        if not (full and may_move and _moved_on(descriptor, path)):
            torn = _torn(descriptor)
            return os.write(descriptor, torn + line) - len(torn)
    finally:
        os.close(descriptor)
    return _written(path, line, may_move=False)


def _torn(descriptor: int) -> bytes:
    """A line break where a full disk tore the line before: it then spoils no other.

    Where another's write is just going in, this may lead to an empty line, which means nothing.
    """
    size = os.fstat(descriptor).st_size
    return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


def _moved_on(descriptor: int, path: Path) -> bool:
    """Whether the log has been moved aside, by us or just before. Nobody waits: else it is the next one's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    with contextlib.suppress(FileNotFoundError):
        # Who came second holds the file that was moved already: the new one under the name stays.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            path.rename(path.with_name(f"{FILE_NAME}.1"))
    return True
