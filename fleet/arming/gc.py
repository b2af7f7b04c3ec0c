"""What old runs left on a box: listed, and removed when that is asked for. The box judges, at that moment."""

import re

from msgspec import Struct

from fleet.arming.ask import ask
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.text.untrusted import render_untrusted

_FRAGMENTS = ("frame", "ground", "records", "scan", "gc")
_LIMIT_S = 300.0  # two searches of /proc a run
_OLD = re.compile(r"(tool|part|run) (\d{1,18}) (\d{1,6}) (\S{1,120})(?: (.{1,200}))?")
_WENT, _FAILED, _KEPT = 0, 1, 2


class Old(Struct, frozen=True):
    """One thing that is old enough. `kind` is tool, part or run; `bytes` its plain files together.

    `goes`: it would go, or went. Otherwise `why` says what keeps it. `name` and `why` are the box's text.
    """

    kind: str
    name: str
    bytes: int
    days: int
    goes: bool
    why: str


class Cleared(Struct, frozen=True):
    """All that was looked at, and how many things more there are than one visit looks at."""

    old: tuple[Old, ...]
    more: int


def clear(
    link: Link,
    *,
    state_dir: str | None,
    where: str,
    days: int,
    superseded: bool,
    finished: bool,
    remove: bool,
) -> Cleared:
    """What is older than `days` and not needed any more; with `remove` it is gone when this returns.

    Folders of runs only with `superseded` (another run has the name) or `finished` (also who ended well and
    still has it). Raises ProbeUnreadable, LinkError.
    """
    pairs = [
        ("state", state_dir or "-"),
        ("days", str(max(0, days))),
        *(
            (key, "yes" if value else "no")
            for key, value in (("superseded", superseded), ("finished", finished), ("remove", remove))
        ),
    ]
    answer = ask(link, _FRAGMENTS, pairs, where=where, limit_s=_LIMIT_S)
    more = answer.must("more").text
    if not more.isdecimal():
        raise ProbeUnreadable("the box does not say whether that is all", where=where)
    return Cleared(
        tuple(_old(item.text, item.status, where) for item in answer.sections if item.name == "old"),
        int(more),
    )


def _old(text: str, status: int, where: str) -> Old:
    match = _OLD.fullmatch(text)
    if match is None or status not in (_WENT, _FAILED, _KEPT):
        raise ProbeUnreadable(
            f"the box lists what nobody can read: {render_untrusted(text, 80)!r}", where=where
        )
    kind, count, days, name, why = match.groups()
    if status == _FAILED and not why:
        why = "it could not be removed"
    return Old(kind, name, int(count), int(days), goes=status == _WENT, why=why or "")
