"""The files of a run's usage folder: which there are, which are wanted, and their lines."""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, List, NamedTuple, Optional, Tuple

from onbox.usage.buckets import Buckets
from onbox.usage.course import LINE_BYTES, Course, moment

MOST_POINTS = 200
PHASES = 24
_FILE = re.compile(r"(\d{2,9}-[A-Za-z0-9][A-Za-z0-9._-]{0,63})\.(\d{1,9})\.jsonl")
_ENTRIES = 4096  # of a folder; a run has at most 1000 attempts
_SHOWN = 4
_PLAN_BYTES = _TAIL_BYTES = 1 << 20
_DAY_MS = 86_400_000.0
_RECORD_BYTES = 4096


class Nothing(Exception):  # noqa: N818 - reads as what happened
    """There is no profile to be had: `code` is why, for programs; `what` and `next` are for people."""

    def __init__(self, code: str, what: str, next_: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.next = code, what, next_


class Wanted(NamedTuple):
    """Which part of a run: stage (`train`, `02-train`), attempt, last seconds; at most so many points."""

    stage: Optional[str] = None
    attempt: Optional[int] = None
    points: int = MOST_POINTS
    last_s: Optional[float] = None


class Usage(NamedTuple):
    """One file, and of which stage and attempt it is; None: its name does not say."""

    path: Path
    stage: Optional[str] = None
    attempt: Optional[int] = None


def found(place: Path, wanted: Wanted) -> Tuple[List[Usage], List[Usage]]:
    """What is drawn, of one attempt, and what is only told, oldest first; of a run's folder, or a file.

    Raises Nothing, OSError.
    """
    if not place.is_dir():
        return [Usage(place)], []
    every = _every(place)
    meant = [usage for usage in every if _meant(usage, wanted)]
    if not meant:
        there = ", ".join("%s.%s" % (usage.stage, usage.attempt) for usage in every[-_SHOWN:])
        raise Nothing("no-match", "no such stage and attempt; there is %s" % there)
    newest = meant[-1].attempt
    older = [usage for usage in meant if usage.attempt != newest]
    drawn = meant[len(older) :]
    return drawn[-PHASES:], older + drawn[:-PHASES]


def _every(folder: Path) -> List[Usage]:
    try:
        with os.scandir(str(folder / "usage")) as entries:
            names = [entry.name for _, entry in zip(range(_ENTRIES), entries)]
    except FileNotFoundError:
        names = []
    matches = [match for match in map(_FILE.fullmatch, names) if match]
    if not matches:
        raise _none_yet(folder)
    every = [Usage(folder / "usage" / match[0], match[1], int(match[2])) for match in matches]
    return sorted(every, key=lambda usage: (usage.attempt, usage.stage))


def _meant(usage: Usage, wanted: Wanted) -> bool:
    name = (usage.stage or "").partition("-")[2]
    return wanted.stage in (None, usage.stage, name) and wanted.attempt in (None, usage.attempt)


def _none_yet(folder: Path) -> Nothing:
    try:
        with opened(folder / "plan") as file:
            plan = file.read(_PLAN_BYTES)
    except OSError:
        return Nothing("no-run", "no run lies there", "give a run's folder, or a file of samples")
    if re.search(rb"^monitor=", plan, re.MULTILINE):
        return Nothing("no-file", "no stage of it has begun under watch yet")
    return Nothing(
        "not-monitored", "no stage of it is watched", "monitor = true in a stage, then arm it anew"
    )


def opened(path: Path) -> BinaryIO:
    """The plain file at `path`, for reading. Raises Nothing for anything else, OSError."""
    file = os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Nothing("not-plain", "it is no plain file")
    return file


def stop_asked(place: Path) -> Optional[int]:
    """The attempt of the run in this folder that its owner asked to stop; None: none, by its record."""
    try:
        with opened(place / "nonce") as file:
            nonce = file.read(_RECORD_BYTES).strip()
        with opened(place / "stopping") as file:
            record = dict(line.partition(b"=")[::2] for line in file.read(_RECORD_BYTES).splitlines())
    except (OSError, Nothing):
        return None
    attempt = record.get(b"attempt", b"")
    return int(attempt) if nonce and record.get(b"nonce") == nonce and attempt.isdigit() else None


def taken(usage: Usage, buckets: Optional[Buckets] = None, from_ms: float = 0.0) -> Tuple[Course, int]:
    """All lines of one file, and how many bytes it has. Raises Nothing, OSError."""
    with opened(usage.path) as file:
        about = os.fstat(file.fileno())
        course = Course(_latest_ms(about), buckets, from_ms)
        _all_lines(file, course)
    return course, about.st_size


def _all_lines(file: BinaryIO, course: Course) -> None:
    while True:
        line = file.readline(LINE_BYTES)
        if not line:
            return
        if line.endswith(b"\n"):
            course.take(line)
        elif len(line) == LINE_BYTES:
            course.damaged += 1
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES)
        elif moment(line) is None:
            course.torn = True  # it is being written, or its writer died
        else:
            course.take(line)  # of a writer that does not end its last line


def last_moment(usage: Usage) -> Optional[int]:
    """When the newest line that says so was written, epoch milliseconds. Raises Nothing, OSError."""
    with opened(usage.path) as file:
        about = os.fstat(file.fileno())
        file.seek(max(0, about.st_size - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).split(b"\n")
    latest_ms = _latest_ms(about)
    said = map(moment, reversed(lines))
    return next((at_ms for at_ms in said if at_ms is not None and at_ms <= latest_ms), None)


def _latest_ms(about: os.stat_result) -> float:
    """From when on a moment in the file is not believed."""
    return about.st_mtime * 1000 + _DAY_MS


def size(usage: Usage) -> int:
    """How many bytes it has. Raises OSError."""
    return usage.path.stat().st_size
