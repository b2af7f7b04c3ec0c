"""A link to this very machine: the same command line, framing and bounds, without SSH."""

import contextlib
import os
import selectors
import signal
import subprocess
from types import TracebackType
from typing import IO, Self

from fleet import clock
from fleet.errors import LinkTimeout
from fleet.link.base import PROBE_MAX_BYTES, REMOTE_GRACE_S, STDERR_MAX_BYTES, Reply, command, packed
from fleet.model.probe import Cause, Unreachable

_CHUNK_BYTES = 64 * 1024


class LocalLink:
    """Runs scripts in a shell of this machine; `env` replaces the environment (None: ours)."""

    def __init__(self, env: dict[str, str] | None = None, cwd: str | None = None) -> None:
        self._env = env
        self._cwd = cwd

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """See Link.run. The shell's whole process group is killed when the limit or the bytes run out."""
        began = clock.monotonic()
        with subprocess.Popen(
            ["/bin/sh", "-c", command(limit_s + REMOTE_GRACE_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        ) as process:
            try:
                out, err = _talk(process, packed(script, request), began + limit_s, max_bytes)
                over = len(out) > max_bytes
                if not over:
                    process.wait(max(0.0, began + limit_s - clock.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                says = f"the answer did not end within {limit_s:g} s"
                took_s = clock.monotonic() - began
                away = Unreachable(Cause.TIMEOUT_COMMAND, says, transient=True, at=clock.now(), took_s=took_s)
                raise LinkTimeout(away, where="this machine") from None
            finally:
                if process.returncode is None:  # not reaped, so that the group is still ours
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        status = -1 if over else process.returncode
        return Reply(status, bytes(out[:max_bytes]), bytes(err), clock.monotonic() - began, over=over)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _talk(
    process: subprocess.Popen[bytes], payload: bytes, deadline: float, max_bytes: int
) -> tuple[bytearray, bytearray]:
    """Everything of stdout (one byte more than asked for at the most, then it stops) and the start of stderr.

    Raises TimeoutError at `deadline`.
    """
    out, err = bytearray(), bytearray()
    unsent = memoryview(payload)
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process needs three pipes")
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdin, selectors.EVENT_WRITE)
        waiting.register(process.stdout, selectors.EVENT_READ, (out, max_bytes + 1))
        waiting.register(process.stderr, selectors.EVENT_READ, (err, STDERR_MAX_BYTES))
        listening = 2  # until both outputs are closed, whether or not the request was read
        while listening and len(out) <= max_bytes:
            left_s = deadline - clock.monotonic()
            if left_s <= 0:
                raise TimeoutError
            for key, _ in waiting.select(left_s):
                if key.fileobj is process.stdin:
                    unsent = unsent[_write(process.stdin, unsent) :]
                    done = not unsent
                else:
                    got = os.read(key.fd, _CHUNK_BYTES)
                    kept, most = key.data
                    kept += got[: most - len(kept)]
                    done = not got
                if done:
                    waiting.unregister(key.fileobj)
                    if key.fileobj is process.stdin:
                        process.stdin.close()
                    else:
                        listening -= 1
    return out, err


def _write(pipe: IO[bytes], unsent: memoryview) -> int:
    """How much of it is settled: all of it when the reader has gone."""
    try:
        return os.write(pipe.fileno(), unsent[:_CHUNK_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(unsent)
