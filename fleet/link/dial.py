"""The way to a box below SSH: names, TCP, and the watchdog that ends every silence. No SSH library here."""

import contextlib
import queue
import socket
import threading
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from fleet import clock

# RFC 4253 lets a server print lines before its version. Real banners are a few lines; Source: ssh(1) reads
# at most 1024 lines. What is longer than this is no SSH server.
MAX_GREETING_BYTES = 16 * 1024


class Place(Struct, frozen=True):
    """One address of a name, as getaddrinfo gives it."""

    family: int
    sockaddr: tuple[Any, ...]


class Line(socket.socket):
    """A stream socket that remembers how far the other side got: its greeting, and whether it hung up.

    `descriptor` is an open socket to take over; None makes a new one.
    """

    def __init__(self, family: int, descriptor: int | None = None) -> None:
        super().__init__(family, socket.SOCK_STREAM, fileno=descriptor)
        self.greeting = b""  # all before and with the version line, bounded
        self.greeted = False
        self.ended = False  # the other side closed or reset

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As socket.recv. Raises ConnectionError when the greeting never becomes one."""
        try:
            got = super().recv(size, flags)
        except TimeoutError:
            raise
        except OSError:
            self.ended = True
            raise
        if not got:
            self.ended = True
        if not self.greeted:
            self._listen(got)
        return got

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As socket.send."""
        try:
            return super().send(data, flags)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = True
            raise

    def _listen(self, got: bytes) -> None:
        self.greeting += got
        start = 0 if self.greeting.startswith(b"SSH-") else self.greeting.find(b"\nSSH-") + 1
        version_begins = start > 0 or self.greeting.startswith(b"SSH-")
        self.greeted = version_begins and b"\n" in self.greeting[start:]
        if not self.greeted and len(self.greeting) > MAX_GREETING_BYTES:
            raise ConnectionError("no SSH version in the greeting")

    def shut(self) -> None:
        """End both directions now; whoever waits on this socket wakes up. Safe to call at any time."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Shuts a line when its time has run out, whatever the code around it waits for. A context manager.

    `bitten` says that it did. One thread while it is on guard, none afterwards.
    """

    def __init__(self, limit_s: float, line: Line) -> None:
        self.bitten = False
        self._line = line
        self._timer = threading.Timer(max(0.0, limit_s), self._bite)
        self._timer.daemon = True

    def _bite(self) -> None:
        self.bitten = True
        self._line.shut()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()


def places(host: str, port: int, limit_s: float) -> tuple[Place, ...]:
    """All addresses of `host`, in the system's order of preference.

    Raises socket.gaierror when it has none, TimeoutError when the answer takes longer than `limit_s`.
    """
    with contextlib.suppress(socket.gaierror):
        return _lookup(host, port, socket.AI_NUMERICHOST)
    answers: queue.SimpleQueue[tuple[Place, ...] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_lookup(host, port, 0))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA cannot encode
            answers.put(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, ""))

    # getaddrinfo cannot be stopped: the thread is left to the resolver's own limit.
    threading.Thread(target=ask, name=f"lookup {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, limit_s))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _lookup(host: str, port: int, flags: int) -> tuple[Place, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return tuple(Place(int(family), sockaddr) for family, _, _, _, sockaddr in found)


def dial(where: tuple[Place, ...], limit_s: float) -> Line:
    """A connected line to the first of these places that answers; each gets a fair share of `limit_s`.

    TCP_NODELAY is set: without it every SSH handshake waits for a delayed acknowledgement (43 ms measured).
    Raises OSError (TimeoutError included) of the last place when none answers.
    """
    deadline = clock.monotonic() + limit_s
    for tried, place in enumerate(where):
        line = Line(place.family)
        share = (deadline - clock.monotonic()) / (len(where) - tried)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.settimeout(max(0.001, share))
            line.connect(place.sockaddr)
        except OSError:
            line.close()
            if tried == len(where) - 1:
                raise
        else:
            return line
    raise socket.gaierror(socket.EAI_NONAME, "")
