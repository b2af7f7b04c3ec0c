"""A link to this very machine: the same command line and the same framing, without SSH."""

import os
import signal
import subprocess
from types import TracebackType
from typing import Self

from fleet import clock
from fleet.errors import LinkTimeout
from fleet.link.base import PROBE_MAX_BYTES, Reply, command, packed
from fleet.model.probe import Cause, Unreachable


class LocalLink:
    """Runs scripts in a shell of this machine; `env` replaces the environment (None: ours)."""

    def __init__(self, env: dict[str, str] | None = None, cwd: str | None = None) -> None:
        self._env = env
        self._cwd = cwd

    def run(
        self, script: bytes, request: bytes, *, limit_s: float, max_bytes: int = PROBE_MAX_BYTES
    ) -> Reply:
        """See Link.run. The shell's whole process group is killed when the limit runs out."""
        began = clock.monotonic()
        process = subprocess.Popen(
            ["/bin/sh", "-c", command(limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(packed(script, request), timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            says = f"the answer did not end within {limit_s:g} s"
            away = Unreachable(Cause.TIMEOUT_COMMAND, says, transient=True, at=clock.now(), took_s=limit_s)
            raise LinkTimeout(away, where="this machine") from None
        took_s = clock.monotonic() - began
        return Reply(process.returncode, out[:max_bytes], err[:4096], took_s, over=len(out) > max_bytes)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
