"""Scenarios of the sweeps: the real command hit at a point, repeated untouched, and judged from outside.

Oracles: the job's own launch counter, the records as files on the box, the receiver's own log, SQLite itself.
"""

import json
import queue
import sqlite3
import subprocess
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path

import strace
from laptop import Job, Laptop
from processes import lives, of, pids
from sweep import AT_ONCE, COUNTED, Counts, Point
from waiting import wait_until

from fleet.errors import EXIT_CODES
from fleet.ledger import schema

# What a command may answer when a call of it failed: any documented code but "a bug in babysit".
CODES = frozenset(EXIT_CODES) - {1}
STRACED_S = 150.0  # how long a command may take under strace


def ledger_rows(state: Path, sql: str) -> list[tuple]:
    """Rows of the ledger's file, read by SQLite alone; [] while there is no such table yet."""
    file = state / "ledger.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []
        return connection.execute(sql).fetchall()


def ledger_is_whole(state: Path) -> None:
    """P8: the file is sound, of a format that we know, and no row lacks what it belongs to."""
    if not (state / "ledger.db").exists():
        return
    assert ledger_rows(state, "PRAGMA integrity_check") in ([], [("ok",)])
    assert ledger_rows(state, "PRAGMA foreign_key_check") == []
    version = ledger_rows(state, "PRAGMA user_version") or [(0,)]
    assert 0 <= version[0][0] <= schema.VERSION
    if version[0][0]:
        for (content,) in ledger_rows(state, "SELECT content FROM run"):
            json.loads(content)


def pages_are_whole(state: Path) -> None:
    """P8: each page of the handbook is an old or a new one, never a half; nothing of a writer stays."""
    folder = state / "handbook"
    for page in folder.glob("*.md"):
        assert page.read_text().startswith("#") and page.read_text().endswith("\n"), f"half a page: {page}"


def nothing_left(home: Path) -> None:
    """No process of ours that was started with this HOME lives on."""
    ours = f"HOME={home}\0".encode()

    def none_left() -> bool:
        return not [pid for pid in pids() if ours in of(pid, "environ") + b"\0" and lives(pid)]

    wait_until(none_left, 90, f"no process of {home.name} is left")


def said_in_words(result: strace.Result) -> None:
    """A call that failed is told: a documented exit code, words and no traceback."""
    said = (result.stdout + result.stderr).decode(errors="replace")
    assert result.status in CODES, f"exit {result.status}: {said[-1500:]}"
    assert "Traceback" not in said, said[-1500:]


def ups(job: Job) -> int:
    """How often the job has printed `up`, by which its run is no longer one that starts."""
    return (job.run_folder() / "run.log").read_text().splitlines().count("up")


def has_said(job: Job, times: int = 1) -> None:
    """Wait for that."""
    wait_until(lambda: ups(job) >= times, 60, f"up is said {times} times")


class World:
    """A box that many points share, and a folder for their laptops."""

    def __init__(self, box, folder: Path, program: tuple[str | Path, ...] = Laptop.program) -> None:
        self.box = box
        self.folder = folder
        self.program = program
        self._numbers = count(1)

    @contextmanager
    def laptop(self):
        """A new laptop, ended whole with the point; yields it with its number."""
        number = next(self._numbers)
        laptop = Laptop(self.folder / f"laptop{number}", (self.box,))
        laptop.program = self.program
        laptop.env["PYTHONDONTWRITEBYTECODE"] = (
            "1"  # what an interpreter keeps for itself is none of our points
        )
        try:
            yield laptop, number
        finally:
            laptop.close()

    def hit(
        self, laptop: Laptop, point: Point, *words: str, follow: bool = True, **env: str
    ) -> strace.Result:
        """The command with the point's fault in it; what it says of a failure is checked."""
        result = strace.run_injected(
            [*self.program, *words],
            point.syscall,
            point.nth,
            point.what,
            env={**laptop.env, **env},
            cwd=laptop.home,
            paths=point.paths,
            follow=follow,
            limit_s=STRACED_S,
        )
        if point.what != "kill":
            said_in_words(result)
        return result

    def counted(self, laptop: Laptop, *words: str, ends: int = 0, follow: bool = True) -> Counts:
        """How often the untouched command makes each call that a sweep may hit."""
        env = dict(laptop.env)
        argv = [*self.program, *words]
        how = {"env": env, "cwd": laptop.home, "follow": follow, "limit_s": STRACED_S}
        return strace.points(argv, syscalls=COUNTED, ends=ends, **how)


class Arming(World):
    """`babysit arm` of a new run on a new laptop, killed or failing at a point, and repeated."""

    @cached_property
    def counts(self) -> Counts:
        """Of an untouched arm, from a laptop that never knew anything."""
        with self.laptop() as (laptop, number):
            job = Job(self.box, f"job{number}", f"run{number}")
            try:
                return self.counted(laptop, "arm", "gpu1", job.run, "--", job.waiting())
            finally:
                self._over(job)

    def judge(self, point: Point) -> bool:
        """One point. A third of them arm a job that fails soon: it must never be taken for a finished one."""
        with self.laptop() as (laptop, number):
            job = Job(self.box, f"job{number}", f"run{number}")
            fails = number % 3 == 0
            words = ("arm", "gpu1", job.run, "--", job.command("exit 3") if fails else job.waiting())
            try:
                result = self.hit(laptop, point, *words)
                self._after_the_fault(laptop, job)
                again = laptop.run(*words)
                assert again.returncode in ({0, 20} if fails else {0}), (
                    f"again: {again.returncode} {again.said}"
                )
                self._after_the_repeat(laptop, job, fails=fails)
            finally:
                self._over(job)
            nothing_left(laptop.home)
            return result.hit

    def _after_the_fault(self, laptop: Laptop, job: Job) -> None:
        ledger_is_whole(laptop.state)
        pages_are_whole(laptop.state)
        assert job.launches() <= 1
        name = self.state / "names" / job.run
        if name.is_symlink():
            # Whoever holds the name on the box is known here, with the nonce that its records will bear.
            run_id = str(name.readlink())
            nonce = (self.state / "runs" / run_id / "nonce").read_text().strip()
            known = ledger_rows(laptop.state, "SELECT run_id, content FROM run")
            assert [json.loads(content)["nonce"] for found, content in known if found == run_id] == [nonce], (
                f"{run_id} has the name on the box, and the ledger knows {known}"
            )

    def _after_the_repeat(self, laptop: Laptop, job: Job, *, fails: bool) -> None:
        job.up()
        if fails:
            job.ended()
        else:
            has_said(job)
        assert job.launches() == 1, f"{job.launches()} launches"
        assert str((self.state / "names" / job.run).readlink()) == job.run_folder().name
        assert job.record("attempt")["attempt"] == "1"
        health = laptop.health(job.run)
        assert health == ("failed" if fails else "running"), health
        ledger_is_whole(laptop.state)
        pages_are_whole(laptop.state)
        assert not list((laptop.state / "handbook").glob(".*.new"))
        if not fails:
            job.release()
            job.ended()
            assert job.record("end")["state"] == "done"
            assert laptop.health(job.run) == "finished"
        assert job.launches() == 1, f"{job.launches()} launches in the end"

    @property
    def state(self) -> Path:
        """The state folder on the box, seen from outside."""
        return self.box.home / ".local/state/babysit"

    def _over(self, job: Job) -> None:
        """Whatever became of it, the job ends, and with it its chain."""
        job.release()
        for pid in (
            {int(word) for word in (job.folder / "launches").read_text().split()} if job.launches() else ()
        ):
            self.box.inside("kill", "-KILL", str(pid))


RUN = """
[run.{run}]
box = "gpu1"
budget = 1000
[[run.{run}.stages]]
name = "train"
command = """


class Resuming(World):
    """`babysit resume RUN --yes` of a run whose last attempt failed; each point takes its next attempt.

    Two runs, each on a laptop of its own, so that two points can be tried at once.
    """

    def __init__(self, *how) -> None:
        super().__init__(*how)
        self._free: queue.SimpleQueue[tuple[Laptop, Job]] = queue.SimpleQueue()
        self._laptops = ExitStack()
        for _ in range(AT_ONCE):
            laptop, number = self._laptops.enter_context(self.laptop())
            job = Job(self.box, f"again{number}", f"again{number}")
            # The first launch fails at once, every later one when it is told to.
            waits = job.command(
                "echo up; n=$(wc -l <$W/launches); [ $n = 1 ] || while [ ! -e $W/go.$n ]; do sleep 0.1; done; exit 3"
            )
            laptop.spec(RUN.format(run=job.run) + json.dumps(waits) + "\n")
            armed = laptop.run("arm", "gpu1", job.run)
            assert armed.returncode in (0, 20), armed.said  # whether it was still alive is no matter
            self._fail(job, 1)
            self._free.put((laptop, job))

    def close(self) -> None:
        """End the laptops."""
        self._laptops.close()

    @cached_property
    def counts(self) -> Counts:
        """Of one untouched resume."""
        with self._one() as (laptop, job):
            found = self.counted(laptop, "resume", job.run, "--yes")
            self._fail(job, job.launches())
            return found

    def judge(self, point: Point) -> bool:
        """One point: exactly one launch more, whatever the killed resume had done already."""
        with self._one() as (laptop, job):
            before = job.launches()
            result = self.hit(laptop, point, "resume", job.run, "--yes")
            ledger_is_whole(laptop.state)
            pages_are_whole(laptop.state)
            assert job.launches() <= before + 1
            again = laptop.run("resume", job.run, "--yes")
            assert again.returncode == 0, f"again: {again.returncode} {again.said}"
            job.up(before + 1)
            has_said(job, before + 1)
            assert job.record("attempt")["attempt"] == str(before + 1)
            health = laptop.health(job.run)
            assert health == "running", health
            assert job.launches() == before + 1, f"{job.launches() - before} launches more"
            self._fail(job, before + 1)
            assert laptop.health(job.run) == "failed"
            assert job.launches() == before + 1, f"{job.launches() - before} launches more, in the end"
            ledger_is_whole(laptop.state)
            return result.hit

    @contextmanager
    def _one(self):
        mine = self._free.get(timeout=120)
        try:
            yield mine
        finally:
            self._fail(mine[1], mine[1].launches())
            self._free.put(mine)

    def _fail(self, job: Job, attempt: int) -> None:
        (job.folder / f"go.{attempt}").touch()
        wait_until(
            lambda: job.record("end").get("attempt") == str(attempt), 90, f"attempt {attempt} has failed"
        )
        # Its chain has left, too: one that is just about to would be in the next one's way.
        lock = ["flock", "-s", "-w", "60", job.run_folder() / "chain.lock", "true"]
        assert subprocess.run(lock, check=False).returncode == 0, "the chain has not left"
