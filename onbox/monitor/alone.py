"""A watcher that is a process of its own: its signals, and the start of the command that it is there for."""

import signal
from typing import Any, Callable, Optional, Sequence

from onbox.chain.supervise import forwarded, own_environment, signals_before
from onbox.monitor.asked import found
from onbox.monitor.launch import Launch
from onbox.monitor.waits import SignalWait, Wait
from onbox.monitor.watch import Watch


class Signals:
    """TERM, INT, HUP and the ends of children wait until they are asked for; the command never sees that."""

    def __init__(self) -> None:
        self._waited = {*forwarded(), signal.SIGCHLD}
        self._child = signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # ignored, the kernel would collect before us
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        if signal.SIGINT in self._waited:
            # Python's own listener, who hears nothing now: a run's checkpoint is asked of those who listen.
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def before(self) -> None:
        """Nothing comes back: this process, a fork of ours, has the signals that we began with."""
        signals_before(self._child, self._mask)

    def wait(self, pid: int, told: "Callable[[signal.struct_siginfo], bool]") -> Wait:
        """What waits for the end of `pid` and calls `told` with each signal that we get meanwhile."""
        return SignalWait(pid, self._waited, told)


def start(
    words: Sequence[str],
    watch: Watch,
    signals: Signals,
    told: "Callable[[signal.struct_siginfo], bool]",
    **streams: Any,
) -> Optional[OSError]:
    """None when the command runs, watched; else why it could not be executed. It inherits all that we have.

    Raises what else can fail, and nothing runs then.
    """
    environment = own_environment()
    launch = Launch(words, signals.before, env=environment, close_fds=False, **streams)
    try:
        pid = launch.arrive()
        watch.begin(pid, words, found(words[0], environment), signals.wait(pid, told))
        watch.released()
        try:
            process = launch.release()
        except OSError as error:
            return error
    except BaseException:
        launch.cancel()
        raise
    process.returncode = 0  # it is collected by the watch; Popen has no say in it
    return None
