"""Which loops a person means: `all`, a pid, a parent's pid, a glob on the label, or `PID/N`."""

import fnmatch
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from onbox.ipc.answers import Answer
from onbox.ipc.known import Known
from onbox.ipc.shown import shown

_PID = re.compile(r"([0-9]{1,12})(?:/([0-9]{1,9}))?", re.ASCII)


class Target(NamedTuple):
    """What was typed; `pid` is None for a glob or `all`, `n` None without a loop's number."""

    text: str
    pid: Optional[int]
    n: Optional[int]


class Chosen(NamedTuple):
    """One loop of a process: `n` is its number in the card."""

    known: Known
    n: int


def target(text: str) -> Target:
    """The target that `text` says; every text is one."""
    found = _PID.fullmatch(text)
    if found is None:
        return Target(text, None, None)
    return Target(text, int(found.group(1)), int(found.group(2)) if found.group(2) else None)


def chosen(wanted: Target, living: Sequence[Known]) -> List[Chosen]:
    """The loops that `wanted` means: a pid before a parent's pid; an inner loop only by its number."""
    if wanted.text == "all":
        return [Chosen(known, known.n) for known in living]
    if wanted.pid is None:
        return [Chosen(known, known.n) for known in living if fnmatch.fnmatchcase(known.label, wanted.text)]
    itself = [known for known in living if known.pid == wanted.pid]
    if wanted.n is not None:
        return [Chosen(known, wanted.n) for known in itself if wanted.n in numbers(known)]
    found = itself or [known for known in living if known.ppid == wanted.pid]
    return [Chosen(known, known.n) for known in found]


def numbers(known: Known) -> List[int]:
    """The numbers of its living loops, outermost first."""
    return [loop.n for loop in known.card.loops] if known.card else [1]


def label(one: Chosen) -> str:
    """The label of that loop."""
    loops = one.known.card.loops if one.known.card else ()
    return next((loop.label for loop in loops if loop.n == one.n), one.known.label)


def answer(
    asked: Chosen, code: int, says: str, *, reply: Optional[Dict[str, Any]] = None, confirmed: bool = False
) -> Answer:
    """An answer of that loop; `says` is made harmless."""
    card = asked.known.card
    return Answer(
        pid=asked.known.pid,
        label=label(asked),
        kind=asked.known.kind,
        n=asked.n,
        exit_code=code,
        says=shown(says),
        tag=card.tag if card else None,
        confirmed=confirmed,
        reply=reply,
    )
