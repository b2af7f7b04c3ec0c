"""The end records of loops that somebody broke off, as far as a probe sends them. Pure."""

import json
import re
from collections.abc import Iterator

from msgspec import Struct

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Broken
from fleet.model.reading import Known, Missing, Reading
from fleet.text.boxjson import from_box
from fleet.text.frame import Section
from patrol.readers.section import figure, text_of

_MOST = 4
_BYTES = 3072
_PATH_CHARS = 1000
_STAGE = re.compile(r"[0-9]{2}-[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ITERATION = re.compile(rb'"iteration": ([0-9]{1,18})\b')
_SAVED = re.compile(rb'"saved": ("(?:[^"\\]|\\.)*")')


class _Record(Struct, frozen=True):
    format: int
    tag: str
    ended: str
    exit_code: int
    ended_at: float
    rank: int | None = None
    n: int = 0


def read_broken(section: Section | None, tag: str, at: float) -> Reading[tuple[Broken, ...]]:
    """Those of the run with that tag, the lowest rank and the outermost first; empty without the section."""
    if section is None:
        return Known((), at, "broken loops")
    text = text_of(section, "the end records of its loops")
    if isinstance(text, Missing):
        return text
    found = sorted(_records(section.content, tag), key=lambda ranked: ranked[0])
    return Known(tuple(loop for _, loop in found), at, "broken loops")


def _records(content: bytes, tag: str) -> Iterator[tuple[tuple[int, int, float], Broken]]:
    lines = content.split(b"\n")
    for head, tail in list(zip(lines[::2], lines[1::2], strict=False))[:_MOST]:
        top, _, state = head.partition(b', "state": ')
        try:
            record = from_box(top.rstrip(b"}") + b"}", _Record, max_bytes=_BYTES, where="", what="a record")
        except ProbeUnreadable:
            continue
        run, _, stage = record.tag.partition("/")
        if (record.format, record.ended, run) == (1, "broken", tag) and _STAGE.fullmatch(stage):
            loop = Broken(
                stage, _iteration(state), record.exit_code, record.ended_at, record.rank, _saved(top, tail)
            )
            yield (record.rank or 0, record.n, -record.ended_at), loop


def _iteration(state: bytes) -> int | None:
    said = _ITERATION.search(state.partition(b'"tracked"')[0])
    return figure(said[1].decode()) if said else None


def _saved(top: bytes, tail: bytes) -> str | None:
    """The path of the snapshot, before what the loop tracked or behind it."""
    said = _SAVED.search(top) or re.search(_SAVED.pattern + rb"\}\s*$", tail)
    try:
        path = json.loads(said[1]) if said else None
    except ValueError:
        return None
    return path[:_PATH_CHARS] if isinstance(path, str) and path else None
