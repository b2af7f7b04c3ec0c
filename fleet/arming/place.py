"""Putting things onto a box: the shipped tool, a run with its name, one file of a run. All or nothing."""

import re

from msgspec import Struct

from fleet.arming.ask import ask, checked_name
from fleet.arming.preflight import BoxReport
from fleet.errors import UsageError
from fleet.link.base import Link
from fleet.text.frame import cksum

_FRAGMENTS = ("frame", "ground", "place")
_LIMIT_S = 30.0
IPC = "ipc"  # the name of the command for loops, beside the shipped tool
REPLACEABLE = (
    "handbook.md",
    "budget",
    "code.json",
    "checkpoint.sh",
)  # else fixed at arm, or written by the chain alone
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_PATH = re.compile(rf"{_PLAIN}(/{_PLAIN})?")


class Shipped(Struct, frozen=True):
    """Where the tool lies on the box (absolute path), and whether it had to be written."""

    path: str
    wrote: bool


class Linked(Struct, frozen=True):
    """`word`: made, there (already), taken (by something else), missing (no command to link to) or failed.

    `at` is the link's place, `why` what hindered it, both the box's text.
    """

    word: str
    at: str
    why: str = ""


class Claim(Struct, frozen=True):
    """Which run id owns the name now. `fresh`: this very call made it so."""

    owner: str
    fresh: bool


def ship(link: Link, report: BoxReport, pyz: bytes, name: str, *, limit_s: float = _LIMIT_S) -> Shipped:
    """The tool `pyz` under `name` on the box of `report`; no visit when the report already showed it whole.

    A file of that name with another size or sum is replaced. Raises BoxRefused when it cannot be
    written, ProbeUnreadable when it arrived damaged, LinkError.
    """
    if report.onbox_sum == (cksum(pyz), len(pyz)):
        return Shipped(f"{report.home}/.local/share/babysit/{name}", wrote=False)
    return ship_anyway(link, pyz, name, where=report.box, limit_s=limit_s)


def ship_anyway(link: Link, pyz: bytes, name: str, *, where: str, limit_s: float = _LIMIT_S) -> Shipped:
    """As `ship`, where nobody has looked at the box yet."""
    checked_name(name, what="name of the shipped tool")
    pairs = [("act", "ship"), ("name", name), ("size", str(len(pyz))), ("sum", str(cksum(pyz)))]
    answer = ask(link, _FRAGMENTS, pairs, where=where, limit_s=limit_s, payload=pyz)
    return Shipped(answer.must("path").text, wrote=answer.must("wrote").text == "yes")


def link_ipc(link: Link, *, folder: str, where: str, limit_s: float = _LIMIT_S) -> Linked:
    """What became of the wish to have the command `ipc` in `folder` too. Never replaces anything.

    Raises ProbeUnreadable, LinkError, UsageError for a folder that no request line can hold.
    """
    answer = ask(link, _FRAGMENTS, [("act", "link"), ("folder", folder)], where=where, limit_s=limit_s)
    return Linked(answer.must("word").text, answer.must("at").text, answer.must("why").text)


def claim(
    link: Link,
    *,
    state_dir: str | None,
    run_name: str,
    run_id: str,
    files: dict[str, bytes],
    expect_owner: str | None,
    limit_s: float,
    loops: str | None = None,
    where: str = "",
) -> Claim:
    """Who owns `run_name` on the box after we tried to take it for `run_id` with its `files`.

    `files` maps a path inside the run's folder (`plan`, `stages/01-train.sh`) to its bytes. Exactly one
    of any number of callers gets a free name; of those with the same `expect_owner` exactly one comes
    after it. Who does not get the name leaves nothing behind. Calling again with the same run id is
    safe: the answer is the same, but not fresh. `loops` is the folder in which the command `ipc` on the box
    looks from then on, None: its own. Raises BoxRefused for a disk that cannot hold it,
    ProbeUnreadable, LinkError, UsageError for a name that is none.
    """
    checked_name(run_name, what="run name")
    checked_name(run_id, what="run id")
    if expect_owner is not None:
        checked_name(expect_owner, what="run id")
    for path in files:
        _checked_path(path)
    payload = b"".join(files.values())
    pairs = [
        ("act", "claim"),
        ("state", state_dir or "-"),
        ("run", run_name),
        ("id", run_id),
        ("expect", expect_owner or "-"),
        ("sum", str(cksum(payload))),
        ("loops", loops or "-"),
        *(("file", f"{path} {len(content)}") for path, content in files.items()),
    ]
    answer = ask(link, _FRAGMENTS, pairs, where=where or run_name, limit_s=limit_s, payload=payload)
    return Claim(answer.must("owner").text, fresh=answer.must("fresh").text == "yes")


def put_file(
    link: Link, *, state_dir: str | None, run_id: str, name: str, content: bytes, limit_s: float = _LIMIT_S
) -> None:
    """Nothing comes back: one file of a run is replaced as a whole; a reader sees the old or the new one.

    Raises NotFound when the box has no such run, BoxRefused when it cannot be written,
    ProbeUnreadable, LinkError.
    """
    if name not in REPLACEABLE:
        raise UsageError(f"no file to be put into a run: {name!r}", hint=f"only {', '.join(REPLACEABLE)}")
    pairs = [
        ("act", "put"),
        ("state", state_dir or "-"),
        ("id", checked_name(run_id, what="run id")),
        ("name", name),
        ("size", str(len(content))),
        ("sum", str(cksum(content))),
    ]
    ask(link, _FRAGMENTS, pairs, where=run_id, limit_s=limit_s, payload=content)


def _checked_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise UsageError(f"not a file of a run: {path!r}", hint="a plain name, or a folder and one")
