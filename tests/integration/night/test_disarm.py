"""disarm: nothing watches the run any more, nobody is told, and the job on the box never notices."""

import contextlib
import json
import os
import pty
import sqlite3
from itertools import takewhile

from laptop import BABYSIT, SOON_S, end_all
from waiting import wait_until


def _armed(laptop, job, command=None):
    done = laptop.run("arm", "gpu1", job.run, "--", command or job.waiting())
    assert done.returncode in (0, 20), done.said
    job.up()


def _disarmed(laptop, job, *words):
    done = laptop.run("disarm", job.run, "--yes", *words)
    assert done.returncode == 0, done.said
    return done


def _shown(laptop, *words):
    """Run name -> its line of the status table."""
    lines = laptop.run("status", *words).stdout.splitlines()[1:]
    return {line.split()[0]: line for line in takewhile(str.strip, lines)}


def _incidents(laptop):
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db")) as ledger:
        rows = ledger.execute("SELECT content FROM incidents").fetchall()
    return [incident["run_id"] for (content,) in rows for incident in json.loads(content)]


def test_a_disarmed_run_goes_on_unwatched_and_leaves_every_list_but_all(night):
    laptop, job = night
    _armed(laptop, job)
    assert laptop.health(job.run) == "running"  # what is known of it, whatever arming came to see
    before = job.box.traffic()
    said = _disarmed(laptop, job).stdout
    assert "disarmed" in said and "on the box it goes on" in said, said
    assert f"next: babysit arm gpu1 {job.run}" in said
    again = _disarmed(laptop, job, "--json").json["runs"][0]
    assert (
        again["already"] and again["health"] == "running" and again["next"] == [f"babysit arm gpu1 {job.run}"]
    )
    document = laptop.patrol()
    assert document["runs"] == [] and document["exit_code"] == 0
    assert job.box.traffic().connections == before.connections
    assert job.run not in _shown(laptop)
    assert "disarmed running" in _shown(laptop, "--all")[job.run]
    everything = laptop.run("status", "--all", "--json").json
    assert everything["disarmed"] == [job.run_folder().name]
    watched = laptop.run("arm", "gpu1", job.run, "--", job.waiting())
    assert watched.returncode == 0 and "was running already" in watched.stdout, watched.said
    assert laptop.health(job.run) == "running"
    _disarmed(laptop, job)
    job.release()
    job.ended()
    assert job.record("end")["state"] == "done" and job.launches() == 1
    log = laptop.run("logs", "gpu1", job.run)
    assert log.returncode == 0 and "up" in log.stdout, log.said


def test_a_live_run_is_not_disarmed_without_a_yes(night):
    laptop, job = night
    _armed(laptop, job)
    done = laptop.run("disarm", job.run)
    assert done.returncode == 5 and f"next: babysit disarm gpu1 {job.run} --yes" in done.stderr, done.said
    for words in ([], [job.run, "--finished"]):
        done = laptop.run("disarm", *words)
        assert done.returncode == 2 and "--finished" in done.stderr, done.said
    assert laptop.run("disarm", "nobody", "--yes").returncode == 3
    for answer, code, listed in (("n\n", 5, True), ("\x04", 130, True), ("y\n", 0, False)):
        assert _at_a_terminal(laptop, answer, "disarm", job.run) == code
        assert (job.run in _shown(laptop)) is listed


def _at_a_terminal(laptop, answer, *words):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(BABYSIT, [str(BABYSIT), *words], laptop.env)  # noqa: S606 - a word list
    try:
        said = b""
        while b"[y/N]" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, answer.encode())
        with contextlib.suppress(OSError):  # how a terminal says that its last user has left
            while os.read(terminal, 4096):
                pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_its_incident_ends_in_silence_and_what_was_committed_still_goes(night):
    laptop, job = night
    laptop.spec('[notify.phone]\nurl = "env:NOBODY_SET_THIS"\n')
    _armed(laptop, job, job.command("exit 3"))
    job.ended()
    assert laptop.health(job.run) == "failed"
    run_id = job.run_folder().name
    assert _incidents(laptop) == [run_id]
    waiting = laptop.run("status", "--json").json["undelivered"]
    # It has failed: nothing is left to lose, so no yes is wanted.
    done = laptop.run("disarm", job.run)
    assert done.returncode == 0 and "Last known" in done.stdout and "goes on" not in done.stdout, done.said
    assert _incidents(laptop) == []
    undelivered = laptop.run("status", "--json").json["undelivered"]
    assert [row["run"] for row in undelivered] == [row["run"] for row in waiting] == [run_id]
    # Whoever looks at it by name sees how it is; nobody is told.
    done = laptop.run("resume", job.run)
    assert "failed" in done.stdout.lower(), done.said
    assert _incidents(laptop) == []
    assert len(laptop.run("status", "--json").json["undelivered"]) == 1


def test_a_watch_leaves_at_its_next_turn_and_says_why(night):  # R97
    laptop, job = night
    _armed(laptop, job)
    before = job.box.traffic()
    child = laptop.start("watch", "gpu1", job.run)
    wait_until(lambda: job.box.traffic().sessions > before.sessions, SOON_S, "the watch has not connected")
    done = _disarmed(laptop, job, "--json").json["runs"][0]
    assert done["waiting"] == [child.pid]
    end_all(job.box.session_pids())  # a turn comes once a minute, or when the link breaks
    out, err = child.communicate(timeout=2 * SOON_S)
    assert child.returncode == 21 and "disarmed" in out, out + err
    assert laptop.run("status", "--json").json["armed"] == []
    again = laptop.run("watch", "gpu1", job.run)
    assert again.returncode == 21 and "disarmed" in again.stdout, again.said


def test_finished_takes_every_run_off_the_list_that_is_over_and_no_other(night):
    laptop, job = night
    _armed(laptop, job)
    over = f"{job.run}-a"
    assert laptop.run("arm", "gpu1", over, "--", "true").returncode == 0
    wait_until(lambda: laptop.health(over) == "finished", SOON_S, f"{over} has finished")
    done = laptop.run("disarm", "--finished", "--json")
    assert done.returncode == 0, done.said
    assert [run["run"] for run in done.json["runs"]] == [over]
    assert set(_shown(laptop)) == {job.run}
    nothing = laptop.run("disarm", "--finished")
    assert nothing.returncode == 0 and "nothing was disarmed" in nothing.stdout, nothing.said
