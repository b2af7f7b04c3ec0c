"""Scenarios of the outbox: the tick that has news, and the courier that takes it to a real receiver.

Each point begins with the same ledger, copied: so each has the same event id, and a path of its own at the receiver.
"""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

import strace
from laptop import Job, Laptop
from ledger_samples import a_tick, an_event
from receiver import Hit, Receiver
from sweep import COUNTED, Counts, Point
from waiting import wait_until
from worlds import STRACED_S, World, ledger_is_whole, ledger_rows, nothing_left, said_in_words

from fleet import clock
from fleet.ledger.ledger import Ledger
from fleet.model.spec import TargetSpec

SPEC = '[notify.phone]\nurl = "env:PHONE_URL"\n'
TICK = ("patrol", "--once", "--json")
LIMIT_S = 30
PATIENT = "?cto=60&rto=60"  # a receiver that stands still for a moment has taken the notice all the same


def rows(state: Path) -> list[tuple[str, str]]:
    """Every row of the outbox: event id and state."""
    return ledger_rows(state, "SELECT event_id, state FROM outbox ORDER BY event_id")


def half_an_hour_later(state: Path) -> None:
    """Back-off and lease are over, as they are for the next tick but one."""
    with closing(sqlite3.connect(state / "ledger.db", timeout=60)) as ledger, ledger:
        ledger.execute("UPDATE outbox SET due_at = 0, leased_until = 0 WHERE state = 'due'")


def hits_of(hook: Receiver, path: str) -> list[str]:
    """The event ids that came whole to a point's own path, in order; a request cut in its middle tells nobody."""
    return [hit.json["event"] for hit in list(hook.hits) if hit.path == path and _whole(hit)]


def _whole(hit: Hit) -> bool:
    return len(hit.body) == int(hit.headers["Content-Length"])


class Telling(World):
    """`babysit patrol --once` that sees a failed run for the first time."""

    def __init__(self, box, folder: Path, hook: Receiver, *program) -> None:
        super().__init__(box, folder, *program)
        self.hook = hook
        self._before = folder / "before"
        with self.laptop() as (laptop, number):
            laptop.spec(SPEC)
            job = Job(box, f"told{number}", f"told{number}")
            armed = laptop.run("arm", "gpu1", job.run, "--", job.waiting("exit 3"))
            assert armed.returncode == 0, armed.said
            job.up()
            job.release()
            job.ended()
            shutil.copytree(laptop.state, self._before)

    @contextmanager
    def _news(self):
        with self.laptop() as (laptop, number):
            shutil.copytree(self._before, laptop.state)
            laptop.spec(SPEC)
            laptop.env["PHONE_URL"] = self.hook.url(f"/told{number}", PATIENT)
            yield laptop, f"/told{number}"

    @cached_property
    def counts(self) -> Counts:
        """Of the main thread of a tick with news; the courier is no part of it."""
        with self._news() as (laptop, _):
            found = self.counted(laptop, *TICK, ends=20, follow=False)
            self._delivered(laptop)
            return found

    def judge(self, point: Point) -> bool:
        """One point: the news come, once, and the run was never taken for anything but failed."""
        with self._news() as (laptop, path):
            result = self.hit(laptop, point, *TICK, follow=False)
            self.told_once(laptop, path)
            return result.hit

    def interrupted(self, point: Point) -> bool:
        """One point at which the signal comes that a person or an agent sends."""
        with self._news() as (laptop, path):
            result = self.hit(laptop, point, *TICK, follow=False)
            ends = {"int": 130, "term": 143}
            assert result.status in (ends[point.what], 20), f"{result.status} {result.stderr.decode()[-800:]}"
            self.told_once(laptop, path)
            return result.status != 20

    def told_once(self, laptop: Laptop, path: str) -> None:
        """The same tick again, at once: no lock is in its way, and what was not told is told."""
        ledger_is_whole(laptop.state)
        again = laptop.run(*TICK)
        assert again.returncode == 20, f"again: {again.returncode} {again.said}"
        assert [run["health"] for run in again.json["runs"]] == ["failed"]
        self._delivered(laptop)
        ((event, _),) = rows(laptop.state)
        told = hits_of(self.hook, path)
        assert told == [event], f"{len(told)} notices of one event: {told}"
        ledger_is_whole(laptop.state)
        nothing_left(laptop.home)

    def _delivered(self, laptop: Laptop) -> None:
        def done() -> bool:
            return {state for _, state in rows(laptop.state)} == {"sent"} and not laptop.couriers()

        wait_until(done, 60, f"the notice is on its way: {rows(laptop.state)}")


class Carrying:
    """The courier and its sending child, over a ledger with one event that is due. Needs no box."""

    def __init__(self, folder: Path, hook: Receiver, python: Path | str) -> None:
        self.folder = folder
        self.hook = hook
        self.python = python
        self._numbers = iter(range(1, 10**6))
        self._before = folder / "before"
        with Ledger.open(self._before, write=True) as ledger:
            ledger.ticks.commit(
                a_tick(an_event(at=clock.now()), targets=(TargetSpec("hook", "env:PHONE_URL"),))
            )

    @contextmanager
    def _due(self):
        number = next(self._numbers)
        state = self.folder / f"state{number}"
        shutil.copytree(self._before, state)
        home = self.folder / f"home{number}"
        home.mkdir()
        url = self.hook.url(f"/carried{number}", PATIENT)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "PHONE_URL": url}
        argv = [str(self.python), "-I", "-B", "-m", "fleet.notices.courier", str(state), str(LIMIT_S), "0"]
        yield state, f"/carried{number}", argv, env
        nothing_left(home)

    @cached_property
    def counts(self) -> Counts:
        """Of an untouched courier, the greatest of it and its child."""
        with self._due() as (_, _, argv, env):
            return strace.points(argv, syscalls=COUNTED, env=env, limit_s=STRACED_S)

    def judge(self, point: Point) -> bool:
        """One point: at once nothing goes a second time; later it arrives, with one event id, at most twice."""
        with self._due() as (state, path, argv, env):
            result = strace.run_injected(
                argv, point.syscall, point.nth, point.what, env=env, limit_s=STRACED_S
            )
            if point.what != "kill":
                said_in_words(result)
            ledger_is_whole(state)
            early = len(hits_of(self.hook, path))
            assert early <= 1
            sent = rows(state)[0][1] == "sent"
            assert early or not sent, "it is marked as sent, and never came"
            self._again(argv, env)
            at_once = len(hits_of(self.hook, path))
            assert at_once <= max(early, 1), "a second copy went out while the first may still be on its way"
            half_an_hour_later(state)
            self._again(argv, env)
            told = hits_of(self.hook, path)
            assert rows(state) == [("ev-1", "sent")], rows(state)
            assert len(set(told)) == 1, f"repeats bear other event ids: {told}"
            assert len(told) <= 2, f"{len(told)} notices after one fault"
            assert not sent or len(told) == early, "it had been marked as sent, and went out again"
            ledger_is_whole(state)
            return result.hit

    def _again(self, argv, env) -> None:
        ended = subprocess.run(argv, env=env, capture_output=True, timeout=150, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
