"""The line of this machine's crontab that is ours: put in when somebody said so, taken out to the byte."""

import os
from pathlib import Path

from fleet.errors import UsageError
from fleet.link.base import PROBE_MAX_BYTES
from fleet.link.child import Ended, run
from fleet.text.quote import sh
from fleet.text.untrusted import render_untrusted

_LIMIT_S = 20.0
_NONE_YET = (b"no crontab", b"No such file")  # cron's own word for it, and busybox's


def mark_of(folder: Path) -> str:
    """What tells our line from every other: it is a part of the command, and names this state folder."""
    return f"BABYSIT_ORIGIN=cron BABYSIT_STATE={sh(str(folder))} ".replace("%", "\\%")


def install(line: str, mark: str) -> bool:
    """`line` stands in the crontab, in place of an older one of ours; False where it did already.

    Raises UsageError where there is no crontab, or it says no.
    """
    before = _read()
    if line.encode() in before.splitlines():
        return False
    others = _without(before, mark)
    # Ours must not become a part of a last line that has no end.
    end = b"\n" if others and not others.endswith(b"\n") else b""
    _write(others + end + line.encode() + b"\n")
    return True


def remove(mark: str) -> int:
    """How many lines of ours were taken out; every other byte stays, and none is left. Raises UsageError."""
    before = _read()
    after = _without(before, mark)
    if after != before:
        _write(after)
    return before.count(b"\n") - after.count(b"\n")


def _without(text: bytes, mark: str) -> bytes:
    """`text` without our lines; one that is commented out is its owner's."""
    kept = [
        line
        for line in text.splitlines(keepends=True)
        if mark.encode() not in line or line.lstrip().startswith(b"#")
    ]
    return b"".join(kept)


def _read() -> bytes:
    """All of the crontab; empty where there is none."""
    ended = _crontab("-l")
    if ended.status and not any(word in ended.err for word in _NONE_YET):
        raise _refused(ended.said)
    if len(ended.out) >= PROBE_MAX_BYTES:
        raise _refused("it is too long to be put back whole")
    return b"" if ended.status else ended.out


def _write(text: bytes) -> None:
    """Put `text` in, and look: what stands there afterwards is what was meant."""
    ended = _crontab("-", given=text) if text else _crontab("-r")
    if ended.status:
        raise _refused(ended.said)
    if _read() != text:
        raise _refused("it reads back other than it was written; did somebody else change it just now?")


def _crontab(word: str, given: bytes = b"") -> Ended:
    try:
        ended = run(["crontab", word], limit_s=_LIMIT_S, env={**os.environ, "LC_ALL": "C"}, given=given)
    except OSError as error:
        raise _refused(f"crontab cannot be run: {error.strerror}") from None
    if ended.status is None:
        raise _refused(f"crontab {word} did not end within {_LIMIT_S:g} s")
    return ended


def _refused(why: str) -> UsageError:
    words = render_untrusted(why, 200)
    says = f"your crontab was not changed as asked: {words}"
    return UsageError(says, where="crontab", next=("crontab -e",))
