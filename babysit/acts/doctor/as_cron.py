"""The child that logs in as cron would: `python -I -m`, one Request on stdin, one Answer on stdout."""

import sys

import msgspec
from msgspec import Struct

from fleet.errors import AuthRefused, BabysitError
from fleet.link.hostkeys import HostKey
from fleet.link.open import connect
from fleet.model.spec import BoxSpec


class Request(Struct, frozen=True):
    """A box, the key it must show (None: one that known_hosts vouches for), and how long a login may take."""

    box: BoxSpec
    key: HostKey | None
    limit_s: float


class Answer(Struct, frozen=True):
    """`trouble` is why the login failed, None when it did not; `next` are commands that help."""

    trouble: str | None
    next: tuple[str, ...] = ()
    auth: bool = False


def login(request: Request) -> Answer:
    """How one login went. It asks nothing of the box, and nobody."""
    try:
        with connect(request.box, pinned=request.key, limit_s=request.limit_s):
            return Answer(None)
    except BabysitError as error:
        return Answer(error.what, error.next, isinstance(error, AuthRefused))


if __name__ == "__main__":
    answer = login(msgspec.json.decode(sys.stdin.buffer.read(), type=Request))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
