"""A program of this machine that carries a visit: fed, read within bounds, ended with all it started."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, Protocol

from msgspec import Struct

from fleet import clock
from fleet.link.base import PROBE_MAX_BYTES, STDERR_MAX_BYTES

_CHUNK_BYTES = 64 * 1024
_LOOK_S = 0.1  # how often it is asked whether the child is gone, while others hold its outputs open
_POLL_S = 0.002


class Said(Struct, frozen=True):
    """What came out: at most the bytes asked for, and the start of stderr. `over`: there was more."""

    out: bytes
    err: bytes
    over: bool


class Stream(Protocol):
    """One descriptor to be served whenever it is ready."""

    def fileno(self) -> int:
        """Its descriptor, which does not block."""

    def serve(self) -> bool:
        """Do what can be done now; False when nothing more will ever come or go."""


class Child:
    """One program in a session of its own: no terminal to ask on, and a process group that is ours to end."""

    def __init__(
        self, argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: str | None = None
    ) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        for pipe in self._pipes():
            os.set_blocking(pipe.fileno(), False)

    @property
    def exited(self) -> bool:
        """Whether the program itself has ended. It is not reaped by this: its group stays ours."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def talk(self, payload: bytes, *, deadline: float, max_bytes: int, aside: Stream | None = None) -> Said:
        """Feed it `payload`, read it to its end and see it exit.

        Stops early when stdout has more than `max_bytes`. With `aside`, served meanwhile, the program's end
        is the end, whoever else holds its outputs open. Raises TimeoutError at `deadline` (clock.monotonic).
        """
        stdin, stdout, stderr = self._pipes()
        out, err = _Sink(stdout, max_bytes + 1), _Sink(stderr, STDERR_MAX_BYTES)
        with selectors.DefaultSelector() as waiting:
            feed = _Feed(stdin, payload)
            waiting.register(feed, selectors.EVENT_WRITE, feed)
            for stream in (out, err) if aside is None else (out, err, aside):
                waiting.register(stream, selectors.EVENT_READ, stream)
            listening = {out, err}  # until both outputs are closed, whether or not the request was read
            while listening and len(out.kept) <= max_bytes:
                left_s = deadline - clock.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                gone = aside is not None and self.exited  # asked before the last emptying
                ready = waiting.select(0 if gone else left_s if aside is None else min(left_s, _LOOK_S))
                if gone and not any(key.data in listening for key, _ in ready):
                    break
                for key, _ in ready:
                    if not key.data.serve():
                        waiting.unregister(key.fileobj)
                        listening.discard(key.data)
        over = len(out.kept) > max_bytes
        if not over:
            self.leave(deadline)
            if aside is not None:
                aside.serve()
        return Said(bytes(out.kept[:max_bytes]), bytes(err.kept), over)

    def leave(self, deadline: float) -> None:
        """Wait for its end. Raises TimeoutError at `deadline`."""
        while not self.exited:
            if clock.monotonic() > deadline:
                raise TimeoutError
            threading.Event().wait(_POLL_S)

    def words(self) -> bytes:
        """The start of what lies unread on its stderr now."""
        sink = _Sink(self._pipes()[2], STDERR_MAX_BYTES)
        sink.serve()
        return bytes(sink.kept)

    def kill(self) -> None:
        """End it at once, with its whole group. Safe to call at any time."""
        if self._process.returncode is None:  # not reaped, so that the group is still ours
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for its end, free its pipes; its exit status, negative for a signal. Safe to call twice."""
        status = self._process.wait()
        for pipe in self._pipes():
            pipe.close()
        return status

    def _pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process needs three pipes")
        return process.stdin, process.stdout, process.stderr


class Ended(Struct, frozen=True):
    """How a program ended. `status` None: it had to be ended when its time was over."""

    status: int | None
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """Its last words: the last line that is not empty, of stderr or else of stdout."""
        words = (self.err.strip() or self.out.strip()).decode("utf-8", "replace").splitlines()
        return words[-1] if words else "it said nothing"


def run(
    argv: Sequence[str], *, limit_s: float, env: dict[str, str] | None = None, given: bytes = b""
) -> Ended:
    """`argv` from the root folder, within `limit_s`; nothing it started is left. Raises OSError."""
    child = Child(argv, env=env, cwd="/")
    try:
        said = child.talk(given, deadline=clock.monotonic() + limit_s, max_bytes=PROBE_MAX_BYTES)
    except TimeoutError:
        return Ended(None, b"", b"")
    finally:
        child.kill()
        status = child.end()
    return Ended(status, said.out, said.err)


class _Feed:
    """What is still to be written to a pipe; it is closed when all is written, or nobody reads."""

    def __init__(self, pipe: IO[bytes], payload: bytes) -> None:
        self._pipe = pipe
        self._unsent = memoryview(payload)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def serve(self) -> bool:
        try:
            self._unsent = self._unsent[os.write(self.fileno(), self._unsent[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._pipe.close()
        return bool(self._unsent)


class _Sink:
    """The first `most` bytes of a pipe; the rest is read and dropped."""

    def __init__(self, pipe: IO[bytes], most: int) -> None:
        self.kept = bytearray()
        self._pipe = pipe
        self._most = most

    def fileno(self) -> int:
        return self._pipe.fileno()

    def serve(self) -> bool:
        try:
            got = os.read(self.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return True
        self.kept += got[: self._most - len(self.kept)]
        return bool(got)
