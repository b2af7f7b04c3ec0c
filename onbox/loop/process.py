"""The loops of this process, and who asks them."""

import collections
import os
import threading
import time
from typing import Callable, Deque, Dict, List, Optional, Tuple

from onbox.loop import commands, ends, signals
from onbox.loop.answers import REFUSED, Plain, Question
from onbox.loop.faults import Faults
from onbox.loop.listener import Listener
from onbox.loop.presence import Presence
from onbox.loop.running import Loop
from onbox.wire import folder as place

_STATE_S = 0.25
_SOON_S = 0.05  # the first look at a new loop
_DOZE_S = 2.0  # between two looks at a loop that does not move
_COST = 20  # a state that takes long to write is written so much more rarely
_STOP_S = 0.3
_LEFT = 8  # loops whose end an exception may still explain


class Process:
    """The loops of one process. `begin` and `end` are called by loops, `take` and `tick` by the listener."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.faults = Faults()
        self._lock = (
            threading.RLock()
        )  # a loop may be ended by the garbage collection inside of any line here
        self._loops: Dict[int, Loop] = {}
        self._count = 0
        self._presence: Optional[Presence] = None
        self._listener: Optional[Listener] = None
        self._ended: Deque[Loop] = collections.deque(maxlen=ends.KEPT)
        self._left: Deque[Tuple[Loop, ends.Where]] = collections.deque(maxlen=_LEFT)
        self._seen: Dict[int, int] = {}
        self._seen_at = 0.0
        self._stale = False
        self._unsaid = False  # what could not be written is tried again at the next look, not at each waking
        self._due_at = 0.0
        self._pace_s = _STATE_S

    def begin(self, loop: Loop) -> None:
        """Nothing comes back: the loop can be asked, as far as this machine lets it."""
        with self._lock:
            self._count += 1
            loop.n, loop.faults = self._count, self.faults
            inside = [one for one in self._living() if one.thread == loop.thread]
            loop.parent = inside[-1] if inside else None
            self._loops[loop.n] = loop
            if len(self._loops) == 1:
                self._open(loop)
            else:
                self._changed()
            loop.folder = self._presence.folder if self._presence is not None else None

    def end(
        self, loop: Loop, how: str, exception: Optional[BaseException], where: Optional[ends.Where]
    ) -> None:
        """Nothing comes back: the loop is gone from the folder, and how it ended lies there."""
        with self._lock:
            if self._loops.pop(loop.n, None) is None:
                return
            loop.end(how, exception)
            self._ended.append(loop)
            if how == ends.LEFT and where is not None:
                self._left.append((loop, where))
            if self._loops:
                self._changed()
                cut = None
            else:
                cut = self._close()
        loop.farewell()
        if cut is not None:
            raise cut

    def take(self, line: bytes, cut: bool) -> bool:  # noqa: FBT001 - as the listener says it
        """Whether it was a line of 0.1.x. Its effect is done, or waits for the end of the iteration."""
        text = line.decode("utf-8", "replace")
        if text.startswith("@"):
            self._question(text, cut=cut)
            return False
        asker = Plain(text.strip().partition(" ")[0], self.faults)
        if cut:
            asker.cannot(REFUSED, "longer than 4095 bytes")
        else:
            commands.plain(self._outermost(), text.strip(), asker, self.pid)
        return True

    def tick(self) -> float:
        """Seconds until something is due: what lies in the folder is as the loops are."""
        now = time.monotonic()
        if now < self._due_at and not self._stale and not self._ended:
            return self._due_at - now
        self._stale = self._stale or self._unsaid
        self._pace_s = _STATE_S if self._moved(now) else min(self._pace_s * 2, _DOZE_S)
        self._due_at = now + self._pace_s
        try:
            for loop in self._living():
                for series in list(loop.series.values()):
                    series.settle()
            self._record(durably=False)
            self._describe()
            outermost = self._outermost()
            if outermost is not None and self._presence is not None:
                self._presence.write_state(outermost)
                self._leave_no_state(self._presence)
            self._due_at = max(self._due_at, now + _COST * (time.monotonic() - now))
        except Exception as error:  # noqa: BLE001 - a full disk, a folder that went away
            self.faults.note(error)
            self._due_at = now + _DOZE_S
        return max(0.0, self._due_at - time.monotonic())

    def pause(self) -> None:
        """Nothing comes back: no thread of ours runs: a fork must not copy one in the middle of something."""
        if self._listener is not None:
            self._listener.stop(_STOP_S)

    def go_on(self) -> None:
        """Nothing comes back: the thread runs again where a loop does."""
        if self._listener is not None:
            self._listener.start()

    def let_go(self) -> None:
        """Nothing comes back: in a child, nothing of its parent is touched any more."""
        self._lock = threading.RLock()
        for loop in self._loops.values():
            loop.forked()
        self._loops = {}
        self._left.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def leave(self) -> None:
        """Nothing comes back: every loop ends with the program; an exception that ended it is named."""
        for loop in self._living():
            self.end(loop, ends.LEFT, None, None)
        for loop, where in self._left:
            if ends.explained(loop, where) and self._presence is not None:
                self._presence.record(loop, durably=True)

    def _question(self, text: str, *, cut: bool) -> None:
        said = commands.QUESTION.match(text) if cut else commands.QUESTION.fullmatch(text)
        if said is None or self._presence is None:
            self.faults.note("not a question: %r" % text[:60])
            return
        question, n, verb, words = said.groups()
        loop = self._loops.get(int(n)) if n else self._outermost()
        number = int(n) if n else loop.n if loop else 0
        named = {"id": question, "verb": verb, "pid": self.pid, "n": number}
        asker = Question(self._presence.folder, self.faults, named)
        if cut:
            asker.cannot(REFUSED, "longer than 4095 bytes")
        elif loop is None:
            asker.cannot(REFUSED, "no such loop: %s" % (n or "none is running"))
        else:
            commands.answer(loop, asker, verb, words or "")

    def _open(self, loop: Loop) -> None:
        """Nothing comes back: FIFO, card and registry entry are there, or it is counted why not."""
        self._presence, fifo, why = None, None, None
        try:
            folder = place.opened()
            place.ours(folder)
        except OSError as error:
            self.faults.note(error)
            return
        place.gone(place.state(folder, self.pid))
        danger = signals.installed()
        if danger:
            why = "SIGUSR1 would end the program: " + danger
            self.faults.note(why)
        else:
            fifo = place.fifo(folder, self.pid)
        before = self.faults.count
        self._listener = Listener(fifo, self.take, self.tick, self.faults)
        if self.faults.count > before:
            why = self.faults.newest
        signals.heard_by(self._listener.wake)
        self._presence = Presence(folder, self.pid, loop, why)
        self._seen, self._seen_at = {}, time.monotonic()
        self._stale = True
        self._due_at, self._pace_s = self._seen_at + _SOON_S, _STATE_S
        self._guarded(self._describe)
        self._listener.start()

    def _close(self) -> Optional[BaseException]:
        """What interrupted it, None for nothing: all that lies in the folder is how the loops ended."""
        presence, listener, self._listener = self._presence, self._listener, None
        if presence is None or listener is None:
            self._guarded(lambda: self._record(durably=False))
            return None
        fifo = place.fifo(presence.folder, self.pid)
        last_words = (
            lambda: listener.has_fifo() and place.gone(fifo),
            lambda: listener.stop(_STOP_S) and listener.drain(),
            lambda: self._record(durably=True),
        )
        cut = self._through(*last_words)
        if cut is not None:  # a second Ctrl-C: raised when all is tidied
            self._through(*last_words)
        return (
            self._through(
                presence.unregister,
                presence.remove,
                lambda: signals.put_back(listener.credits),
                lambda: signals.heard_by(None),
                listener.close,
            )
            or cut
        )

    def _through(self, *acts: Callable[[], object]) -> Optional[BaseException]:
        """What interrupted one of them, None for nothing; each was begun."""
        return next(filter(None, [self._cut(act) for act in acts]), None)

    def _cut(self, act: Callable[[], object]) -> Optional[BaseException]:
        try:
            self._guarded(act)
        except BaseException as error:  # noqa: BLE001 - goes on, when all were begun
            return error
        return None

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - each thing is tidied on its own
            self.faults.note(error)

    def _changed(self) -> None:
        self._stale = True
        if self._listener is not None and self._pace_s > _STATE_S:
            self._listener.wake()

    def _living(self) -> List[Loop]:
        return list(self._loops.values())

    def _outermost(self) -> Optional[Loop]:
        return next(iter(self._living()), None)

    def _describe(self) -> None:
        loops = self._living()
        if self._stale and loops and self._presence is not None:
            self._stale, self._unsaid = False, True
            self._presence.describe(loops)
            self._unsaid = False

    def _leave_no_state(self, presence: Presence) -> None:
        """Nothing comes back: a state that was written beside the end of the last loop is gone."""
        # Whoever holds the lock is ending it now, waits for this thread, and takes the state away then.
        if not self._loops and self._lock.acquire(blocking=False):
            try:
                if not self._loops:
                    place.gone(place.state(presence.folder, self.pid))
            finally:
                self._lock.release()

    def _moved(self, now: float) -> bool:
        """Whether any loop came further since the last look; a main thread that did has heard its signals."""
        before, since = self._seen, max(1e-3, now - self._seen_at)
        moved, main = False, threading.main_thread().ident
        for loop in self._living():
            turns = loop.iteration() - before.get(loop.n, loop.initial)
            loop.pace(turns / since)
            moved = moved or turns > 0
            if turns and loop.thread == main and self._listener is not None:
                self._listener.credits.moved()
        self._seen, self._seen_at = {loop.n: loop.iteration() for loop in self._living()}, now
        return moved

    def _record(self, *, durably: bool) -> None:
        """Nothing comes back: the ends that nobody wrote yet are written, the newest durably if wanted."""
        while self._ended:
            loop = self._ended.popleft()
            try:
                loop.freeze()
                if self._presence is not None:
                    self._presence.record(loop, durably=durably and not self._ended)
            except KeyboardInterrupt:
                self._ended.appendleft(loop)
                raise
