"""What the tool on the box answered, as values: read within bounds, believed only in its own form. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fleet.errors import ProbeUnreadable
from fleet.model.run import Run
from fleet.steering.call import MAX_BYTES, Called
from fleet.text.boxjson import from_box
from fleet.text.quote import sh
from fleet.text.untrusted import render_untrusted

MET, USAGE, NO_LOOP, REFUSED, DIED, SILENT = 0, 2, 3, 22, 23, 124
CODES = frozenset({MET, USAGE, NO_LOOP, REFUSED, DIED, SILENT})
_IPC = "onbox.ipc/1"
_LIST, _HELP = "ipc list", "ipc --help"  # what the tool says to whoever stands on the box
_LOOKS = 100  # of one round of tail, at most


class Part(Struct, frozen=True):
    """One loop's part of an answer: `exit_code` is its own. Texts and `reply` are the box's, untrusted.

    `confirmed`: seen to be so, not only sent. `kind` is onbox, loopmonitor or R.
    """

    pid: int
    label: str
    kind: str
    n: int
    exit_code: int
    says: str
    tag: str | None = None
    confirmed: bool = False
    reply: dict[str, Any] | None = None


class Wrong(Struct, frozen=True):
    """Why a command did nothing at all, in the box's words."""

    code: str
    what: str
    next: str = ""


class Said(Struct, frozen=True):
    """The whole answer. `error` None: each part says how it went."""

    schema: str
    verb: str
    ok: bool
    exit_code: int
    answers: tuple[Part, ...] = ()
    error: Wrong | None = None


def said(called: Called, *, where: str) -> tuple[Said, ...]:
    """What was answered, a document a line; the last one is how it ended.

    Raises ProbeUnreadable for what is no such answer, or contradicts itself.
    """
    documents = called.printed.rstrip(b"\n").split(b"\n", _LOOKS)
    if called.status not in CODES or not called.printed.startswith(b"{"):
        raise unreadable(called, where)
    found = tuple(_document(document, where) for document in documents)
    if found[-1].exit_code != called.status:
        raise ProbeUnreadable("its answer contradicts itself", where=where)
    return found


def _document(content: bytes, where: str) -> Said:
    found = from_box(content, Said, max_bytes=MAX_BYTES, where=where, what="its answer", odd_numbers=True)
    codes = {part.exit_code for part in found.answers} | {found.exit_code}
    if found.schema != _IPC or codes - CODES:
        raise ProbeUnreadable("its answer contradicts itself", where=where)
    return found


def untyped(found: Said, run: str | None) -> Said:
    """`found` of a question without a target: that nothing is there, not that `all` means nothing."""
    if found.error is None or found.exit_code != NO_LOOP:
        return found
    what = "no loop runs on this box" if run is None else f"no loop of run {run} runs on this box"
    return replace(found, error=replace(found.error, what=what))


def next_of(found: Said, box: str) -> tuple[str, ...]:
    """The commands that help where no loop was asked, too many were meant, or no command was understood."""
    if found.error is not None and found.exit_code == USAGE and found.error.next == _HELP:
        return ("babysit ipc --help",)
    if found.error is None or (found.exit_code != NO_LOOP and found.error.next != _LIST):
        return ()
    return (f"babysit ipc {sh(box)} list",)


def run_of(part: Part, runs: Mapping[str, Run]) -> Run | None:
    """The run, of those by their tags, that the loop's process belongs to; None for none of them."""
    return runs.get((part.tag or "").partition("/")[0])


def unreadable(called: Called, where: str) -> ProbeUnreadable:
    """The error for what is no answer, with the tool's last words."""
    last = render_untrusted("".join(called.complaints[-1:]), 200)
    hint = f"the tool ended with {called.status}: {last or 'it said nothing'}"
    return ProbeUnreadable("the tool on the box did not answer as it should", where=where, hint=hint)
