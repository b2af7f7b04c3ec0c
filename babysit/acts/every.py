"""Patrol from a terminal, again and again: apscheduler adds the time, each firing is a child of its own.

All that makes a tick right (lock, commit, outbox) is in the child, `patrol --once`, as with cron.
"""

import contextlib
import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from babysit.acts import tick_child
from babysit.acts.here import Here
from fleet import clock
from fleet.errors import TICK_PRECEDENCE, BabysitError, Busy, UsageError
from fleet.ledger.lock import kernel_lock
from fleet.model.spec import DEFAULT_TICK_LIMIT_S
from fleet.text.say import duration, plural
from sentinels import lease
from sentinels.pulse import Beat, Gap, gap, too_late

LEAST_S = 60.0
_MOST_S = 7 * 86400.0
_LEAST = "BABYSIT_LEAST_EVERY_S"  # for the tests of this file, which cannot wait for minutes
_CHILD_LIMIT_S = DEFAULT_TICK_LIMIT_S + 15.0  # a tick ends itself at its limit; this is for one that hangs
_BEAT_S, _JITTER_S = 60.0, 30.0
_LOOK_AGAIN_S = 0.05
_READER_GONE = 141
_JOB = "patrol"
_EXAMPLE = "babysit patrol --every 30m"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def seconds_of(text: str, environment: Mapping[str, str] = os.environ) -> float:
    """`30m`, `90s`, `2h` in seconds. Raises UsageError for anything else, and for less than a minute."""
    found = re.fullmatch(r"(\d{1,7}) ?(s|m|min|h)", text.strip())
    if found is None:
        raise UsageError(f"--every {text!r} is no interval: write 90s, 30m or 2h", next=(_EXAMPLE,))
    seconds = float(found[1]) * _UNITS[found[2]]
    least_s = float(environment.get(_LEAST, LEAST_S))
    if not least_s <= seconds <= _MOST_S:
        says = f"--every {text}: between {duration(least_s)} and {duration(_MOST_S)}"
        hint = "each tick opens a connection to every box; `babysit watch` tells of one run's end at once"
        raise UsageError(says, hint=hint, next=(_EXAMPLE,))
    return seconds


def every(
    place: Here,
    every_s: float,
    *,
    options: tuple[str, ...] = (),
    tell: Callable[[str], None],
    limit_s: float = _CHILD_LIMIT_S,
) -> int:
    """Fire now and every `every_s` seconds until a signal ends us; 141 when nobody reads us any more.

    `options` go to each `patrol --once`, `tell` gets what is said beside its output. Raises Busy when
    another one patrols here, LedgerError, and what the signals raise: KeyboardInterrupt, SystemExit.
    """
    # Two on one ledger would only skip each other's firings: the second leaves. The lock dies with us.
    alone = kernel_lock(place.folder / "every.lock", what="another patrol --every", at=clock.now())
    with alone, _registered(place, every_s) as mine:
        return _Patrolling(
            place, mine, every_s, options=options, tell=tell, limit_s=limit_s
        ).until_signalled()


@contextmanager
def _registered(place: Here, every_s: float) -> Iterator[int]:
    """Our row in the ledger, from which `status` knows of us; rows whose process is gone are dropped."""
    now = clock.now()
    with place.ledger() as ledger:
        for known in ledger.patrollers.all():
            if not lease.alive(known.identity):
                ledger.patrollers.drop(known.id)
        mine = ledger.patrollers.register(lease.identity(), every_s=every_s, at=now, next_at=now + every_s)
    try:
        yield mine
    finally:
        # A row that stays for want of disk claims nothing: its process is gone.
        with contextlib.suppress(BabysitError), place.ledger() as ledger:
            ledger.patrollers.drop(mine)


class _Patrolling:
    """One scheduler with one job, its child, and a pulse that sets it right after sleep and clock jumps."""

    def __init__(
        self,
        place: Here,
        mine: int,
        every_s: float,
        *,
        options: tuple[str, ...],
        tell: Callable[[str], None],
        limit_s: float,
    ) -> None:
        self._place, self._mine, self._every_s = place, mine, every_s
        self._options, self._say, self._limit_s = options, tell, limit_s
        self._beat_s, self._jitter_s = min(_BEAT_S, every_s / 2), min(_JITTER_S, every_s / 20)
        self._lock = threading.Lock()  # around what the three threads share: the next four lines
        self._last = self._slot = _beat()
        self._gaps: tuple[Gap, ...] = ()
        self._running = self._owed = False  # owed: a gap was noticed, and no firing has begun since
        self._ticks = self._skips = self._code = 0
        self._booked = 0.0
        self._ending = threading.Event()
        self._wake_pulse, self._end_pulse = os.pipe()
        self._scheduler = self._scheduled()

    def _scheduled(self) -> Any:
        import logging  # noqa: PLC0415 - as apscheduler

        # No stubs on the index; imported here because only this act needs it.
        from apscheduler import events  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
        from apscheduler.executors.pool import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            ThreadPoolExecutor,
        )
        from apscheduler.schedulers.blocking import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            BlockingScheduler,
        )
        from apscheduler.triggers.interval import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            IntervalTrigger,
        )

        quiet = logging.getLogger("apscheduler")  # what it would log is counted, and said by the listeners
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        scheduler = BlockingScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        scheduler.add_job(
            self._fire,
            IntervalTrigger(seconds=self._every_s, timezone=UTC, jitter=self._jitter_s),
            id=_JOB,
            next_run_time=_at(clock.now()),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        scheduler.add_listener(self._former_runs, events.EVENT_JOB_MAX_INSTANCES)
        scheduler.add_listener(self._ended, events.EVENT_JOB_EXECUTED)
        scheduler.add_listener(
            lambda event: self._tell(f"babysit: {event.exception!r}"), events.EVENT_JOB_ERROR
        )
        return scheduler

    def until_signalled(self) -> int:
        """Run until a signal or a lost reader; whatever ends us, our child ends first."""
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: who wants us to stay says so
            signal.signal(signal.SIGHUP, _hung_up)
        pulse = threading.Thread(target=self._pulse, name="pulse", daemon=True)
        try:
            pulse.start()
            self._scheduler.start()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # what is left takes seconds, and must not be cut
            self._ending.set()
            os.close(self._end_pulse)
            if self._scheduler.running:
                self._scheduler.shutdown(wait=False)
            while self._running:
                time.sleep(_LOOK_AGAIN_S)
            pulse.join(_BEAT_S)
            done = f"{plural(self._ticks, 'tick')}, {plural(self._skips, 'firing')} skipped"
            self._tell(f"patrol --every is over: {done}. The runs go on, unwatched from here.")
        return self._code

    # The worker's thread

    def _fire(self) -> None:
        with self._lock:
            if self._ending.is_set():
                return
            self._running = True
            self._notice()
            self._owed = False
            gaps, self._gaps = self._gaps, ()
            self._slot = self._last
        try:
            if gaps:
                # The catch-up is a firing like any other: the next one comes an interval after it.
                self._move(clock.now() + self._every_s)
            self._book(clock.now() + self._every_s)
            code = self._tick(gaps)
            if code in TICK_PRECEDENCE:
                self._ticks += 1
            elif code == _READER_GONE:
                self._code = code
                self._scheduler.shutdown(wait=False)
            elif not self._ending.is_set():
                with self._lock:
                    self._gaps = (*gaps, *self._gaps)  # nobody has been told yet
                self._skip()
        finally:
            self._running = False

    def _tick(self, gaps: tuple[Gap, ...]) -> int:
        """The exit code of one tick; 75 when there was none, as when another was at it."""
        try:
            code = tick_child.tick(self._options, gaps, limit_s=self._limit_s, leave=self._ending.is_set)
        except OSError as error:
            self._tell(f"babysit: no tick could be started: {error.strerror}; the next firing tries again")
            return Busy.exit_code
        if code is None and not self._ending.is_set():
            self._tell(f"babysit: the tick was ended: it hung for {duration(self._limit_s)}")
        return Busy.exit_code if code is None else code

    # The scheduler's listeners

    def _former_runs(self, _event: object) -> None:
        with self._lock:
            self._notice()  # asleep in the middle of a tick: this firing is the first to know
            self._slot = self._last
        self._skip()

    def _ended(self, _event: object) -> None:
        with self._lock:
            owed, self._owed = self._owed, False
        if owed:
            self._move(clock.now())

    # The pulse's thread

    def _pulse(self) -> None:
        # select: a wait that no setting of the clock makes longer, which not every build's locks promise.
        while not select.select([self._wake_pulse], [], [], self._beat_s)[0]:
            with self._lock:
                owed = self._owed  # for a beat or more: what a wake-up should have brought did not come
                self._notice()
                now, slot, running = self._last, self._slot, self._running
            job = self._scheduler.get_job(_JOB)
            if job is None or self._ending.is_set():
                continue
            next_at = job.next_run_time.timestamp()
            right_at = too_late(next_at, now, slot, wait_s=self._every_s + self._jitter_s)
            right_at = now.wall if owed and next_at > now.wall else right_at
            if right_at is not None and not running:
                self._move(right_at)
                next_at = right_at
            self._scheduler.wakeup()  # after a sleep it would wait for what was left of its wait
            if not running:
                self._book(next_at)

    # Shared

    def _notice(self) -> None:
        """Compare this moment with the last beat; the lock is held."""
        now = _beat()
        found = gap(self._last, now, self._slot, every_s=self._every_s, beat_s=self._beat_s)
        if found is not None:
            self._gaps = (*self._gaps, found)
            self._owed = self._owed or found.missed > 0
        self._last = now

    def _move(self, at: float) -> None:
        with contextlib.suppress(LookupError):  # the job is gone: it is all over
            self._scheduler.modify_job(_JOB, next_run_time=_at(at))

    def _book(self, next_at: float) -> None:
        if abs(next_at - self._booked) > 1.0:
            self._keep(lambda patrollers: patrollers.fires_next(self._mine, next_at))
            self._booked = next_at

    def _skip(self) -> None:
        self._skips += 1
        self._keep(lambda patrollers: patrollers.skipped(self._mine))

    def _keep(self, change: Callable[[Any], None]) -> None:
        """A full disk ends no patrol: the next tick may find room."""
        try:
            with self._place.ledger() as ledger:
                change(ledger.patrollers)
        except BabysitError as error:
            self._tell(f"babysit: {error.what}")

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone, which is no reason to end badly
            self._say(text)


def _beat() -> Beat:
    return Beat(clock.now(), clock.since_boot())


def _at(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)


def _hung_up(_number: int, _frame: object) -> None:
    raise SystemExit(143)  # as SIGTERM: the terminal is gone
