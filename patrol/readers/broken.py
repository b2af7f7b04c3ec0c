"""How loops of a failed stage ended, as far as a probe sends it: those that somebody broke off. Pure."""

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Broken
from fleet.model.reading import Known, Missing, Reading
from fleet.text.boxjson import from_box
from fleet.text.frame import Section
from patrol.readers.section import figure, text_of

_MOST = 8
_BYTES = 3072
_PATH_CHARS = 1000
_STAGE = re.compile(r"[0-9]{2}-[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ITERATION = re.compile(rb'"iteration": ([0-9]{1,18})\b')
_SAVED = re.compile(rb'"saved": ("(?:[^"\\]|\\.)*")')


class _Record(Struct, frozen=True):
    format: int
    tag: str
    ended: str
    ended_at: float
    started_at: float
    exit_code: int | None = None
    rank: int | None = None
    n: int = 0


def read_broken(section: Section | None, tag: str, at: float) -> Reading[tuple[Broken, ...]]:
    """Those of the run with that tag, the lowest rank and the outermost first; empty without the section."""
    if section is None:
        return Known((), at, "broken loops")
    text = text_of(section, "the end records of its loops")
    if isinstance(text, Missing):
        return text
    found = list(_records(section.content, tag))
    began = [(stage, record.started_at) for stage, record, _ in found]
    broken = [(record, loop) for _, record, loop in found if loop is not None]
    broken.sort(key=lambda pair: (pair[0].rank or 0, pair[0].n, -pair[0].ended_at))

    def last(loop: Broken) -> bool:
        return not any(stage == loop.stage and since > loop.ended_at for stage, since in began)

    return Known(tuple(replace(loop, last=last(loop)) for _, loop in broken), at, "broken loops")


def _records(content: bytes, tag: str) -> Iterator[tuple[str, _Record, Broken | None]]:
    """Each loop of the run after its stage; as Broken too where it was broken off."""
    lines = content.split(b"\n")
    for head, tail in list(zip(lines[::2], lines[1::2], strict=False))[:_MOST]:
        top, _, state = head.partition(b', "state": ')
        try:
            record = from_box(top.rstrip(b"}") + b"}", _Record, max_bytes=_BYTES, where="", what="a record")
        except ProbeUnreadable:
            continue
        run, _, stage = record.tag.partition("/")
        if (record.format, run) != (1, tag) or not _STAGE.fullmatch(stage):
            continue
        code, loop = record.exit_code, None
        if record.ended == "broken" and code is not None:
            at, saved = _iteration(state), _saved(top, tail)
            loop = Broken(stage, at, code, record.ended_at, record.rank, saved, record.started_at)
        yield stage, record, loop


def _iteration(state: bytes) -> int | None:
    said = _ITERATION.search(state.partition(b'"tracked"')[0])
    return figure(said[1].decode()) if said else None


def _saved(top: bytes, tail: bytes) -> str | None:
    """The path of the snapshot, before what the loop tracked or behind it."""
    said = _SAVED.search(top) or re.search(_SAVED.pattern + rb"\}\s*$", tail)
    try:
        path = from_box(said[1], str, max_bytes=_BYTES, where="", what="a path") if said else None
    except ProbeUnreadable:
        return None
    return path[:_PATH_CHARS] if path else None
