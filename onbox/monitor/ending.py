"""Ends a whole tree: asked by TERM, given time, then killed, until a fresh look shows nothing."""

import signal
import time

from onbox.monitor.watch import Watch, send

KILL_S = 5.0  # how long killing goes on: who survives it is in the hands of the kernel
_KILLS = 20  # rounds of it, whatever the time is: we may have stood still ourselves
_LOOK_S, _LONGEST_LOOK_S = 0.01, 0.1


def end_tree(watch: Watch, grace_s: float, *, ask: bool = True) -> bool:
    """Whether something had to be killed. Samples go on meanwhile; a second interrupt cuts the grace short.

    Only who lives now is asked: what a process starts to end itself well is no target. `ask=False`: it was
    asked already.
    """
    try:
        if ask:
            asked = [pid for pid, _ in watch.sampler.living(fresh=True)]
            send(asked, signal.SIGTERM)
            send(asked, signal.SIGCONT)  # who is stopped would never hear it
        if _gone(watch, time.monotonic() + grace_s):
            return False
    except KeyboardInterrupt:
        pass  # whoever says it twice means now
    limit, rounds = time.monotonic() + KILL_S, 0
    while (rounds < _KILLS or time.monotonic() < limit) and _kill(watch):
        rounds += 1
    return True


def _kill(watch: Watch) -> bool:
    """Whether something was left to be killed."""
    try:
        alive = [pid for pid, _ in watch.sampler.living(fresh=True)]
        send(alive, signal.SIGKILL)
        if alive:
            watch.wait.pause(_LOOK_S)
            watch.glean()
        return bool(alive)
    except KeyboardInterrupt:
        return True  # the third one; there is nothing faster


def _gone(watch: Watch, limit: float) -> bool:
    """Whether nothing of the tree lives any more, asked until `limit`."""
    pause = _LOOK_S
    while time.monotonic() < limit:
        if not watch.wait.ended():
            watch.turn(limit)
            continue
        watch.glean()
        watch.look_if_due()
        if not watch.sampler.living(fresh=True):
            return True
        watch.wait.pause(min(pause, limit - time.monotonic()))
        pause = min(_LONGEST_LOOK_S, pause * 1.5)
    return False
