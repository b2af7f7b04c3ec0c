"""Children of a check: what cron would start, and programs that may hang. Each is ended with its group."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

CRON_PATH = "/usr/bin:/bin"  # Source: crontab(5), what cron sets by itself


class Ended(Struct, frozen=True):
    """How a child ended. `status` None: it had to be ended when its time was over."""

    status: int | None
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """Its last words: the last line that is not empty, of stderr or else of stdout."""
        words = (self.err.strip() or self.out.strip()).decode("utf-8", "replace").splitlines()
        return words[-1] if words else "it said nothing"


def run(
    words: Sequence[str | Path], *, limit_s: float, env: Mapping[str, str] | None = None, given: bytes = b""
) -> Ended:
    """`words` as a child without a terminal, from the root folder, within `limit_s`. Raises OSError."""
    child = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = child.communicate(given, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return Ended(None, b"", b"")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    return Ended(child.returncode, out, err)


def cron_environment() -> dict[str, str]:
    """What cron gives a job: no PATH of yours, no agent, no terminal, no language."""
    return {"PATH": CRON_PATH, "HOME": str(Path.home()), "SHELL": "/bin/sh", "LANG": "C"}
