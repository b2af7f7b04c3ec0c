"""Sweeps: which calls of a real program are hit, one scenario a point, and what is told of it."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import strace

SEED = 20261122  # of the samples that every run takes
CHANCE = random.SystemRandom().randrange(10**6)  # of the long sweeps: printed, another one each time
KILLED = (
    *("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "renameat2", "unlink", "mkdir"),
    *("connect", "sendto", "clone", "clone3", "vfork"),
)
# What a disk, a network and a small table of descriptors really answer; `+` is a disk that stays full.
FAILED = {
    "ENOSPC": ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "mkdir"),
    "ENOSPC+": ("pwrite64",),
    "EIO": ("pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink"),
    "EINTR": ("write", "pwrite64", "fsync", "connect", "sendto"),
    "ECONNRESET": ("sendto",),
    "EMFILE": ("socket", "pipe2"),
    "EAGAIN": ("clone3", "vfork"),
}
# What is counted once for both.
COUNTED = tuple(dict.fromkeys([*KILLED, *(call for calls in FAILED.values() for call in calls)]))
AT_ONCE = 2

Counts = Sequence[tuple[str, int]]


class Point(NamedTuple):
    """The `nth` call of `syscall` is killed, or fails with `what`; with `paths` only calls that touch them count."""

    syscall: str
    nth: int
    what: str = "kill"
    paths: tuple[str, ...] = ()


def needs_strace() -> None:
    """Skip where no system call can be injected; conftest makes that a failure in CI."""
    if strace.available():
        pytest.skip(strace.available())


def kills(counts: Counts, calls: Sequence[str] = KILLED) -> list[Point]:
    """Each of `calls` that an untouched run makes, as a kill before it."""
    return [Point(call, nth) for call, count in counts if call in calls for nth in range(1, count + 1)]


def failures(counts: Counts) -> list[Point]:
    """Each call of an untouched run with each of the failures that it can have."""
    return [
        Point(call, nth, what)
        for what, calls in FAILED.items()
        for call, count in counts
        if call in calls
        for nth in range(1, count + 1)
    ]


def sample(every: Sequence[Point], count: int, seed: int) -> list[Point]:
    """`count` of them: at even distances in their order, each moved a little by chance."""
    if count >= len(every):
        return list(every)
    chance = random.Random(seed)
    step = len(every) / count
    return [every[min(len(every) - 1, int((number + chance.random()) * step))] for number in range(count)]


def sweep(name: str, points: Sequence[Point], judge: Callable[[Point], bool], *, of: int, seed: int) -> None:
    """Every point tried, two at a time; fails with all that went wrong. `judge` returns whether it was hit."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(lambda point: _judged(judge, point), points))
    hits = sum(hit is True for hit in ended)
    wrong = [f"{point}: {said}" for point, said in zip(points, ended, strict=True) if isinstance(said, str)]
    took_s = time.monotonic() - began
    says = f"{name}: seed {seed}, {len(points)} of {of} points, {hits} hit, {len(wrong)} violations, {took_s:.0f} s"
    print(f"\n{says}")
    assert not wrong, "\n\n".join([says, *wrong])
    # Threads, and loops that wait, move a call now and then; a sweep that mostly misses proves nothing.
    assert hits >= (0.6 * len(points) if len(points) > 20 else 1), f"{says}: most points were never reached"


def _judged(judge: Callable[[Point], bool], point: Point) -> bool | str:
    try:
        return judge(point)
    except Exception as error:  # noqa: BLE001 - every point is tried before the test says what went wrong
        return f"{type(error).__name__}: {error}"
