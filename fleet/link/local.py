"""A link to this very machine: the same command line, framing and bounds, without SSH."""

from types import TracebackType
from typing import Self

from fleet import clock
from fleet.errors import LinkError, LinkTimeout
from fleet.link.base import COMMAND, PROBE_MAX_BYTES, Reply, ended_there, packed
from fleet.link.child import Child
from fleet.model.probe import Cause, Unreachable

_WHERE = "this machine"


class LocalLink:
    """Runs scripts in a shell of this machine; `env` replaces the environment (None: ours)."""

    def __init__(self, env: dict[str, str] | None = None, cwd: str | None = None) -> None:
        self._env = env
        self._cwd = cwd
        self._closed = False

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """See Link.run. The shell's whole process group is killed when the limit or the bytes run out."""
        began = clock.monotonic()
        if self._closed:
            away = Unreachable(Cause.CUT, "this link is closed", transient=True, at=clock.now(), took_s=0.0)
            raise LinkError(away, where=_WHERE)
        child = Child(["/bin/sh", "-c", COMMAND], env=self._env, cwd=self._cwd)
        try:
            payload = packed(script, request, limit_s)
            said = child.talk(payload, deadline=began + limit_s, max_bytes=max_bytes)
        except TimeoutError:
            raise self._ran_out(began, limit_s) from None
        finally:
            if not child.exited:
                child.kill()
            status = child.end()
        if said.over or status < 0:  # ended by us, or by a signal: no result
            status = -1
        reply = Reply(status, said.out, said.err, clock.monotonic() - began, over=said.over)
        if ended_there(reply, limit_s):
            raise self._ran_out(began, limit_s)
        return reply

    def _ran_out(self, began: float, limit_s: float) -> LinkTimeout:
        self.close()
        says = f"the answer did not end within {limit_s:g} s"
        took_s = clock.monotonic() - began
        away = Unreachable(Cause.TIMEOUT_COMMAND, says, transient=True, at=clock.now(), took_s=took_s)
        return LinkTimeout(away, where=_WHERE)

    def close(self) -> None:
        """End the link: nothing is open between two runs."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
