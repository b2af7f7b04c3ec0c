"""How a command ended, as the kernel tells it to its parent: an exit status and a signal are never mixed up.

The command keeps everything it would have without us: process group, session, descriptors, environment and
signal dispositions. Whoever kills us loses the knowledge, never the command.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, NoReturn, Sequence, Set, Tuple

from onbox.fs import check_plain, sync_folder, write_durably

NOT_FOUND = 127  # as every shell says it
CANNOT_START = 125  # as env(1), timeout(1) and nohup(1) say that they themselves failed
SIGNAL_BASE = 128
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SET_BY_PYTHON = ("SIGPIPE", "SIGXFZ", "SIGXFSZ")  # ignored by every Python; a command must not inherit that


def supervise(result: Path, command: Sequence[str]) -> int:
    """The exit status to end with: the command's own, or 128 and its signal's number.

    The file at `result` then holds `kind=exit|signal`, `value=N`, `core=0|1`. 125 and no such
    file: the command could not be started. TERM, INT and HUP go on to the command,
    where we were not started to ignore them.
    """
    try:
        begin_result(result)
    except OSError as error:
        return cannot("use %s" % result, error)
    waited = {*forwarded(), signal.SIGCHLD}
    child_before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the kernel would reap before us
    mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        return cannot("fork", error)
    if pid == 0:
        _become(command, writing, child_before, mask_before)
    os.close(writing)
    said = _read_all(reading)
    if said:
        os.waitpid(pid, 0)
        return not_started(result, command[0], int(said))
    kind, value, core = _wait(pid, waited)
    write_result(result, kind, value, core)
    return value if kind == "exit" else SIGNAL_BASE + value


def begin_result(result: Path) -> None:
    """Nothing comes back: no older result lies there. Raises OSError where a new one could not be written."""
    check_plain(result)
    sync_folder(result.parent)  # a folder that is not there must be known before the command runs
    result.unlink(missing_ok=True)  # an older result must never be taken for this one


def _become(command: Sequence[str], writing: int, child: Any, mask: Iterable[int]) -> NoReturn:
    """Never comes back: this process is the command, or it says why not and ends."""
    try:
        signals_before(child, mask)
        os.execvpe(command[0], list(command), own_environment())  # noqa: S606 - a word list
    except OSError as error:
        os.write(writing, b"%d" % (error.errno or errno.EIO))
    except ValueError:
        os.write(writing, b"%d" % errno.EINVAL)
    finally:
        os._exit(CANNOT_START)


def signals_before(child: Any, mask: Iterable[int]) -> None:
    """Nothing comes back: what a command inherits of signals is as we found it; `child` is SIGCHLD's."""
    signal.signal(signal.SIGCHLD, child)
    for name in _SET_BY_PYTHON:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    for number in forwarded():
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def forwarded() -> Set[int]:
    """Those that go on to a command; what we were started to ignore (nohup, a shell's `&`) stays ignored."""
    return {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}


def own_environment() -> Dict[bytes, bytes]:
    """The environment we were started with; a Python in the C locale puts LC_CTYPE into its own."""
    environment = dict(os.environb)
    stored = Path("/proc/self/environ").read_bytes().split(b"\0")
    if not any(entry.startswith(b"LC_CTYPE=") for entry in stored):
        environment.pop(b"LC_CTYPE", None)
    return environment


def _wait(pid: int, waited: Iterable[int]) -> Tuple[str, int, int]:
    """How `pid` ended: kind, value, core. What we are told meanwhile is told to it."""
    while True:
        seen = signal.sigwaitinfo(waited)
        if seen.si_signo != signal.SIGCHLD:
            # What the kernel sends for a terminal reaches the command by itself: it is in the same group.
            if seen.si_code <= 0:
                tell(pid, seen.si_signo)
            continue
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        if ended is None:
            continue
        if ended.si_code == os.CLD_EXITED:
            return "exit", ended.si_status, 0
        return "signal", ended.si_status, int(ended.si_code == os.CLD_DUMPED)


def tell(pid: int, number: int) -> None:
    """Nothing comes back: the command got the signal, or a line says why not: it may be another user now."""
    try:
        os.kill(pid, number)
    except OSError as error:
        cannot("send %s to the command" % signal.Signals(number).name, error)


def not_started(result: Path, name: str, number: int) -> int:
    """The exit status for a command that could not be executed for that reason; written for 127."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        print("babysit: command not found: %s" % name, file=sys.stderr)
        write_result(result, "exit", NOT_FOUND, 0)
        return NOT_FOUND
    return cannot("run %s" % name, OSError(number, os.strerror(number)))


def write_result(path: Path, kind: str, value: int, core: int) -> None:
    """Nothing comes back: a result that cannot be written is said; the exit status tells the most."""
    try:
        write_durably(path, b"kind=%s\nvalue=%d\ncore=%d\n" % (kind.encode(), value, core))
    except OSError as error:
        cannot("write %s" % path, error)


def cannot(act: str, error: OSError) -> int:
    """The exit status of our own failures, and a line that says what failed."""
    print("babysit: cannot %s: %s" % (act, error.strerror or error), file=sys.stderr)
    return CANNOT_START


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()
