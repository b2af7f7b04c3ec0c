"""`patrol --every`: it dies with its terminal and says so; it survives sleep, clock jumps, hangs and its like."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import processes
import pytest
from laptop import Laptop, end_all
from waiting import wait_until

from fleet.ledger.ledger import Ledger
from fleet.ledger.lock import kernel_lock, tick_lock

EVERY_S = 6  # three beats, which count as sleep, are longer than a busy machine keeps anybody waiting
BEAT_S = EVERY_S / 2
HOURS = 8 * 3600
OFTEN = {"BABYSIT_LEAST_EVERY_S": "1"}  # the floor of a minute is for people
BOUND_S = 80  # for what takes a moment on a machine with nothing else to do


@pytest.fixture
def home(tmp_path):
    """A laptop without boxes: what is shown here is when it ticks, not what it finds."""
    laptop = Laptop(tmp_path / "laptop", ())
    yield laptop
    laptop.close()


class Patrol:
    """One `patrol --every` of a laptop, seen through the ledger and its output."""

    def __init__(self, laptop, *words, every=f"{EVERY_S}s", **env):
        self.laptop = laptop
        self.child = laptop.start("patrol", "--every", every, *words, **OFTEN, **env)

    @property
    def pid(self):
        return self.child.pid

    def ticks(self):
        """How many ticks of this kind the ledger has seen."""
        with Ledger.open(self.laptop.state, write=False) as ledger:
            return len(ledger.ticks.seen("every", 1000))

    def skipped(self):
        with Ledger.open(self.laptop.state, write=False) as ledger:
            return sum(row.skipped for row in ledger.patrollers.all())

    def ticked(self, count, bound_s=BOUND_S):
        wait_until(lambda: self.ticks() >= count or self.child.poll() is not None, bound_s, f"tick {count}")
        assert self.child.poll() is None, self.child.communicate()

    def idle(self, shift_s=0):
        """Until no tick of it runs, nor is about to: a firing decides before it has a child to be seen by.

        Its clock is `shift_s` ahead of ours.
        """

        wait_until(lambda: self._between(shift_s), BOUND_S, "its tick is over, and the next one is not due")

    def _between(self, shift_s=0):
        with Ledger.open(self.laptop.state, write=False) as ledger:
            due_s = [row.next_at - shift_s - time.time() for row in ledger.patrollers.all()]
        return not processes.children(self.pid) and all(1 < left_s < 60 for left_s in due_s)

    def asleep(self):
        """Stop it between two ticks: looked at again once it stands still."""

        def still():
            self.idle()
            os.kill(self.pid, signal.SIGSTOP)
            wait_until(lambda: processes.stat(self.pid)[0] == "T", BOUND_S, "it stands still")
            if self._between():
                return True
            os.kill(self.pid, signal.SIGCONT)
            return False

        wait_until(still, BOUND_S, "stopped between two ticks")

    def busy(self):
        """The pid of its tick, as soon as there is one that is past its start."""
        found = []

        def seen():
            every = processes.children(self.pid)
            found[:] = [pid for pid in every if b"babysit.entry" in processes.of(pid, "cmdline")]
            return found

        wait_until(seen, BOUND_S, "a tick of it")
        return found[0]

    def over(self, number=signal.SIGINT):
        """Its exit code, documents and prose, after a signal."""
        self.child.send_signal(number)
        out, err = self.child.communicate(timeout=BOUND_S)
        return self.child.returncode, [json.loads(line) for line in out.splitlines() if line[:1] == "{"], err


def at_most(began, now=None):
    """How many firings an honest patrol can have begun since `began`, one at once included."""
    return int(((time.monotonic() if now is None else now) - began) / EVERY_S) + 2


def test_a_patrol_that_was_asleep_catches_up_once_and_names_the_gap(home):  # P7 R111
    patrol = Patrol(home, "--json")
    patrol.ticked(1)
    patrol.asleep()
    before, slept_at = patrol.ticks(), time.monotonic()
    wait_until(lambda: time.monotonic() - slept_at > 2 * EVERY_S + 1, BOUND_S, "checks were due")
    assert patrol.ticks() == before
    slept_s = time.monotonic() - slept_at
    woke_at = time.monotonic()
    os.kill(patrol.pid, signal.SIGCONT)
    patrol.ticked(before + 2)
    since = patrol.ticks() - before
    assert since <= at_most(woke_at)
    code, told, _ = patrol.over()
    assert code == 130
    gaps = [gap for document in told for gap in document["gaps"] if gap["missed"] >= 2]
    assert len(gaps) == 1 and gaps[0]["kind"] == "asleep", [(d["at"], d["gaps"]) for d in told]
    assert abs(gaps[0]["missed"] - slept_s / EVERY_S) <= 2
    assert told[before]["gaps"], "the very next report names it"


@pytest.fixture(scope="module")
def shift_library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the clock of a process cannot be set without one")
    library = tmp_path_factory.mktemp("clock") / "shift.so"
    source = Path(__file__).parents[2] / "clock_shift.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def test_a_clock_that_jumps_makes_no_burst_and_stops_nothing(home, tmp_path, shift_library):  # P7 R111
    file = tmp_path / "shift"

    def set_clock(seconds):
        fresh = file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(file)

    set_clock(0)
    patrol = Patrol(home, "--json", LD_PRELOAD=str(shift_library), CLOCK_SHIFT=str(file))
    patrol.ticked(1)
    for was, seconds in ((0, HOURS), (HOURS, 0)):
        patrol.idle(was)
        before, began = patrol.ticks(), time.monotonic()
        set_clock(seconds)
        patrol.ticked(before + 2)
        assert patrol.ticks() - before <= at_most(began)
    code, told, _ = patrol.over()
    assert code == 130
    gaps = [gap for document in told for gap in document["gaps"] if gap["kind"] == "clock"]
    jumps = [_seconds(gap["to"]) - _seconds(gap["from"]) for gap in gaps]
    assert [round(jump / HOURS) for jump in jumps] == [1, -1], gaps
    stamps = [_seconds(document["at"]) for document in told]
    assert max(stamps) - min(stamps) > HOURS - 60, "the ticks saw the clock that was set"


def _seconds(iso):
    from datetime import datetime

    return datetime.fromisoformat(iso).timestamp()


def test_of_two_at_once_one_patrols_and_the_other_names_it_until_it_is_gone(home):  # R111 R30
    began = time.monotonic()
    pair = [Patrol(home, "--json") for _ in range(2)]
    wait_until(lambda: any(each.child.poll() is not None for each in pair), BOUND_S, "one of two leaves")
    (gone,) = [each for each in pair if each.child.poll() is not None]
    (stays,) = [each for each in pair if each is not gone]
    out, err = gone.child.communicate()
    assert gone.child.returncode == 75
    # Whose name it has not yet, it has just begun itself.
    assert str(stays.pid) in out + err or "a process that just began" in out + err, out + err
    stays.ticked(2)
    assert stays.ticks() <= at_most(began)
    armed = home.run("status", "--json").json["armed"]
    assert [phrase.partition(",")[0] for phrase in armed] == [f"every {EVERY_S} s (pid {stays.pid})"]
    stays.child.kill()  # no farewell: its row stays, and claims nothing
    stays.child.communicate()
    assert home.run("status", "--json").json["armed"] == []
    other, before = Patrol(home), stays.ticks()
    other.ticked(before + 1)
    with Ledger.open(home.state, write=False) as ledger:
        assert [row.identity.partition(" ")[0] for row in ledger.patrollers.all()] == [str(other.pid)]
    assert other.over(signal.SIGTERM)[0] == 143
    assert home.run("status", "--json").json["armed"] == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_ends_it_and_the_tick_that_runs(home, number, code):  # R97
    with kernel_lock(home.state / "settle.lock", what="this test"):  # a tick waits ten seconds for it
        patrol = Patrol(home, every="60s")
        tick = patrol.busy()
        os.kill(tick, signal.SIGSTOP)  # it never ends by itself: who waits for it waits for ever
        ended, _, said = patrol.over(number)
        assert ended == code, said
        assert not processes.lives(tick) and not [
            pid for pid in processes.pids() if str(home.home).encode() in processes.of(pid, "environ")
        ]
    assert "0 ticks" in said and "dies with this terminal" in said and "babysit crontab" in said
    with Ledger.open(home.state, write=False) as ledger:
        assert ledger.patrollers.all() == ()


def test_a_firing_that_met_another_tick_is_counted_and_shown(home):  # R111
    with ExitStack() as held:
        held.enter_context(tick_lock(home.state, at=time.time()))
        patrol = Patrol(home)
        wait_until(lambda: patrol.skipped() >= 1, BOUND_S, "a skipped firing")
        assert patrol.ticks() == 0
    patrol.ticked(1)

    def counted():
        (shown,) = home.run("status", "--json").json["armed"]
        return f"(pid {patrol.pid})" in shown and shown.endswith(f"{patrol.skipped()} skipped")

    wait_until(counted, BOUND_S, "status shows how many were skipped")
    code, _, said = patrol.over()
    assert code == 130 and "another tick is at it" in said


HUNG = """
import sys
from babysit.acts import every
from babysit.acts.here import here_anyway
every.every(here_anyway(), 6.0, tell=lambda text: print(text, file=sys.stderr, flush=True), limit_s=15.0)
"""


def test_a_tick_that_hangs_is_ended_at_its_limit_and_the_patrol_goes_on(home):  # R111 P7
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", HUNG],
        env=home.env,
        cwd=home.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    home.children.append(child)
    patrol = Patrol.__new__(Patrol)
    patrol.laptop, patrol.child = home, child
    with kernel_lock(home.state / "settle.lock", what="this test"):
        tick = patrol.busy()
        os.kill(tick, signal.SIGSTOP)  # deaf to TERM, too
    try:
        wait_until(lambda: not processes.lives(tick), BOUND_S, "the hung tick is ended")
    finally:
        end_all([tick] if processes.lives(tick) else [])
    patrol.ticked(1)
    assert patrol.skipped() >= 2, "those that fell into the hang, and the hung one"
    code, _, said = patrol.over()
    assert "it hung for 15 s" in said and code in (-signal.SIGINT, 130), said


def test_a_patrol_that_nobody_reads_leaves(home):
    child = home.start("patrol", "--every", "2s", **OFTEN)
    assert child.stdout.readline()
    child.stdout.close()
    wait_until(lambda: child.poll() is not None, BOUND_S, "it leaves with its reader")
    said = child.stderr.read()
    child.stderr.close()
    assert child.returncode == 141, said


@pytest.mark.parametrize("words", [["--every", "5"], ["--every", "59s"], ["--every", "30m", "--once"]])
def test_an_interval_that_hammers_is_refused(home, words):  # R111
    done = home.run("patrol", *words)
    assert done.returncode == 2 and "next: babysit patrol" in done.stderr, done.said
    assert not (home.state / "every.lock").exists()
