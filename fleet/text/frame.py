"""Frames: how a script on a box answers (docs/box.md). Bytes in, sections out; nothing is judged."""

import zlib
from collections.abc import Iterable

from msgspec import Struct

from fleet.errors import ProbeUnreadable

MAX_SECTIONS = 4096
_MAX_NUMBER_DIGITS = 18


class Section(Struct, frozen=True):
    """One thing that was read: `name`, the run it belongs to (None: the box), the reader's exit status."""

    name: str
    run_id: str | None
    status: int
    content: bytes

    @property
    def text(self) -> str:
        """The content as text; bytes that are no UTF-8 become U+FFFD."""
        return self.content.decode("utf-8", "replace")


def request(token: str, pairs: Iterable[tuple[str, str]] = ()) -> bytes:
    """A request as a script reads it: `key SP value` lines closed by `end`, the frame's token first.

    Raises ValueError for a key or value that would not stay on its line.
    """
    lines = []
    for key, value in (("frame", token), *pairs):
        if not key.isidentifier() or "\n" in value or "\0" in value or "\r" in value:
            raise ValueError(f"request line cannot carry {key!r} = {value!r}")
        lines.append(f"{key} {value}\n")
    return "".join([*lines, "end\n"]).encode("utf-8", "surrogateescape")


def sections(answer: bytes, token: str, *, where: str) -> tuple[Section, ...]:
    """All sections of the one frame with `token` in `answer`, in the order they were sent.

    Raises ProbeUnreadable when there is no such frame, or it is cut, or its sum or lengths are wrong.
    """
    head = f"babysit-frame 1 {token} ".encode()
    start = answer.find(head)
    if start < 0:
        raise ProbeUnreadable("the box answered, but not in our frame", where=where)
    line, newline, rest = answer[start + len(head) :].partition(b"\n")
    numbers = line.split(b" ")
    if not newline or len(numbers) != 2:  # length and sum
        raise ProbeUnreadable("the answer was cut in its first line", where=where)
    length, expected = (_number(part, where) for part in numbers)
    body = rest[:length]
    if rest[length:].partition(b"\n")[2] != f"babysit-end {token}\n".encode() and not rest[
        length:
    ].startswith(f"\nbabysit-end {token}\n".encode()):
        raise ProbeUnreadable(f"the answer was cut: {len(body)} of {length} bytes came", where=where)
    if cksum(body) != expected:
        raise ProbeUnreadable("the answer was damaged: its sum is wrong", where=where)
    return tuple(_split(body, where))


def _number(text: bytes, where: str) -> int:
    if not text.isdigit() or len(text) > _MAX_NUMBER_DIGITS:
        raise ProbeUnreadable(f"not a number in a frame: {text[:20]!r}", where=where)
    return int(text)


def _split(body: bytes, where: str) -> Iterable[Section]:
    at = count = 0
    while at < len(body):
        end = body.find(b"\n", at)
        words = body[at:end].split(b" ") if end >= 0 else []
        if len(words) != 5 or words[0] != b"@" or count == MAX_SECTIONS:  # @ name run status length
            raise ProbeUnreadable("a section of the answer is malformed", where=where)
        count += 1
        size = _number(words[4], where)
        content = body[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
        if len(content) != size or body[at - 1 : at] != b"\n":
            raise ProbeUnreadable("a section of the answer has the wrong length", where=where)
        name, run = words[1].decode("ascii", "replace"), words[2].decode("ascii", "replace")
        yield Section(name, None if run == "-" else run, _number(words[3], where), content)


def cksum(data: bytes) -> int:
    """POSIX cksum of `data`: the CRC that every box can compute without our tools.

    zlib has the same polynomial, but takes the lowest bit of a byte first: both ways are turned round.
    """
    length, tail = len(data), bytearray()
    while length:
        tail.append(length & 0xFF)
        length >>= 8
    turned = zlib.crc32((data + tail).translate(_TURNED), _FROM_ZERO)
    return int(f"{turned:032b}"[::-1], 2)


_FROM_ZERO = 0xFFFFFFFF  # zlib begins with all bits set, cksum with none
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
