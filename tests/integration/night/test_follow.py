"""logs -f: each line once, soon, harmless, over every loss of the link; it ends with the run and its code."""

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from laptop import end_all
from waiting import wait_until

CHATTY = "echo up; while [ ! -e $W/go ]; do n=$((${n:-0} + 1)); echo line $n; sleep 0.05; done"


class Following:
    """`babysit logs -f` under way: what it has printed so far, and what it said beside it."""

    def __init__(self, laptop, job, *words):
        self.child = laptop.start("logs", "gpu1", job.run, "-f", *words)
        self.out, self.err = [], []
        self._readers = [
            threading.Thread(target=lambda pipe=pipe, to=to: to.extend(pipe), daemon=True)
            for pipe, to in ((self.child.stdout, self.out), (self.child.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def shows(self, text, bound_s=60):
        wait_until(lambda: any(text in line for line in self.out), bound_s, f"{text!r} in {self}")

    def says(self, text, bound_s=60):
        wait_until(lambda: any(text in line for line in self.err), bound_s, f"{text!r} in {self}")

    def over(self, limit_s=60):
        code = self.child.wait(limit_s)
        for reader in self._readers:
            reader.join(limit_s)
        self.child.communicate()
        return code

    def lines(self):
        """The job's own lines; those that begin with == are the chain's."""
        return [line.rstrip("\n") for line in self.out if not line.startswith("==")]

    def __str__(self):
        return f"{self.out[-20:]} {self.err}"


def _armed(laptop, job, command):
    done = laptop.run("arm", "gpu1", job.run, "--", command)
    assert done.returncode in (0, 20), done.said
    job.up()


def test_it_shows_what_comes_harmless_and_ends_with_the_run_and_its_code(night):  # S26
    laptop, job = night
    _armed(laptop, job, job.waiting(r"printf '\033]52;c;AAAA\007two\r\nhalf'; exit 3"))
    before = job.box.traffic()
    follow = Following(laptop, job)
    follow.shows("up")
    assert follow.child.poll() is None
    job.release()
    assert follow.over() == 20, follow
    assert follow.lines()[:2] == ["up", r"\x1b]52;c;AAAA\x07two"]
    assert follow.lines()[2].startswith("half== attempt 1: state=failed")
    said = "".join(follow.err)
    assert "FAILED" in said and "status 3" in said and f"next: babysit logs gpu1 {job.run}" in said
    # One connection for all of it; what it learnt is known, and told, like the news of any other look.
    assert job.box.traffic().connections - before.connections == 1
    assert "FAILED" in laptop.run("status").stdout


def test_of_a_run_that_is_over_it_shows_the_end_and_leaves(night):
    laptop, job = night
    _armed(laptop, job, job.command("seq 1 50"))
    job.ended()
    follow = Following(laptop, job, "-n", "3")
    assert follow.over() == 0, follow
    assert follow.lines() == ["49", "50"] and len(follow.out) == 3, follow
    assert "finished" in "".join(follow.err)
    raw = Following(laptop, job, "-n", "3", "--raw")
    assert raw.over() == 0 and raw.out == follow.out


def test_a_lost_link_is_said_and_no_line_is_lost_or_doubled(night):  # R20
    laptop, job = night
    _armed(laptop, job, job.command(CHATTY))
    follow = Following(laptop, job, "-n", "10000")
    follow.shows("line 5\n")
    job.box.drop_sshd()
    try:
        end_all(job.box.session_pids())
        follow.says("was lost at ")
    finally:
        job.box.raise_sshd()
    follow.says("is back after ")
    newest = (job.run_folder() / "run.log").read_text().split()[-1]
    follow.shows(f"line {newest}\n")
    job.release()
    assert follow.over() == 0, follow
    numbers = [int(line.split()[1]) for line in follow.lines() if line.startswith("line ")]
    assert numbers == list(range(1, numbers[-1] + 1))
    lost, back = (next(line for line in follow.err if word in line) for word in ("was lost", "is back"))
    assert re.search(r"link to gpu1 was lost at \d\d:\d\d:\d\d: .*; trying again$", lost)
    assert re.search(r"link to gpu1 is back after \d+ s; going on from there$", back)


def test_a_job_that_never_stops_printing_costs_a_visit_a_second_and_ctrl_c_leaves_it_running(night):
    laptop, job = night
    _armed(laptop, job, job.command(CHATTY))
    before, began = job.box.traffic(), time.monotonic()
    follow = Following(laptop, job)
    follow.shows("line 90\n")
    follow.child.send_signal(signal.SIGINT)
    assert follow.over() == 130, follow
    seen, took_s = job.box.traffic(), time.monotonic() - began
    assert seen.connections - before.connections == 1
    assert seen.sessions - before.sessions <= took_s + 2
    assert "on gpu1 it goes on" in "".join(follow.err) and "Traceback" not in "".join(follow.err)
    assert laptop.health(job.run) == "running"


def test_a_log_that_was_cut_or_replaced_is_said_and_read_from_its_beginning(night):
    laptop, job = night
    _armed(laptop, job, job.waiting("echo last"))
    log = job.run_folder() / "run.log"
    follow = Following(laptop, job)
    follow.shows("up")
    os.truncate(log, 0)
    follow.says("the log was cut short")
    with log.open("a") as file:
        file.write("after the cut\n")
    follow.shows("after the cut")
    owner = log.stat()
    fresh = log.with_name("fresh")
    fresh.write_text("in a new file\n")
    os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(log)
    follow.says("the log was replaced")
    follow.shows("in a new file")
    job.release()
    assert follow.over() == 0, follow


def test_it_never_waits_for_what_is_not_there(night):
    laptop, job = night
    assert laptop.run("logs", "gpu1", "nobody", "-f").returncode == 3
    _armed(laptop, job, job.waiting())
    job.box.drop_sshd()
    try:
        done = laptop.run("logs", "gpu1", job.run, "-f")
    finally:
        job.box.raise_sshd()
    # The first visit is answered at once: only a link that was there can be lost.
    assert done.returncode == 11, done.said


@pytest.mark.fault
def test_a_line_of_100_mb_is_skipped_or_cut_in_bounded_memory(make_box, tmp_path):  # S28
    from laptop import Job, Laptop

    box = make_box(home_mb=256)
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    try:
        _armed(laptop, job, job.waiting("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end"))
        follow = Following(laptop, job)
        follow.shows("up")
        before = _peak_kib(follow.child.pid)
        job.release()
        follow.shows("the end")
        peak = _peak_kib(follow.child.pid) or before
        assert follow.over() == 0, follow
    finally:
        laptop.close()
    print(f"peak {before} -> {peak} KiB")
    assert peak - before < 32 * 1024
    assert max(map(len, follow.out)) < 5000
    assert any("MB of the log were skipped" in line for line in follow.err)


def _peak_kib(pid):
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) if found else 0
    return 0
