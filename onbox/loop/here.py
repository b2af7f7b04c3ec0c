"""The one Process of this process, across forks and up to the end of the interpreter."""

import atexit
import os
import threading
from typing import Optional

from onbox.loop import signals
from onbox.loop.process import Process


def here() -> Process:
    """This process; in a forked child one that knows of no loop."""
    global _here  # noqa: PLW0603 - a process has one
    if _here is None:
        with _making:
            _here = _here or Process()
    return _here


def _before_fork() -> None:
    if _here is not None:
        _here.pause()


def _in_parent() -> None:
    if _here is not None:
        _here.go_on()


def _in_child() -> None:
    global _here, _making  # noqa: PLW0603 - as above
    _making = threading.Lock()
    parent, _here = _here, None
    signals.forked()
    if parent is not None:
        parent.let_go()


def _at_exit() -> None:
    if _here is not None:
        try:
            _here.leave()
            signals.at_exit()
        except Exception as error:  # noqa: BLE001 - the program's exit status is its own
            _here.faults.note(error)


_here: Optional[Process] = None
_making = threading.Lock()
os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_at_exit)
