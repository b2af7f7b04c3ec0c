"""A link that is none: its far end is a generator of the test, its time is counted and not waited for."""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from fleet.errors import LinkError, LinkTimeout
from fleet.link.base import PROBE_MAX_BYTES, STDERR_MAX_BYTES, Reply
from fleet.link.hostkeys import HostKey
from fleet.model.probe import Cause, Unreachable


class Out(NamedTuple):
    """Bytes on stdout."""

    data: bytes


class Err(NamedTuple):
    """Bytes on stderr."""

    data: bytes


class Wait(NamedTuple):
    """Seconds in which nothing comes."""

    seconds: float


class Exit(NamedTuple):
    """The end of the command; None: by a signal."""

    status: int | None


class Cut(NamedTuple):
    """The end of the link."""


FarEnd = Callable[[bytes], Iterator[Out | Err | Wait | Exit | Cut]]


class MemoryLink:
    """Plays the far end that belongs to each script. `running` has the commands that have not ended."""

    def __init__(self, plays: Mapping[bytes, FarEnd], host_key: HostKey | None = None) -> None:
        self.host_key = host_key
        self.strict_kex: bool | None = None
        self.running: dict[int, str] = {}
        self._plays = plays
        self._closed = False
        self._runs = 0

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        if self._closed:
            raise self._error(LinkError, Cause.CUT, "this link is closed", 0.0)
        self._runs += 1
        number = self._runs
        self.running[number] = script.decode()
        try:
            return self._play(self._plays[script](request), limit_s, max_bytes)
        except LinkError:
            self._closed = True
            raise
        finally:
            del self.running[number]

    def _play(self, far: Iterator[Out | Err | Wait | Exit | Cut], limit_s: float, max_bytes: int) -> Reply:
        out, err, took_s = bytearray(), bytearray(), 0.0
        for event in far:
            match event:
                case Out(data):
                    out += data
                    if len(out) > max_bytes:
                        return Reply(-1, bytes(out[:max_bytes]), bytes(err), took_s, over=True)
                case Err(data):
                    err += data[: STDERR_MAX_BYTES - len(err)]
                case Wait(seconds):
                    took_s += seconds
                    if took_s > limit_s:
                        says = f"the answer did not end within {limit_s:g} s"
                        raise self._error(LinkTimeout, Cause.TIMEOUT_COMMAND, says, limit_s)
                case Exit(status):
                    return Reply(-1 if status is None else status, bytes(out), bytes(err), took_s)
                case Cut():
                    break
        raise self._error(LinkError, Cause.CUT, "the link was cut", took_s)

    def _error(self, kind: type[LinkError], cause: Cause, says: str, took_s: float) -> LinkError:
        return kind(Unreachable(cause, says, transient=True, at=0.0, took_s=took_s), where="memory")

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
