"""One command of the shipped tool on a box: its words go there as data, what it printed comes back."""

import re

from msgspec import Struct

from fleet.arming.ask import Answer, ask
from fleet.arming.place import ship_anyway
from fleet.arming.ship import build_pyz, onbox_name
from fleet.errors import ProbeUnreadable, UsageError
from fleet.link.base import Link
from fleet.text.frame import cksum
from fleet.text.untrusted import decode

MAX_BYTES = 4 * 1024 * 1024  # some answers of 1 MiB, the most that a loop gives
_FRAGMENTS = ("frame", "ground", "ipc")
_FRAME_BYTES = 4096
_WORDS_BYTES = 256 * 1024
_WORD_BYTES = 128 * 1024 - 1  # Source: execve(2), MAX_ARG_STRLEN, with the byte that ends it
_ESCAPED = re.compile(r"[\\\x01-\x1f\x7f]")


class Called(Struct, frozen=True):
    """`status` is the tool's exit status; `printed`, and `complaints` by line, are the box's text.

    `shipped`: the tool was not there and was sent first. `took_s` is the asking, without the way there.
    """

    status: int
    printed: bytes
    complaints: tuple[str, ...]
    shipped: bool
    took_s: float


def call(
    link: Link, words: tuple[str, ...], *, where: str, limit_s: float, loops: str | None = None
) -> Called:
    """What `python onbox.pyz WORDS` said, in at most `limit_s`; the tool is sent where it is missing.

    `loops` is the folder of the loops on the box; None: where its own environment says, else `~/.ipc`.
    Raises UsageError for a word that no command line can hold, BoxRefused where there is no Python,
    ProbeUnreadable, LinkError.
    """
    pyz, digest = build_pyz()
    name = onbox_name(digest)
    escaped = [escape(word, where) for word in words]
    if sum(map(len, escaped)) > _WORDS_BYTES:
        raise UsageError(f"the command is longer than {_WORDS_BYTES} bytes", where=where)
    pairs = [
        ("tool", name),
        ("size", str(len(pyz))),
        ("sum", str(cksum(pyz))),
        *([] if loops is None else [("loops", loops)]),
        *(("word", word) for word in escaped),
    ]

    def asked() -> Answer:
        return ask(link, _FRAGMENTS, pairs, where=where, limit_s=limit_s, max_bytes=MAX_BYTES + _FRAME_BYTES)

    answer = asked()
    shipped = answer.get("tool") is not None
    if shipped:
        ship_anyway(link, pyz, name, where=where)
        answer = asked()
    said = answer.get("answer")
    if said is None:
        raise ProbeUnreadable("the tool was sent to the box and is not there", where=where)
    complaints = tuple(line for line in decode(answer.complaint).splitlines() if line.strip())
    return Called(said.status, said.content, complaints, shipped, answer.took_s)


def escape(word: str, where: str) -> str:
    """`word` on one line of a request, as `printf %b` reads it. Raises UsageError for what is no argument."""
    if "\0" in word:
        raise UsageError("a word of a command cannot hold a NUL character", where=where)
    if len(word.encode(errors="replace")) > _WORD_BYTES:
        raise UsageError(f"a word of the command is longer than {_WORD_BYTES} bytes", where=where)
    return _ESCAPED.sub(lambda found: f"\\0{ord(found[0]):03o}", word)
