"""Checks and their lines: every check in its own thread, none of them able to hold up or end the others."""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

from fleet import clock
from fleet.errors import TICK_PRECEDENCE, BabysitError

LIMIT_S = 20.0
_ATTENTION = 10

T = TypeVar("T")


class Level(StrEnum):
    """`ok` needs nothing, `warn` works but not in every case, `fail` will not work as it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Found(Struct, frozen=True):
    """What one check saw. `fix` are commands, the first one first; `more` are further sentences of ours.

    `untrusted` is the box's own text that belongs to `says`. `exit_code` counts where the level is fail.
    """

    level: Level
    says: str
    fix: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    untrusted: str = ""
    exit_code: int = _ATTENTION


class Check(Struct, Generic[T], frozen=True):
    """One row of a table of checks. `look` gives a finding, several, or none where there is nothing to ask.

    It may raise whatever it likes: that is a finding too. After `limit_s` nobody waits for it any more.
    """

    group: str
    name: str
    look: Callable[[T], Iterable[Found]]
    limit_s: float = LIMIT_S


class Line(Struct, frozen=True):
    """One finding under its check's name."""

    group: str
    name: str
    found: Found


class Examined(Struct, frozen=True):
    """All findings in the order of the table, and the names of checks that had nothing to look at."""

    lines: tuple[Line, ...]
    not_asked: tuple[str, ...]


def ok(says: str, *, more: tuple[str, ...] = (), untrusted: str = "") -> Found:
    """All is well."""
    return Found(Level.OK, says, more=more, untrusted=untrusted)


def warn(says: str, *fix: str, more: tuple[str, ...] = (), untrusted: str = "") -> Found:
    """It works, but not in every case."""
    return Found(Level.WARN, says, fix, more, untrusted)


def fail(
    says: str, *fix: str, more: tuple[str, ...] = (), untrusted: str = "", exit_code: int = _ATTENTION
) -> Found:
    """It will not work as it is."""
    return Found(Level.FAIL, says, fix, more, untrusted, exit_code)


def of_error(error: BabysitError, *, more: tuple[str, ...] = (), exit_code: int = _ATTENTION) -> Found:
    """An error of ours as a finding: what it says, and what helps."""
    return fail(error.what, *error.next, more=(*error.hint.splitlines(), *more), exit_code=exit_code)


def examine(checks: Sequence[Check[T]], ground: T, *, limit_s: float = LIMIT_S) -> Examined:
    """Every check's findings, all of them side by side; at most about `limit_s` seconds in all.

    A check that hangs or crashes is a finding of level fail. Its thread ends with the process at the latest.
    """
    began = clock.monotonic()
    answers: list[queue.SimpleQueue[tuple[Found, ...]]] = []
    for check in checks:
        answer: queue.SimpleQueue[tuple[Found, ...]] = queue.SimpleQueue()
        answers.append(answer)
        threading.Thread(target=_look, args=(check, ground, answer), name=check.name, daemon=True).start()
    lines: list[Line] = []
    silent: list[str] = []
    for check, answer in zip(checks, answers, strict=True):
        limit = min(check.limit_s, limit_s)
        try:
            found = answer.get(timeout=max(0.0, began + limit - clock.monotonic()))
        except queue.Empty:
            found = (fail(f"gave no answer within {limit:g} s", more=("what it asks hangs",)),)
        lines += [Line(check.group, check.name, each) for each in found]
        if not found:
            silent.append(check.name)
    return Examined(tuple(lines), tuple(silent))


def _look(check: Check[T], ground: T, answer: "queue.SimpleQueue[tuple[Found, ...]]") -> None:
    try:
        found = tuple(check.look(ground))
    except BabysitError as error:
        found = (of_error(error),)
    except BaseException as error:  # noqa: BLE001 - a check that crashes is one line, the others go on
        found = (fail(f"this check itself broke: {type(error).__name__}: {error}"),)
    answer.put(found)


def exit_code_of(lines: Sequence[Line]) -> int:
    """0 where nothing failed, else the first code by the order that ticks use."""
    codes = {line.found.exit_code for line in lines if line.found.level is Level.FAIL}
    return next((code for code in TICK_PRECEDENCE if code in codes), 0)
