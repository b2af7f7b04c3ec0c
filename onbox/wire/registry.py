"""The list of living loops, as loopmonitor 0.1.x keeps it: read without a lock, changed under one."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from onbox.wire import folder as place
from onbox.wire.text import dumped, loaded, patiently

_CAP = 4 << 20
_LOCK_WITHIN_S = 1.0  # a stopped process may hold the lock for ever
_AGAIN_S = 0.005


class Torn(OSError):  # noqa: N818 - reads as what happened
    """The registry could not be read as a whole: that is not the same as nothing being registered."""


class Entry(NamedTuple):
    """One registered loop. `start_time` is ISO 8601; `ppid` is None where its writer does not say it."""

    pid: int
    label: str
    script: str
    language: str
    start_time: str
    ppid: Optional[int]


def entries(folder: Path) -> List[Entry]:
    """The registered loops in their order; none where no registry is there. Raises Torn, Unsafe, OSError."""
    try:
        document = patiently(place.registry(folder), _CAP)
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise Torn("cannot be read: %s (%s)" % (place.registry(folder), error)) from None
    found = (_entry(value) for value in document.values())
    return [entry for entry in found if entry is not None]


def changed(folder: Path, change: Callable[[Dict[str, Any]], None]) -> None:
    """Nothing comes back: `change` was done to the raw object under the lock, and the file replaced whole.

    What was there and could not be read is kept beside it as `registry.unreadable-*.json`.
    Raises OSError, also when the lock is not free within a second.
    """
    lock = folder / "registry.lock"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(str(lock), flags, 0o600)
    try:
        _locked(descriptor, lock)
        document = _current(folder)
        before = dumped(document, indent=2)
        change(document)
        after = dumped(document, indent=2)
        if after != before or not place.registry(folder).exists():
            place.write_whole(place.registry(folder), after)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, lock: Path) -> None:
    for _ in range(int(_LOCK_WITHIN_S / _AGAIN_S)):  # counted: who was stopped meanwhile has not waited
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_AGAIN_S)
    raise TimeoutError("held by another for %g s: %s" % (_LOCK_WITHIN_S, lock))


def _current(folder: Path) -> Dict[str, Any]:
    path = place.registry(folder)
    try:
        content = place.read_plain(path, _CAP)
    except FileNotFoundError:
        return {}
    try:
        return loaded(content)
    except ValueError:
        if content.strip():
            import hashlib  # noqa: PLC0415 - brings a whole library, for what hardly ever happens

            name = "registry.unreadable-%s.json" % hashlib.sha256(content).hexdigest()[:12]
            place.write_whole(folder / name, content)
        return {}


def _entry(value: Any) -> Optional[Entry]:
    if not isinstance(value, dict):
        return None
    pid, ppid = value.get("pid"), value.get("ppid")
    if type(pid) is not int or pid <= 0:
        return None
    text = {key: value.get(key) for key in ("label", "script", "language", "start_time")}
    said = {key: word if isinstance(word, str) else "" for key, word in text.items()}
    return Entry(pid=pid, ppid=ppid if type(ppid) is int else None, **said)
