"""One tick as a child process: bounded, in a process group of its own, told what it has to report."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import msgspec

from fleet import clock
from sentinels.pulse import Gap

_GAPS = "BABYSIT_GAPS"  # what the next report has to say, from the parent to the child
_GRACE_S = 3.0
_LOOK_AGAIN_S = 0.05


def gaps_told(environment: Mapping[str, str] = os.environ) -> tuple[Gap, ...]:
    """The gaps that this tick is to report; empty where nobody told any."""
    try:
        return msgspec.json.decode(environment.get(_GAPS, "[]"), type=tuple[Gap, ...])
    except msgspec.MsgspecError:
        return ()


def tick(
    options: tuple[str, ...], gaps: tuple[Gap, ...], *, limit_s: float, leave: Callable[[], bool]
) -> int | None:
    """The exit code of one `patrol --once`; None when it was ended, at its limit or because of `leave`.

    Its output is ours. It gets TERM, a grace, then KILL, and so does all of its group. Raises OSError when it
    cannot be started.
    """
    words = [sys.executable, "-I", "-m", "babysit.entry", "patrol", "--once", *options]
    environment = {**os.environ, "BABYSIT_ORIGIN": "every", _GAPS: msgspec.json.encode(gaps).decode()}
    child = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    if _over_within(child, limit_s, leave):
        return child.wait()
    os.killpg(child.pid, signal.SIGTERM)
    _over_within(child, _GRACE_S, lambda: False)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return None


def _over_within(child: subprocess.Popen[bytes], limit_s: float, leave: Callable[[], bool]) -> bool:
    """Whether the child has ended in time. It is not reaped yet, so that its number is still its own."""
    deadline = clock.monotonic() + limit_s
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if leave() or clock.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
