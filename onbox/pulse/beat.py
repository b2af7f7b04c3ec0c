"""The heartbeat: one thread of a process that says, while a loop or a `with` runs, that the process lives.

It says how far the loops are and since when, so that a hang under a living heartbeat looks like one.
"""

import atexit
import contextlib
import os
import threading
import time
from types import TracebackType
from typing import Callable, Dict, List, Optional, Protocol, Tuple, Type

from onbox.loop import console
from onbox.loop.faults import Faults
from onbox.pulse import words
from onbox.pulse.words import Place

EVERY_S = 30.0
_LEAST_S = 0.01
_STEP_S, _STEPS = 0.05, 20  # how long we wait for a line on its way out
_SHOWN = 3  # counters in a line, the innermost
_FREELY = 100  # lines of a process's loops, before a quick one speaks only once a second


class Counter(Protocol):
    """Something that moves. `moved_at` is in seconds of time.monotonic(), `thread` who moves it."""

    moved_at: float
    thread: int
    quiet: bool

    def place(self) -> Place:
        """How far it is."""

    def track(self, values: Dict[str, object]) -> None:
        """Nothing comes back: the newest of each."""


class Beat:
    """The counters of one process, oldest first, and the thread that speaks of them."""

    def __init__(self, *, quiet: bool = False) -> None:
        # A loop may be ended by the garbage collection inside of any line here: the lock lets its owner in.
        self.lock = threading.Condition(threading.RLock())
        self.faults = Faults()
        self.counters: List[Counter] = []
        self.reported: Optional[Tuple[Place, float]] = (
            None  # what moves where no loop of ours does, and when it did
        )
        self.quiet = quiet
        self.freely = _FREELY  # how many lines may still follow the one before them at once
        self._every: Dict[int, float] = {}
        self._thread: Optional[threading.Thread] = None
        self._said_at = 0.0
        self._over = False

    def begin(self, user: object, every_s: Optional[float]) -> None:
        """Nothing comes back: it beats every `every_s` until `user` ends. None or nonsense: it does not."""
        pause = pause_s(every_s)
        if pause is None or self.quiet:
            return
        with self.lock:
            self._every[id(user)] = pause
            if self._thread is None and not self._over:
                self._said_at = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="onbox-heartbeat", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # at the limit of threads, or at the end of the interpreter
                    self._thread = None
                    self.faults.note(error)
            self.lock.notify_all()

    def end(self, user: object) -> None:
        """Nothing comes back: no beat for `user` any more; behind the last user the thread has ended."""
        with self.lock:
            self._every.pop(id(user), None)
            thread = None if self._every else self._thread
            self.lock.notify_all()
        _joined(thread)

    def stop(self) -> None:
        """Nothing comes back: at the end of the interpreter no thread may be writing."""
        self._over = True
        if _patient(lambda step_s: self.lock.acquire(timeout=step_s)):
            thread = self._thread
            self.lock.notify_all()
            self.lock.release()
            _joined(thread)

    def running(self) -> Optional[Counter]:
        """The innermost counter of this thread, else of any."""
        mine = threading.get_ident()
        counters = list(self.counters)
        return next(
            (one for one in reversed(counters) if one.thread == mine), counters[-1] if counters else None
        )

    def _run(self) -> None:
        with self.lock:
            while self._every and not self._over:
                left_s = self._said_at + min(self._every.values()) - time.monotonic()
                if left_s > 0:
                    self.lock.wait(left_s)
                    continue
                try:
                    console.say(self._line(), self.faults)
                except Exception as error:  # noqa: BLE001 - the next one may be better
                    self.faults.note(error)
                # Behind the line: where output is slower than the beat, others still get the lock in between.
                self._said_at = time.monotonic()
            self._thread = None

    def _line(self) -> str:
        counters = [one for one in self.counters if not one.quiet][-_SHOWN:]
        moved = [(one.place(), one.moved_at) for one in counters]
        if not moved and self.reported is not None:
            moved = [self.reported]
        age_s = time.monotonic() - max(at for _, at in moved) if moved else None
        return words.beat_line(time.strftime("%H:%M:%S"), [place for place, _ in moved], age_s)


class heartbeat:  # noqa: N801 - reads as a word in a with statement
    """It beats from the beginning of the `with` to its end, also between two loops."""

    def __init__(self, every_s: Optional[float] = EVERY_S) -> None:
        self._every_s = every_s

    def __enter__(self) -> None:
        here().begin(self, self._every_s if speaks() else None)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        here().end(self)


def here() -> Beat:
    """The one of this process."""
    return _here


def speaks(rank: Optional[object] = None) -> bool:
    """Whether this process prints: of ranks the first does. `rank` None: what the launcher put into RANK."""
    said = str(os.environ.get("RANK", "") if rank is None else rank).strip()
    return not said.isdigit() or int(said) == 0


def pause_s(every_s: Optional[float]) -> Optional[float]:
    """How long between two lines, at least 10 ms; None where `every_s` is no length of time."""
    try:
        said = float(every_s or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(said, _LEAST_S), threading.TIMEOUT_MAX) if said > 0 else None


def _joined(thread: Optional[threading.Thread]) -> None:
    # The thread itself may collect a loop that nobody holds any more.
    if thread is not None and thread is not threading.current_thread():
        _patient(lambda step_s: _ended(thread, step_s))


def _ended(thread: threading.Thread, within_s: float) -> bool:
    thread.join(within_s)
    return not thread.is_alive()


def _patient(waited: Callable[[float], bool]) -> bool:
    """Whether it came true in time. In steps: a process that was stopped meanwhile has not waited so long."""
    return any(waited(_STEP_S) for _ in range(_STEPS))


def _before_fork() -> None:
    _patient(lambda step_s: _here.lock.acquire(timeout=step_s))


def _in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # not ours: it did not come in time
        _here.lock.release()


def _in_child() -> None:
    """A worker of a loop that runs in its parent has nothing to say: the parent says it."""
    global _here  # noqa: PLW0603 - a process has one
    parent = _here
    parent.lock = threading.Condition(threading.RLock())  # whoever held it is not here
    for counter in parent.counters:
        counter.quiet = True
    _here = Beat(quiet=parent.quiet or bool(parent.counters))


def _at_exit() -> None:
    _here.stop()


_here = Beat()
os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_at_exit)
