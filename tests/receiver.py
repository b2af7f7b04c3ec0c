"""A real receiver of notices on this machine: it can take them, refuse, hang, drip, reset, redirect, dawdle."""

import errno
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODES = ("ok", "500", "flaky", "hang", "held", "drip", "reset", "307", "slow", "wait", "gone")
SLOW_S = 0.5


@dataclass(frozen=True)
class Hit:
    """One request as it came, whatever was answered."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """`mode` may change at any time; it holds from the next request on. `hits` are in order of arrival.

    ok: 204 · 500 · flaky: 500 and 204 by turns · hang: no answer · held: 204 once `release` is set ·
    drip: a byte every 0.1 s, until `release` or for ever ·
    reset: the connection is reset after the request · 307: to /elsewhere here · slow: 204 after half a second ·
    wait: `status` (429) with Retry-After: `retry_after` · gone: `status` too.
    """

    port: int
    mode: str = "ok"
    status: int = 429
    retry_after: str = "5"
    hits: list[Hit] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook", query: str = "") -> str:
        """Its address as apprise writes that of a plain JSON webhook."""
        return f"json://127.0.0.1:{self.port}{path}{query}"

    def events(self) -> list[str]:
        """The event id of each hit."""
        return [hit.json["event"] for hit in self.hits]


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        receiver.hits.append(Hit(time.time(), self.path, dict(self.headers), body))
        mode = receiver.mode
        if mode == "flaky":
            mode = "500" if len(receiver.hits) % 2 else "ok"
        getattr(self, f"_{mode}")()

    def _ok(self) -> None:
        self.send_response(204)
        self.end_headers()

    def _500(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _wait(self) -> None:
        self.send_response(self.server.receiver.status)
        self.send_header("Retry-After", self.server.receiver.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _gone(self) -> None:
        self.send_response(self.server.receiver.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _307(self) -> None:
        self.send_response(307)
        self.send_header("Location", f"http://127.0.0.1:{self.server.receiver.port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _slow(self) -> None:
        self.server.receiver.closing.wait(SLOW_S)
        self._ok()

    def _hang(self) -> None:
        self.server.receiver.closing.wait()
        self.close_connection = True

    def _held(self) -> None:
        self.server.receiver.release.wait()
        with suppress(OSError):  # the sender did not wait so long
            self._ok()

    def _drip(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not (self.server.receiver.closing.wait(0.1) or self.server.receiver.release.is_set()):
                self.wfile.write(b".")
        except OSError:
            pass  # the sender was ended
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing joins them: no thread is left
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a connection that we reset, or whose sender was ended

    def shutdown_request(self, request: Any) -> None:
        try:
            super().shutdown_request(request)
        except OSError:
            request.close()


def _bound(port: int) -> _Server:
    """A server at `port`. Whoever got a port by chance after it was let go has it for a moment only."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            if not port or error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def receiver(mode: str = "ok", port: int = 0) -> Iterator[Receiver]:
    """A receiver that listens for the block; afterwards its port is free and no thread of it is left."""
    server = _bound(port)
    server.receiver = Receiver(server.server_address[1], mode)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.receiver
    finally:
        server.receiver.closing.set()
        server.receiver.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
