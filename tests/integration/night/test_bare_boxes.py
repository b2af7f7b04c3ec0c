"""Boxes that lack something: what can be done without is done and said; what cannot is refused, nothing half done."""

import os
import subprocess

import pytest
from laptop import Job, Laptop

_NOISE = "echo Welcome to the box; printf 'babysit-frame 1 0 0 0\\n'; echo oops >&2\n"

# What the box lacks or does besides, what arm says of it, and whether a kill is still told from an exit.
POORER = {
    "no tmux, no python": (
        {"without": ("tmux", "python*")},
        (
            "no tmux: the run is detached by setsid",
            "no python 3.8 or newer: a stage's signal is not told from its exit status",
        ),
        "a shell's word for SIGKILL",
    ),
    "no flock, a noisy login shell": (
        {"without": ("flock",), "rc_noise": _NOISE},
        ("the login shell prints 41 B before we begin",),
        "was ended by SIGKILL (9)",
    ),
}


@pytest.mark.parametrize("kind", POORER)
def test_a_poorer_box_carries_the_run_and_arm_says_what_is_missing(tmp_path, make_box, kind):  # R21 R23 R56
    options, said, death = POORER[kind]
    box = make_box(**options)
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    armed = laptop.run("arm", "gpu1", "train", "--", job.waiting("kill -9 $$"))
    assert armed.returncode == 0, armed.said
    job.up()
    for part in said:
        assert part in " ".join(armed.stderr.split()), armed.said
    assert laptop.health("train") == "running"
    job.release()
    job.ended()
    patrol = laptop.run("patrol", "--once")
    assert patrol.returncode == 20 and death in " ".join(patrol.stdout.split()), patrol.said


def test_a_box_with_nothing_that_locks_is_refused_and_left_alone(tmp_path, make_box):  # P1 R23
    box = make_box(without=("flock", "python*", "perl*"))
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    refused = laptop.run("arm", "gpu1", "train", "--", job.waiting())
    assert refused.returncode == 2 and "no tool to take locks" in refused.stderr, refused.said
    assert "next: ssh gpu1" in refused.stderr
    assert not list((box.home / ".local/state/babysit/runs").iterdir()) and job.launches() == 0


def _fill(box):
    """Not a block is free in the home folder."""
    with (box.home / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return


def _inodes(box, count):
    subprocess.run(["mount", "-o", f"remount,nr_inodes={count}", str(box.home)], check=True)


def test_a_full_disk_is_refused_and_the_same_command_works_once_there_is_room(tmp_path, make_box):  # R48
    box = make_box(home_mb=16)
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    _fill(box)
    command = ("arm", "gpu1", "train", "--", job.waiting())
    refused = laptop.run(*command)
    assert refused.returncode == 2 and "disk full" in refused.stderr, refused.said
    assert "0 B free" in refused.stderr and "next: ssh gpu1 'df -h'" in refused.stderr
    (box.home / "ballast").unlink()
    armed = laptop.run(*command)
    assert armed.returncode == 0, armed.said
    job.up()
    assert job.launches() == 1
    job.release()


def test_a_disk_without_inodes_is_refused_and_the_same_command_works_later(tmp_path, make_box):  # R48
    box = make_box()
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    used = os.statvfs(box.home).f_files - os.statvfs(box.home).f_ffree
    _inodes(box, used + 1)
    command = ("arm", "gpu1", "train", "--", job.waiting())
    refused = laptop.run(*command)
    assert refused.returncode == 2 and "no inodes left" in refused.stderr, refused.said
    assert "next: ssh gpu1 'df -i'" in refused.stderr
    _inodes(box, 10_000)
    assert laptop.run(*command).returncode == 0
    job.release()


@pytest.mark.fault
def test_a_disk_that_fills_up_under_the_run_is_said_by_the_patrol(tmp_path, make_box):  # R48
    box = make_box(home_mb=16)
    laptop, job = Laptop(tmp_path / "laptop", (box,)), Job(box)
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    _fill(box)
    patrol = laptop.run("patrol", "--once")
    assert patrol.returncode == 10 and "100 % full" in patrol.stdout, patrol.said
    (box.home / "ballast").unlink()
    assert laptop.health("train") == "running"
    job.release()


def test_a_broken_spec_does_not_blind_the_patrol(laptop, job):
    assert laptop.run("arm", "gpu1", "train", "--", job.waiting()).returncode == 0
    job.up()
    laptop.spec("[box.gpu1\n")
    patrol = laptop.run("patrol", "--once")
    assert patrol.returncode == 0 and "running" in patrol.stdout, patrol.said
    assert "babysit.toml is not valid TOML" in patrol.stderr
    document = laptop.patrol()
    assert document["runs"][0]["health"] == "running"
    assert [error["code"] for error in document["errors"]] == ["BS-SPEC"]
    job.release()
    assert laptop.run("watch", "gpu1", "train").returncode == 0
