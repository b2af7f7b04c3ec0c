"""Arming: once, whatever is raced, repeated or killed. The job's own launch counter is the oracle."""

import os
import signal
import subprocess
import sys

import pytest
from laptop import SOON_S, Laptop, end_all, files
from waiting import wait_until

from babysit.acts.arm import STEPS

SHAPES = {
    "long": lambda job: job.waiting(),
    "fails-soon": lambda job: job.command("sleep 0.3; exit 3"),
    "ends-soon": lambda job: job.command("sleep 0.3"),
}
EXITS = {"long": {0, 75}, "fails-soon": {0, 20, 75}, "ends-soon": {0, 75}}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_parallel_arms_from_two_homes_launch_once(shape, tmp_path, box, job):  # R76 P1
    homes = [Laptop(tmp_path / f"laptop{number}", (box,)) for number in (1, 2)]
    for home in homes:
        home.spec("[box.gpu1]\nlimit_s = 200.0\n")  # twenty at once on a slow machine are slow, not away
    command = SHAPES[shape](job)
    children = [homes[n % 2].start("arm", "gpu1", "train", "--", command) for n in range(20)]
    ended = [(child.communicate(timeout=300), child.returncode) for child in children]
    codes = {code for _, code in ended}
    assert codes <= EXITS[shape], [out for out, code in ended if code not in EXITS[shape]][:3]
    job.up()
    assert job.launches() == 1
    # Everybody agrees on one run: the same id in both ledgers.
    ids = {home.patrol()["runs"][0]["id"] for home in homes}
    assert len(ids) == 1
    job.release()
    assert job.launches() == 1


KILLED_AT = """
import os, signal, sys
from babysit.acts import arm as act
from babysit.acts.here import box_named, here, job_named
place = here()
with place.ledger() as ledger:
    box = box_named(place, ledger, "gpu1")
job = job_named(place, "train", "gpu1", (sys.argv[2],))
act.arm(place, box, job, step=lambda name, facts: os.kill(os.getpid(), signal.SIGKILL) if name == sys.argv[1] else None)
"""


@pytest.mark.parametrize("step", STEPS)
def test_an_arm_killed_at_any_step_and_run_again_launches_once(step, laptop, job):  # P1 P8
    command = job.waiting()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, step, command],
        env=laptop.env,
        cwd=laptop.home,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = laptop.run("arm", "gpu1", "train", "--", command)
    assert again.returncode == 0, again.said
    job.up()
    assert laptop.run("arm", "gpu1", "train", "--", command).returncode == 0
    assert job.launches() == 1
    job.release()
    assert laptop.run("watch", "gpu1", "train").returncode == 0
    assert job.launches() == 1


def test_a_resume_during_a_live_run_starts_nothing_and_after_a_kill_one(laptop, job):  # P1 P6 R89
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    during = laptop.run("resume", "train", "--yes")
    assert during.returncode == 0 and "nothing was started" in during.stdout, during.said
    assert job.launches() == 1
    job.box.run(f"kill -9 {job.pid()}")
    job.ended()
    assert laptop.run("resume", "train", "--yes").returncode == 0
    job.up(2)
    job.release()
    assert laptop.run("watch", "gpu1", "train").returncode == 0
    assert job.launches() == 2


def test_a_finished_run_armed_again_says_its_result_and_a_changed_command_is_refused(laptop, job):
    command = job.command("true")
    assert laptop.run("arm", "gpu1", "train", "--", command).returncode == 0
    job.ended()
    same = laptop.run("arm", "gpu1", "train", "--", command)
    assert same.returncode == 0 and "finished" in same.stdout, same.said
    other = laptop.run("arm", "gpu1", "train", "--", job.command("echo other"))
    assert other.returncode == 2 and "--again" in other.stderr
    assert job.launches() == 1
    newer = laptop.run("arm", "gpu1", "train", "--again", "--", job.command("echo other"))
    assert newer.returncode == 0, newer.said
    job.up(2)
    runs = laptop.patrol()["runs"]
    assert len(runs) == 1 and runs[0]["run"] == "train"


def test_a_job_that_cannot_start_is_told_at_once(laptop, job):  # R68
    tries = []

    def told():
        """Arming waits a moment for the end. On a machine that stands still for longer the run just began, and may."""
        tries.append(laptop.run("arm", "gpu1", "train", "--again", "--", "no-such-trainer --epochs 3"))
        assert tries[-1].returncode in (0, 10, 20), tries[-1].said  # 10: the one before is not over yet
        return tries[-1].returncode == 20

    wait_until(told, 150, "an arm that met the end")
    done = tries[-1]
    shown = "".join(line.strip() for line in done.stdout.splitlines())
    assert "status 127" in shown and "no-such-trainer: command not found" in shown
    assert "babysit logs gpu1 train" in done.stdout


def test_what_arm_prints_fits_a_terminal_and_ends_with_the_next_commands(laptop, job):
    done = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[1] for line in lines[-3:]] == ["crontab", "watch", "patrol"]
    job.release()


def test_the_nonce_is_in_no_argument_environment_or_log(laptop, job):  # S9
    laptop.run("arm", "gpu1", "train", "--", job.waiting())
    job.up()
    nonce = (job.run_folder() / "nonce").read_text().strip()
    assert len(nonce) == 32
    seen = job.box.inside(
        "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
    ).stdout
    assert "BABYSIT_TAG" in seen and nonce not in seen
    assert nonce not in (job.run_folder() / "run.log").read_text()
    for path in (laptop.state / "handbook").glob("*"):
        assert nonce not in path.read_text(errors="replace")
    job.release()


def test_state_on_both_sides_is_private_whatever_the_umask(laptop, job):  # S36 S41
    old = os.umask(0)
    try:
        laptop.run("arm", "gpu1", "train", "--", job.waiting())
    finally:
        os.umask(old)
    job.up()
    for top in (laptop.state, job.box.home / ".local/state/babysit"):
        assert not top.stat().st_mode & 0o077
        assert not [path for path, seen in files(top) if not path.is_symlink() and seen.st_mode & 0o077]
    job.release()


def test_a_stage_with_a_pipe_that_fails_stamps_nothing(laptop, job):  # R61 D6
    laptop.run("arm", "gpu1", "train", "--", job.command("sh -c 'exit 7' | tee $W/out"))
    job.ended()
    assert job.record("end")["state"] == "failed"
    assert not list((job.run_folder() / "markers").iterdir())
    assert laptop.health("train") == "failed"


def test_the_laptop_may_go_away_at_once(laptop, job):  # R59 R67 R72 R150 D16
    child = laptop.start("arm", "gpu1", "train", "--", job.waiting("echo end > $W/result"))
    job.up()
    child.kill()
    child.communicate()
    end_all(job.box.session_pids())
    job.release()
    wait_until((job.folder / "result").exists, SOON_S, "the job ends by itself")
    job.ended()
    assert job.record("end")["state"] == "done"
