"""The next piece of a run's log, for who follows it: one bounded wait, resumed by inode and offset."""

import re

from msgspec import Struct

from fleet.arming.ask import ask, checked_name
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link

_FRAGMENTS = ("frame", "ground", "records", "wait", "follow")
_FRAME_BYTES = 4096
_HEAD = re.compile(r"(\d{1,18}:\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18})", re.ASCII)


class Spot(Struct, frozen=True):
    """Where a reader of the log is: the next byte is at `offset` of the file `file_id` (DEVICE:INODE)."""

    file_id: str
    offset: int


class Piece(Struct, frozen=True):
    """What came: `data` covers the bytes from `start` to `spot.offset` of a log of `size` bytes.

    NUL bytes are dropped from `data`. `spot` None: there is no log yet. `over`: when this was read, no
    chain of the run lived any more.
    """

    over: bool
    spot: Spot | None
    start: int = 0
    size: int = 0
    data: bytes = b""

    @property
    def more(self) -> bool:
        """Whether the log was longer than this piece when it was read."""
        return self.spot is not None and self.spot.offset < self.size


def follow_log(
    link: Link,
    *,
    state_dir: str | None,
    run_id: str,
    spot: Spot | None,
    max_bytes: int,
    most_behind: int,
    hold_s: int,
    limit_s: float,
) -> Piece:
    """What follows `spot` in the run's log (None: its end), waited for on the box for at most `hold_s`.

    A log that was replaced or cut short is read from its beginning, one that ran more than `most_behind`
    bytes ahead from near its end: `start` tells. Raises NotFound when the box has no such run,
    ProbeUnreadable, LinkError.
    """
    pairs = [
        ("state", state_dir or "-"),
        ("id", checked_name(run_id, what="run id")),
        ("log", spot.file_id if spot else "-"),
        ("from", str(spot.offset) if spot else "-"),
        ("max", str(max_bytes)),
        ("most", str(most_behind)),
        ("hold", str(hold_s)),
    ]
    answer = ask(link, _FRAGMENTS, pairs, where=run_id, limit_s=limit_s, max_bytes=max_bytes + _FRAME_BYTES)
    over = answer.must("chain").text == "over"
    head = answer.must("head")
    if head.status != 0:
        return Piece(over, None)
    found = _HEAD.fullmatch(head.text)
    if found is None:
        raise ProbeUnreadable("the log has no size", where=run_id)
    size, start, stop = (int(number) for number in found.groups()[1:])
    return Piece(over, Spot(found[1], stop), start, size, answer.must("log").content)
