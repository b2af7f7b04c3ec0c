"""One loop while it runs: what it writes, what others read, and what is done between two iterations."""

import collections
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Optional

from onbox.loop import ranks
from onbox.loop.answers import REFUSED, Asker
from onbox.loop.faults import Faults
from onbox.loop.history import KEYS, Series
from onbox.loop.pace import Pace, gap
from onbox.loop.saves import Saved, snapshot, tell
from onbox.loop.stretch import Stretch
from onbox.wire.state import document, plain

NEVER = sys.maxsize
_AT_ONCE = -1
_KEYS = 1000  # in a state
CONTINUED, BROKEN, FINISHED = "continued", "broken", "finished"
_PATIENCE_S = 0.2  # of the loop itself with an asker that does not read

Save = Callable[[Dict[str, Any]], object]


class Loop:
    """What is known of one loop. `index` was finished when it last looked up; at `stop_at` something is due.

    Over a range it looks up where a stretch ends, else after each turn. `stop` is the end of its range.
    """

    __slots__ = (
        "break_code",
        "elapsed_s",
        "ended_at",
        "exception",
        "exit_code",
        "faults",
        "folder",
        "group",
        "held",
        "how",
        "index",
        "initial",
        "injected",
        "label",
        "leaver",
        "lock",
        "n",
        "paced",
        "parent",
        "parting",
        "requests",
        "sample_at",
        "save",
        "series",
        "started",
        "started_at",
        "state_every",
        "stop",
        "stop_at",
        "stopping",
        "stretch",
        "thread",
        "total",
        "tracked",
    )

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        label: str,
        total: Optional[int],
        initial: int,
        state_every: int,
        save: Optional[Save],
        break_code: int,
    ) -> None:
        self.label, self.total, self.initial = label, total, initial
        self.state_every, self.save, self.break_code = state_every, save, break_code
        self.n = 0
        self.index = initial - 1
        self.stop_at = initial
        self.stop: Optional[int] = None
        self.stretch = Stretch(initial, initial)
        self.stopping = False
        self.sample_at, self.paced = initial, Pace()
        self.tracked: Dict[str, Any] = {}
        self.series: Dict[str, Series] = {}
        self.injected: Dict[str, Any] = {}
        self.parent: Optional[Loop] = None
        self.thread = 0
        self.requests: Deque[Asker] = collections.deque()
        self.held: Optional[ranks.Held] = None
        self.leaver: Optional[Asker] = None
        self.lock = threading.Lock()
        self.folder: Optional[Path] = None
        self.faults = Faults()
        self.started_at, self.started = 0.0, 0.0
        self.group = ranks.Group(None, None, None)
        self.parting: Optional[Saved] = None
        self.how = ""
        self.exception: Optional[str] = None
        self.exit_code: Optional[int] = None
        self.ended_at: Optional[float] = None
        self.elapsed_s = 0.0

    def iteration(self) -> int:
        """How many iterations are finished, those before `initial` too."""
        stretch = self.stretch  # before the index, which is stored before a new one lies here
        return max(stretch.finished(), self.index + 1)

    def begun(self) -> None:
        """Nothing comes back: the clock runs."""
        self.thread = threading.get_ident()
        self.started_at, self.started = time.time(), time.monotonic()

    def turning(self) -> None:
        """Nothing comes back: what was needed to begin does not count as the loop's own time."""
        self.started = time.monotonic()
        self.paced.started()

    def sample(self) -> None:
        """Nothing comes back: what was tracked since the last time is in the history. For its own thread."""
        index = self.index
        self.paced.counted(index - self.initial)
        self.sample_at = index + self.paced.gap
        series = self.series
        for key, value in self.tracked.items():
            one = series.get(key)
            if one is None:
                if len(series) >= KEYS:
                    continue
                one = series[key] = Series()
            if value is not one.seen:
                one.take(index + 1, value)

    def pace(self, rate: float) -> None:
        """Nothing comes back: so many iterations a second were seen from beside."""
        before, self.paced.gap = self.paced.gap, gap(rate)
        if self.paced.gap < before:
            with self.lock:
                self.sample_at = self.iteration()
                self._look_up()

    def state(self) -> Dict[str, Any]:
        """The state as 0.1.x writes it, now. Nothing of the loop is held up by it."""
        tracked = dict(self.tracked)
        return document(
            os.getpid(),
            self.iteration(),
            self.total,
            elapsed_s=time.monotonic() - self.started if self.ended_at is None else self.elapsed_s,
            tracked={str(key): plain(tracked[key]) for key in list(tracked)[:_KEYS]},
            now=time.time(),
            initial=self.initial,
        )

    def ask(self, asker: Asker) -> None:
        """Nothing comes back: `asker` is served when the iteration ends, or told that it was not."""
        asker.patience_s = _PATIENCE_S
        with self.lock:
            self.requests.append(asker)
            self.stopping = self.stopping or asker.verb in {"continue", "break"}
            self._look_up()

    def hold(self, held: ranks.Held) -> bool:
        """Whether the loop will stand at that iteration: not when it may have passed it already."""
        with self.lock:
            self.held = held
            self._look_up()
            # Over a range it is cut by now. Else the loop stores its index, then looks at stop_at: one of
            # us sees the other.
            if self.iteration() < held.at:
                return True
            self.held = None
            self._again()
            return False

    def boundary(self) -> str:
        """`continued` or `broken` when the loop has to end here, else nothing. Called by its own thread."""
        if self.index >= self.sample_at:
            try:
                self.sample()
            except Exception as error:  # noqa: BLE001 - a key that cannot be compared, a list of keys that changed
                self.faults.note(error)
        while True:
            with self.lock:
                asker = self.requests.popleft() if self.requests else None
                held = self.held
                if asker is None and (held is None or self.iteration() < held.at):
                    self._onward()
                    return ""
            if asker is None and held is not None:
                if self._agreed(held):
                    self.stopping = True
                    return self._left(held.how, Asker())
            elif asker is not None and asker.verb == "checkpoint":
                self.tell_saved(asker)
            elif asker is not None:
                return self._left(CONTINUED if asker.verb == "continue" else BROKEN, asker)

    def forked(self) -> None:
        """Nothing comes back: in a child it goes on to its end and looks up for nobody."""
        self.lock = threading.Lock()
        self.requests.clear()
        self.held, self.stopping = None, False
        self.stop_at = self.sample_at = NEVER

    def end(self, how: str, exception: Optional[BaseException] = None) -> None:
        """Nothing comes back: from here on the loop does not change."""
        self.elapsed_s = time.monotonic() - self.started
        self.ended_at = time.time()
        self.how = how
        self.exception = None if exception is None else type(exception).__name__
        self.exit_code = self.break_code if how == BROKEN else None

    def freeze(self) -> None:
        """Nothing comes back: what was tracked is kept as plain values, so that no tensor lives on in it."""
        self.tracked = {str(key): plain(value) for key, value in list(self.tracked.items())[:_KEYS]}
        for one in self.series.values():
            one.settle()

    def farewell(self) -> None:
        """Nothing comes back: everyone who still waits for an answer has one. For when the loop has left."""
        if self.leaver is not None:
            saved = self.parting
            if saved is None:
                self.leaver.done(iteration=self.iteration())
            else:
                tell(self.leaver, saved)
        with self.lock:
            waiting, self.stop_at = list(self.requests), NEVER
            self.requests.clear()
        for asker in waiting:
            if asker.verb == "continue" and self.how in {CONTINUED, FINISHED}:
                asker.done(iteration=self.iteration())
            else:
                asker.cannot(REFUSED, "the loop has ended (%s)" % self.how, iteration=self.iteration())

    def tell_saved(self, asker: Asker) -> None:
        """Nothing comes back: a checkpoint was made, and `asker` knows what came of it."""
        tell(asker, self.saved("checkpoint"))

    def saved(self, kind: str) -> Saved:
        """What came of it: the save hook ran, and the snapshot lies in the program's folder."""
        state = self.state()
        hook, saved = None, None
        why = []
        try:
            hook = None if self.save is None else plain(self.save(state))
        except Exception as error:  # noqa: BLE001 - the program's own code, and the loop must go on
            why.append("the save hook raised %s: %s" % (type(error).__name__, error))
        try:
            saved = snapshot(kind, state)
        except (OSError, ValueError) as error:
            why.append("the snapshot cannot be written: %s" % error)
        hook = hook if hook is None or isinstance(hook, str) else str(hook)
        if why:
            self.faults.note("; ".join(why))
        return Saved(
            {"iteration": self.iteration(), "saved": saved, "hook": hook, "state": state}, "; ".join(why)
        )

    def _left(self, how: str, asker: Asker) -> str:
        self.leaver = asker
        if how == BROKEN:
            facts, why = self.saved("break")
            self.parting = Saved({**facts, "exit_code": self.break_code}, why)
        return how

    def _agreed(self, held: ranks.Held) -> bool:
        """Whether the ranks leave here; if not, the loop goes on as if nothing had been asked."""
        word = ranks.VOID
        try:
            if self.folder is not None:
                word = ranks.decided(self.folder, held.ballot)
        except OSError as error:
            self.faults.note(error)
        with self.lock:
            self.held = None
        return word == ranks.GO

    def _again(self) -> None:
        held_at = NEVER if self.held is None else self.held.at - 1
        self.stop_at = _AT_ONCE if self.requests else min(held_at, self.sample_at)

    def _look_up(self) -> None:
        self._again()
        self.stretch.cut()

    def _onward(self) -> None:
        self._again()
        if self.stop is not None:
            first = self.index + 1
            self.stretch = Stretch(first, min(max(first, self.stop_at) + 1, self.stop))
