"""A command that stands at a gate: forked, identified, watched, and not yet executed.

`subprocess.Popen` forks it in a thread of its own, since Popen comes back only after the exec; the function
that Popen runs between fork and exec says `ready` on one pipe and waits on another.
"""

import fcntl
import os
import select
import subprocess
import threading
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

AT_THE_GATE = 125  # how a child ends that nobody let through
_GO = b"+"
_NEVER_CAME = b"-"  # in place of a pid: Popen was done, and no child had come to the gate
_LOOK_MS = 100  # how long a child may stand there before it looks whether its parent lives


class Launch:
    """One command that `arrive` brings to its gate; what Popen takes, it takes.

    `then` is run in the child between the gate and the exec. Whatever is raised meanwhile, `cancel` gives
    back all that was taken. The thread lives until `over`: a command with a PR_SET_PDEATHSIG is killed when
    the thread that forked it ends, not when the process does.
    """

    def __init__(
        self,
        words: Union[str, Sequence[Any]],
        then: Optional[Callable[[], None]] = None,
        **keywords: Any,
    ) -> None:
        self._words, self._then, self._keywords = words, then, keywords
        self._process: Optional[subprocess.Popen[Any]] = None
        self._error: Optional[BaseException] = None
        self._forked, self._over = threading.Event(), threading.Event()
        self._ready = self._says = self._waits = self._gate = -1
        self._begun = threading.Lock()  # taken once: by the thread that forks, or by who gave up before
        self._parent = os.getpid()
        self.pid = 0
        self._opened = False

    def arrive(self) -> int:
        """The pid of the child that stands at the gate.

        Raises what Popen raises when none came there (a fork that failed, a bad keyword), OSError and
        RuntimeError where there is no descriptor, or no thread, to be had.
        """
        self._ready, self._says = _pipe()
        self._waits, self._gate = _pipe()
        threading.Thread(target=self._fork, name="onbox-launch", daemon=True).start()
        said = os.read(self._ready, 32)
        if not said.startswith(_NEVER_CAME):
            self.pid = int(said.split(b"\n")[0])
            return self.pid
        self._forked.wait()
        raise self._error or RuntimeError("the command ended before it came to its gate")

    def release(self) -> "subprocess.Popen[Any]":
        """The process, executed by now. Raises what Popen raises: FileNotFoundError, PermissionError."""
        if not self._opened:
            self._opened = True  # before it is: whoever is interrupted in between takes it for running
            os.write(self._gate, _GO)
        self._forked.wait()
        self._shut()
        if self._error is not None:
            self.over()
            raise self._error
        if self._process is None:
            raise RuntimeError("no process and no error came from Popen")
        return self._process

    def running(self) -> "Optional[subprocess.Popen[Any]]":
        """The process, if it was let through and could be executed."""
        if not self._opened:
            return None
        self._forked.wait()
        self._shut()
        return self._process

    def cancel(self) -> None:
        """Nothing comes back, and nothing of the command runs: its child has ended and was collected."""
        if self._begun.acquire(blocking=False):  # no thread came; one that still does forks nothing
            self._shut()
            self._says, self._waits = _shut(self._says, self._waits)
            self._forked.set()
            return
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
        self._forked.wait()
        self._shut()
        self.over()
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()  # it may have been let through when we were interrupted
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait()

    def over(self) -> None:
        """Nothing comes back: the thread that forked may end."""
        self._over.set()

    def _fork(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        words, keywords = self._words, self._keywords
        try:
            self._process = subprocess.Popen(words, preexec_fn=self._hold, **keywords)  # noqa: PLW1509 - 0014
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            os.write(self._says, _NEVER_CAME)  # its reader stays open until `forked` is set
            os.close(self._says)
            os.close(self._waits)
            self._forked.set()
        self._over.wait()

    def _hold(self) -> None:
        """In the child: comes back when it is let through; given up, or without a parent, it ends."""
        os.close(self._gate)  # or this end would keep the gate from ending with our parent
        os.write(self._says, b"%d\n" % os.getpid())
        door = select.poll()
        door.register(self._waits, select.POLLIN)
        while not door.poll(_LOOK_MS):
            if os.getppid() != self._parent:  # its end of the pipe may live on in some other child of it
                os._exit(AT_THE_GATE)
        if os.read(self._waits, 1) != _GO:
            os._exit(AT_THE_GATE)
        if self._then is not None:
            self._then()

    def _shut(self) -> None:
        self._ready, self._gate = _shut(self._ready, self._gate)


def _shut(*ends: int) -> List[int]:
    """Numbers of no file, one for each of `ends`, which are closed."""
    for end in ends:
        if end >= 0:
            os.close(end)
    return [-1] * len(ends)


def _pipe() -> Tuple[int, int]:
    """Both ends of a pipe, above the standard streams, where Popen puts the command's own first."""
    low = os.pipe()
    high: List[int] = []
    try:
        high += [fcntl.fcntl(low[0], fcntl.F_DUPFD_CLOEXEC, 3)]
        high += [fcntl.fcntl(low[1], fcntl.F_DUPFD_CLOEXEC, 3)]
    except OSError:
        _shut(*high)
        raise
    finally:
        _shut(*low)
    return high[0], high[1]
