"""The box goes away under an arm and comes back with another boot id, or without its home: nothing is launched twice."""

import os
import shutil
import subprocess
import sys

import pytest
from box import Box
from laptop import Job, Laptop
from worlds import has_said, ups

from babysit.acts.arm import STEPS

# `arm` as it is, that says when it begins the step which it was told, and goes on when it is told.
WAITS_AT = """
import sys
from babysit.acts import arm as act
from babysit.acts.here import box_named, here, job_named
place = here()
with place.ledger() as ledger:
    box = box_named(place, ledger, "gpu1")
job = job_named(place, "train", "gpu1", (sys.argv[2],))
def step(name, facts):
    if name == sys.argv[1]:
        print("at", flush=True)
        sys.stdin.readline()
act.arm(place, box, job, step=step)
"""
LATE = STEPS.index("verify")


@pytest.fixture
def job(box):
    return Job(box)


@pytest.fixture
def laptop(tmp_path, box):
    laptop = Laptop(tmp_path / "laptop", (box,))
    yield laptop
    laptop.close()


def _rebooted_at(step, laptop, job, command):
    """An arm during which the box reboots; what it says of it is no matter here, but that it ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", WAITS_AT, step, command],
        env=laptop.env,
        cwd=laptop.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    laptop.children.append(child)
    assert child.stdout.readline() == "at\n", child.communicate()[1]
    if STEPS.index(step) >= LATE:
        job.up()
    job.box.reboot()
    # A link that is dead stays dead: nobody asks over it for the whole minute in which a run may show itself.
    child.communicate("\n", timeout=45)


def _converges(step, laptop, job):
    command = job.waiting()
    _rebooted_at(step, laptop, job, command)
    again = laptop.run("arm", "gpu1", "train", "--", command)
    before = 0
    if STEPS.index(step) < LATE:
        assert again.returncode == 0, again.said
    else:
        # It had been launched, and the reboot ended it: said as what it is, and nothing is started blindly.
        assert again.returncode == 10 and "babysit resume gpu1 train --yes" in again.said, again.said
        assert laptop.health("train") == "interrupted"
        assert job.launches() == 1
        before = ups(job)  # the reboot may have come in front of that
        assert laptop.run("resume", "train", "--yes").returncode == 0
        job.up(2)
    job.up()
    launches = 1 if STEPS.index(step) < LATE else 2
    assert job.launches() == launches
    has_said(job, before + 1)
    assert laptop.health("train") == "running"
    job.release()
    job.ended()
    assert job.record("end")["state"] == "done"
    assert job.launches() == launches


@pytest.mark.timeout(300)
def test_a_reboot_during_arm_and_the_same_command_again_launch_once(laptop, job):  # P1 P2 P6
    _converges("verify", laptop, job)


@pytest.mark.fault
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [step for step in STEPS if step != "verify"])
def test_a_reboot_at_any_other_step_of_arm_launches_once(step, laptop, job):  # P1 P2 P6
    _converges(step, laptop, job)


@pytest.mark.timeout(300)
def test_a_home_that_did_not_outlive_a_reboot_is_a_lost_run_and_never_a_finished_one(laptop, job):  # P2 P6
    command = job.waiting()
    assert laptop.run("arm", "gpu1", "train", "--", command).returncode == 0
    has_said(job)
    assert laptop.health("train") == "running"
    _reboot_without_home(job.box)
    tick = laptop.patrol()
    found = tick["runs"][0]
    assert (found["health"], tick["exit_code"]) == ("lost", 10)
    resumed = laptop.run("resume", "train", "--yes")
    assert "nothing was started" in resumed.said, resumed.said
    assert laptop.health("train") == "lost"
    assert job.launches() == 1


def _reboot_without_home(box: Box) -> None:
    """The box comes back as rented boxes do: the disk of its home is new, the login still works."""
    box.kill()
    shutil.rmtree(box.home / ".local")
    assert not (box.home / ".local").exists() and os.path.ismount(box.home)
    box.start_again()
