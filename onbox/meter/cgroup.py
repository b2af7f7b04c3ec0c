"""The memory group that a process is in: used, limit, highest, and what the OOM killer took of it."""

import os
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional, Tuple

from onbox.meter.files import Files

_NO_LIMIT = 1 << 62  # v1 says "none" by the largest page-aligned long; nothing that large is one
_DEEPEST = 32
_SELDOM_S = 1.0


class Level(NamedTuple):
    """Where the figures of one level lie, whatever the version calls them; `kills` has `oom_kill N`."""

    version: str
    used: str
    limit: str
    peak: str
    kills: str


class Use(NamedTuple):
    """The level with the least room; in KiB. None: no such figure."""

    used_kb: int
    limit_kb: Optional[int]
    peak_kb: Optional[int]


_NAMES = {
    "v2": ("memory.current", "memory.max", "memory.peak", "memory.events"),
    "v1": (
        "memory.usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
    ),
}


def levels(membership: bytes, mounts: bytes, root: str = "") -> List[Level]:
    """The levels above a process, its own first; `root` is put before the paths of the mounts.

    `membership` is /proc/PID/cgroup, `mounts` /proc/self/mountinfo. Where both versions are mounted, the one
    that has memory. Source: cgroups(7), proc(5).
    """
    found: List[Level] = []
    for version, group in _groups(membership):
        for mounted, top in _mounted(mounts, version):
            inside = _below(group, top)
            for path in _upwards(inside):
                names = [root + mounted + path + "/" + name for name in _NAMES[version]]
                if Path(names[0]).exists():
                    found.append(Level(version, *names))
            if found:
                return found
    return found


class Group:
    """The levels of one process, read again and again: limits and peaks seldom, for they seldom change."""

    def __init__(self, above: Iterable[Level], files: Files) -> None:
        self._levels = list(above)
        self._files = files
        self.version = self._levels[0].version if self._levels else None
        self._first_peaks = {level: self._figure(level.peak) for level in self._levels}
        self._seldom_at = float("-inf")
        self._watched: Optional[Level] = None
        self._limit: Optional[int] = None
        self._peak: Optional[int] = None

    def use(self, now: float) -> Optional[Use]:
        """The level with the least room below its limit, else the nearest; None where there is no group."""
        if now >= self._seldom_at:
            self._seldom_at = now + _SELDOM_S
            self._choose()
        if self._watched is None:
            return None
        used = self._figure(self._watched.used)
        if used is None:
            return None
        peak = None if self._peak is None else max(self._peak, used)
        return Use(used >> 10, _kib(self._limit), _kib(peak))

    def kills(self) -> Optional[int]:
        """How many of the nearest group that counts them the OOM killer has ended; None: nobody counts."""
        for level in self._levels:
            count = kills_of(self._read(level.kills))
            if count is not None:
                return count
        return None

    def _choose(self) -> None:
        least, self._watched, self._limit = _NO_LIMIT, None, None
        for level in self._levels:
            used, limit = self._figure(level.used), self._figure(level.limit)
            if used is None:
                continue
            if limit is not None and limit - used < least:
                self._watched, self._limit, least = level, limit, limit - used
            elif self._watched is None:
                self._watched = level
        self._peak = None if self._watched is None else self._risen(self._watched)

    def _risen(self, level: Level) -> Optional[int]:
        """The highest of the level since we look; None where it was higher before, or nobody says."""
        peak, first = self._figure(level.peak), self._first_peaks[level]
        return peak if peak is not None and first is not None and peak > first else None

    def _figure(self, path: str) -> Optional[int]:
        word = self._read(path).strip()
        return int(word) if word.isdigit() else None

    def _read(self, path: str) -> bytes:
        try:
            return self._files.read(path)
        except OSError:
            return b""


def _kib(figure: Optional[int]) -> Optional[int]:
    return None if figure is None else figure >> 10


def kills_of(raw: bytes) -> Optional[int]:
    """The figure of the line `oom_kill N`; None where there is none."""
    for line in raw.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == b"oom_kill" and words[1].isdigit():  # name and figure
            return int(words[1])
    return None


def _groups(membership: bytes) -> List[Tuple[str, str]]:
    """Version and path of what may count memory, v1 first: where that has memory, v2 has not."""
    v1, v2 = [], []
    for line in membership.splitlines():
        number, _, rest = line.partition(b":")
        kinds, _, path = rest.partition(b":")
        if b"memory" in kinds.split(b","):
            v1.append(("v1", os.fsdecode(path)))
        elif number == b"0" and not kinds:
            v2.append(("v2", os.fsdecode(path)))
    return v1 + v2


def _mounted(mounts: bytes, version: str) -> List[Tuple[str, str]]:
    """Where the hierarchy is mounted, and which of its groups is the top there."""
    found = []
    for line in mounts.splitlines():
        before, _, behind = line.partition(b" - ")
        words, kind = before.split(b" "), behind.split(b" ")
        if len(words) < 6 or len(kind) < 3:
            continue
        if kind[0] == (b"cgroup2" if version == "v2" else b"cgroup") and (
            version == "v2" or b"memory" in kind[2].split(b",")
        ):
            found.append((_unescaped(words[4]), _unescaped(words[3])))
    return found


def _unescaped(word: bytes) -> str:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        word = word.replace(code, char)
    return os.fsdecode(word)


def _below(group: str, top: str) -> str:
    """The path of `group` under a mount whose top is `top`; the top itself for a group outside of it."""
    top = top.rstrip("/")
    if ".." in group.split("/"):
        return ""
    if group == top or group.startswith(top + "/"):
        return group[len(top) :].rstrip("/")
    return ""


def _upwards(path: str) -> List[str]:
    found = [path]
    while path and len(found) < _DEEPEST:
        path = path.rpartition("/")[0]
        found.append(path)
    return found
