"""What `ssh -G` reads of this machine, and whether its answers hold until one of these files changes.

Only what is understood for certain counts. Whatever else a file says, ssh is asked each time.
"""

import glob
import hashlib
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from fleet.link.child import run
from fleet.link.ssh_config import ASK_LIMIT_S, passwd_home, ssh_words

SYSTEM = Path("/etc/ssh/ssh_config")
_MOST_FILES = 64
_MOST_BYTES = 1_000_000
_STDERR_SEEN = 4000  # a little less than what is kept of it: what was cut off may name a file

_LINE = re.compile(rb"\s*(\w+)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
_PATTERN = re.compile(r"(?:~/|/)?[\w.,:+@*?-][\w.,:+@*?/-]*")
# A program, the network or the command decides about the other criteria.
_MATCH = re.compile(
    rb"(?:all|(?:final|!?(?:host|originalhost|user|localuser)\s+[^\s\"']+)(?:\s+|$))+", re.IGNORECASE
)
# What host, user, port, account and the name of this machine decide. Source: ssh_config(5), TOKENS.
_TOKEN = re.compile(rb"%(.?)", re.DOTALL)
_TOKENS = frozenset(b"%CLdhijklnpru")
_READING = re.compile(rb"debug\d: Reading configuration data ([^\r\n]+)")


class Reads(Struct, frozen=True):
    """The files that ssh reads for any host, and a mark that is another one when anything of them is."""

    files: frozenset[str]
    mark: str


class _UnsureError(Exception):
    """Something may change an answer that no file shows."""


def reads() -> Reads | None:
    """What ssh reads now; None where its answers may change although no file did, or that is not certain."""
    try:
        home, words = passwd_home(), ssh_words()
        seen = [repr((pwd.getpwuid(os.getuid()), os.environ.get("HOME"), os.uname().nodename, words))]
        seen.append(_program())
        files: dict[str, str] = {}
        for top, folder in _tops(words, home):
            _follow(top, folder, home, files)
    except (_UnsureError, OSError, KeyError):  # KeyError: an account without a line
        return None
    seen += [f"{path} {mark}" for path, mark in files.items()]
    return Reads(frozenset(files), hashlib.sha256("\0".join(seen).encode()).hexdigest())


def reads_all(known: Reads, host: str) -> bool:
    """Whether ssh itself names no file that `known` lacks: it may have been built to read others."""
    answer = run([*ssh_words(), "-v", "-G", "--", host], limit_s=ASK_LIMIT_S)
    named = {os.fsdecode(path) for path in _READING.findall(answer.err)}
    return answer.status == 0 and len(answer.err) < _STDERR_SEEN and named <= known.files


def _tops(words: list[str], home: str) -> Iterator[tuple[Path, Path]]:
    """Where ssh begins, each with the folder from which it takes Include."""
    users = Path(home) / ".ssh"
    if "-F" in words:
        yield Path(words[words.index("-F") + 1]), users
        return
    yield users / "config", users
    yield SYSTEM, SYSTEM.parent


def _program() -> str:
    found = shutil.which("ssh")
    if found is None:
        raise _UnsureError
    with Path(found).open("rb") as program:
        if program.read(2) == b"#!":  # a script may say anything at any time
            raise _UnsureError
    return f"{found} {_status(Path(found).stat())}"


def _follow(path: Path, folder: Path, home: str, files: dict[str, str]) -> None:
    """Add `path` and all that it includes, with a mark each."""
    if str(path) in files:
        return
    if len(files) >= _MOST_FILES:
        raise _UnsureError
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            content = file.read(_MOST_BYTES + 1) if stat.S_ISREG(status.st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        files[str(path)] = "none"
        return
    if content is None or len(content) > _MOST_BYTES:
        raise _UnsureError
    files[str(path)] = f"{_status(status)} {hashlib.sha256(content).hexdigest()}"
    for pattern in _includes(content):
        whole = home + pattern[1:] if pattern.startswith("~/") else str(folder / pattern)
        for found in sorted(glob.glob(whole)):  # noqa: PTH207 - Path.glob takes no absolute pattern
            _follow(Path(found), folder, home, files)


def _without_waiting(path: str, flags: int) -> int:
    """A pipe in a file's place is opened, too, whether or not somebody writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def _includes(content: bytes) -> Iterator[str]:
    """The patterns that these lines include. Raises _UnsureError for a line that may mean more."""
    for line in content.split(b"\n"):
        bare = line.strip()
        if not bare or bare.startswith(b"#"):
            continue
        found, tokens = _LINE.fullmatch(bare), _TOKEN.findall(bare)
        if found is None or b"${" in bare or not {*b"".join(tokens)} <= _TOKENS or b"" in tokens:
            raise _UnsureError
        option, value = found[1].lower(), found[2].strip()
        if option == b"match" and not _MATCH.fullmatch(value):
            raise _UnsureError
        if option == b"canonicalizehostname" and value.lower() != b"no":  # asks the name server
            raise _UnsureError
        if option == b"include":
            for word in value.split():
                pattern = os.fsdecode(word)
                if not _PATTERN.fullmatch(pattern):
                    raise _UnsureError
                yield pattern


def _status(found: os.stat_result) -> str:
    who = (found.st_dev, found.st_ino, found.st_mode, found.st_uid)
    return repr((*who, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
