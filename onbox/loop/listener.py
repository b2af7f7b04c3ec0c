"""The thread that reads the FIFO: it hears lines and signals, and sleeps in the kernel otherwise."""

import contextlib
import os
import select
import stat
import threading
import time
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from onbox.loop import signals
from onbox.loop.faults import Faults
from onbox.wire import folder as place

LONGEST = 4095  # a line; with its newline what a pipe takes whole
_READ = 65536
_TURN = 16 * _READ  # then the loop's state gets its turn, whoever floods us
_AFTER_FAULT_S = 0.05
_CUT_S = 2.0  # a line whose end does not come would swallow the next one

Take = Callable[[bytes, bool], bool]


class Listener:
    """The FIFO, the pipe that wakes, and the thread; it can be stopped and started again around a fork.

    `take(line, cut)` gets each line and says whether it was one of 0.1.x; `tick()` does what is due and
    says in how many seconds something will be.
    """

    def __init__(self, fifo: Optional[Path], take: Take, tick: Callable[[], float], faults: Faults) -> None:
        self.credits = signals.Credits()
        self._take, self._tick, self._faults = take, tick, faults
        self._rest, self._rest_at, self._cut = b"", 0.0, False
        self._stopping = self._closing = False
        self._pid = os.getpid()
        self._thread: Optional[threading.Thread] = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._ends: List[int] = []
        self._asked = select.poll()
        self._asked.register(self._wake_read, select.POLLIN)
        if fifo is not None:
            try:
                self._ends = list(_opened(fifo))
            except OSError as error:
                faults.note(error)
            else:
                self._asked.register(self._ends[0], select.POLLIN)

    def start(self) -> None:
        """Nothing comes back: the thread runs. Where none can be started the loop runs without steering."""
        self._stopping = False
        if self._thread is not None and self._thread.is_alive():  # it did not end in time, and now need not
            return
        self._thread = threading.Thread(target=self._run, name="onbox-listener", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # at the end of the interpreter, or at the limit of threads
            self._thread = None
            self._faults.note(error)

    def stop(self, within_s: float) -> bool:
        """Whether the thread has ended: it may be with an asker that does not read."""
        thread = self._thread
        self._stopping = True
        if thread is None or thread is threading.current_thread():  # ours: its garbage was the last loop
            return thread is None
        self.wake()
        thread.join(within_s)
        return not thread.is_alive()

    def has_fifo(self) -> bool:
        """Whether the FIFO under our name is ours."""
        return bool(self._ends)

    def wake(self) -> None:
        """Nothing comes back: the thread does a turn soon. May be called from a signal handler."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"w")

    def drain(self) -> bool:
        """Whether everything that lies in the FIFO was taken: not when it is more than a turn's worth."""
        if not self._ends:
            return True
        for _ in range(_TURN // _READ):
            try:
                content = os.read(self._ends[0], _READ)
            except BlockingIOError:
                return True
            if not content:
                return True
            self._split(content)
        return False

    def close(self) -> None:
        """Nothing comes back: the descriptors are given back, by a thread that still runs when it ends."""
        if self._thread is not None and self._thread.is_alive() and os.getpid() == self._pid:
            self._closing = True
            return
        for descriptor in (*self._ends, self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._ends = []
        self._wake_read = self._wake_write = -1

    def _run(self) -> None:
        due_s = 0.0
        while not self._stopping:
            due_s = self._guarded_turn(due_s)
        if self._closing:
            self._thread = None
            self.close()

    def _guarded_turn(self, due_s: float) -> float:
        try:
            return self._turn(due_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next question must be heard
            self._faults.note(error)
            time.sleep(_AFTER_FAULT_S)
            return 1.0

    def _turn(self, due_s: float) -> float:
        self._asked.poll(int(due_s * 1000))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, _READ)
        heard = signals.arrived()  # before the FIFO is read: the line of each is in there, or was read
        if self.drain():
            self.credits.settle(heard)
        if self._rest and time.monotonic() - self._rest_at > _CUT_S:
            self._rest, self._cut = b"", False
            self._faults.note("a command without an end")
        return self._tick()

    def _split(self, content: bytes) -> None:
        *lines, rest = content.split(b"\n")
        if self._rest and content.startswith(b"@"):  # a question is written at once, so what was there is cut
            self._rest, self._cut = b"", False
            self._faults.note("a command without an end")
        for line in lines:
            whole, cut = self._rest + line, self._cut
            self._rest, self._cut = b"", False
            self._one(whole, cut or len(whole) > LONGEST)
        self._rest += rest
        self._rest_at = time.monotonic()
        if len(self._rest) > LONGEST:
            self._rest, self._cut = self._rest[:LONGEST], True

    def _one(self, line: bytes, cut: bool) -> None:  # noqa: FBT001 - goes on as it is
        if not line.strip():
            return
        try:
            plain = self._take(line, cut)
        except Exception as error:  # noqa: BLE001 - one bad command must not cost the next
            self._faults.note(error)
        else:
            self.credits.lines(plain)


def _opened(path: Path) -> Tuple[int, int]:
    """Both ends of a new FIFO: with a writer of our own the reader never sees an end. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISFIFO(mode):
            raise place.Unsafe("%s exists but is not a FIFO" % path)
        path.unlink()
    os.mkfifo(str(path), 0o600)
    flags = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    reading = os.open(str(path), os.O_RDONLY | flags)
    try:
        about = os.fstat(reading)
        if not stat.S_ISFIFO(about.st_mode) or about.st_uid != os.geteuid():
            raise place.Unsafe("%s is not the FIFO that we made" % path)
        os.fchmod(reading, 0o600)
        return reading, os.open(str(path), os.O_WRONLY | flags)
    except OSError:
        os.close(reading)
        raise
