"""Boxes that are none: ports on loopback that greet, stall, drip, flood, reset, or relay so far and no further."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket], None]

AS_LONG_S = 150  # that a visitor may take, whatever his own limit is


@contextlib.contextmanager
def serving(behave: Behaviour) -> Iterator[int]:
    """A port on loopback where each connection meets `behave`, and is then read to its end and closed."""

    def handle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(AS_LONG_S)
            behave(connection)
            while connection.recv(65536):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(60)


def says(words: bytes, *, close: bool = False) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(words)
        if close:
            connection.shutdown(socket.SHUT_WR)

    return behave


def drips(words: bytes, every_s: float) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.settimeout(every_s)
        while True:
            connection.sendall(words)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    return

    return behave


def floods(words: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        while True:
            connection.sendall(words)

    return behave


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def relays(port: int, after_bytes: int, then: str, count: list[int] | None = None) -> Behaviour:
    """A way to the real box that lets `after_bytes` of its answer through, then stops or cuts.

    What has passed is added to the first item of `count`.
    """

    def behave(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as inner:

            def forward() -> None:
                with contextlib.suppress(OSError):
                    while got := connection.recv(65536):
                        inner.sendall(got)
                    inner.shutdown(socket.SHUT_RDWR)

            upward = threading.Thread(target=forward, daemon=True)
            upward.start()
            left = after_bytes
            while left and (got := inner.recv(min(left, 4096))):
                connection.sendall(got)
                left -= len(got)
                if count is not None:
                    count[0] += len(got)
            if then == "cut":
                connection.shutdown(socket.SHUT_RDWR)
            upward.join(AS_LONG_S)

    return behave
