"""Clearing a box: what goes is old, ours and over; what stays is everything else, whatever it looks like."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from small_box import SHELLS, SmallBox, small_path
from waiting import wait_until

from fleet.arming.chain import BoxPlan, render, tag_of
from fleet.arming.gc import clear
from fleet.arming.place import claim
from fleet.arming.preflight import preflight
from fleet.arming.start import launch
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage

pytestmark = pytest.mark.timeout(180)
DAY = 86400
BOX = BoxSpec("gpu1", "h")
TOOL = "onbox-0123456789ab.pyz"


@pytest.fixture
def box(tmp_path):
    return SmallBox(tmp_path / "box")


def swept(box, *, days=30, superseded=False, finished=False, remove=True):
    found = clear(
        box.link(),
        state_dir=None,
        where="gpu1",
        days=days,
        superseded=superseded,
        finished=finished,
        remove=remove,
    )
    return {each.name: each for each in found.old}


def aged(path, days):
    when = time.time() - days * DAY - 60
    os.utime(path, (when, when), follow_symlinks=False)


def tool(box, name=TOOL, days=40):
    box.share.mkdir(parents=True, exist_ok=True)
    (box.share / name).write_bytes(b"x" * 500)
    aged(box.share / name, days)
    return box.share / name


def run_of(box, run_id, command="true", *, name="train", expect=None, days=40, onbox=None, start=True):
    """A run that was armed, started and has ended `days` ago."""
    nonce = f"{abs(hash(run_id)):032x}"[:32]
    spec = RunSpec(name, (Stage("train", command),))
    run = Run(run_id, spec, BOX, nonce, tag_of(run_id, nonce), "", "0" * 16, 0.0)
    files = render(run, BoxPlan(str(box.state), onbox=onbox, python="/nowhere/python3" if onbox else None))
    claim(
        box.link(),
        state_dir=None,
        run_name=name,
        run_id=run_id,
        files=files.files,
        expect_owner=expect,
        limit_s=60,
    )
    folder = box.state / "runs" / run_id
    if start:
        answer = launch(box.link(), state_dir=None, run_id=run_id, expect="0", detach="setsid", limit_s=60)
        assert answer.word == "started", answer
        if command != WAIT:
            wait_until((folder / "end").exists, 60, "its end record")
            wait_until(lambda: free(folder), 60, "its locks are free")
            aged(folder / "end", days)
    return folder


WAIT = "until [ -e go ]; do sleep 0.1; done"


def free(folder):
    return subprocess.run(["flock", "-n", folder / "chain.lock", "true"], check=False).returncode == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tool_that_no_plan_names_goes_and_one_that_a_plan_names_stays(tmp_path, shell):
    box = SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=shell))
    kept, gone = tool(box, "onbox-aaaaaaaaaaaa.pyz"), tool(box, "onbox-bbbbbbbbbbbb.pyz")
    young = tool(box, "onbox-cccccccccccc.pyz", days=3)
    run_of(box, "train-a1", onbox=str(kept), start=False)
    listed = swept(box, remove=False)
    assert gone.exists()
    assert {name: (each.kind, each.bytes, each.days, each.goes) for name, each in listed.items()} == {
        gone.name: ("tool", 500, 40, True)
    }
    assert set(swept(box)) == {gone.name}
    assert (gone.exists(), kept.exists(), young.exists()) == (False, True, True)


def test_a_tool_that_somebody_is_about_to_use_is_young_again(box):
    path = tool(box)
    preflight(box.link(), box=BOX, run_name="train", onbox_name=TOOL, limit_s=30)
    assert swept(box) == {} and path.exists()


def test_a_tool_in_the_path_of_a_living_process_stays(box):
    path = tool(box)
    env = {**box.env, "PYTHONPATH": f"/x:{path}:/y"}
    child = subprocess.Popen(["sleep", "600"], env=env)
    try:
        wait_until(
            lambda: TOOL.encode() in Path(f"/proc/{child.pid}/environ").read_bytes(), 60, "its environment"
        )
        assert swept(box) == {} and path.exists()
    finally:
        child.kill()
        child.wait()
    assert set(swept(box)) == {TOOL}


NOT_OURS = [
    "onbox-0123.pyz",
    "onbox-0123456789aX.pyz",
    "other.pyz",
    "onbox-0123456789ab.pyz.bak",
    "onbox-..%2f..%2f.pyz",
]


def test_what_has_another_name_or_is_a_link_or_folder_stays(box):  # S37
    victim = box.home / "victim"
    victim.write_bytes(b"mine")
    for name in NOT_OURS:
        tool(box, name)
    (box.share / "onbox-dddddddddddd.pyz").symlink_to(victim)
    aged(box.share / "onbox-dddddddddddd.pyz", 90)
    (box.share / "onbox-eeeeeeeeeeee.pyz").mkdir()
    aged(box.share / "onbox-eeeeeeeeeeee.pyz", 90)
    before = sorted(path.name for path in box.share.iterdir())
    assert swept(box, days=0, superseded=True, finished=True) == {}
    assert sorted(path.name for path in box.share.iterdir()) == before and victim.read_bytes() == b"mine"


def test_halves_go_after_a_day_and_links_out_of_them_lead_nowhere(box):  # S37
    outside = box.home / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    runs = box.state / "runs"
    runs.mkdir(parents=True)
    for name, days in (
        (".new-train-a1.0a1b2c3d", 2),
        (".new-train-b2.0a1b2c3d", 0),
        (".new-odd.nothexxx", 9),
    ):
        (runs / name / "stages").mkdir(parents=True)
        (runs / name / "stages/out").symlink_to(outside)
        (runs / name / "plan").write_text("x" * 10)
        aged(runs / name, days)
    (runs / ".new-link.0a1b2c3d").symlink_to(outside)
    aged(runs / ".new-link.0a1b2c3d", 9)
    found = swept(box, days=3650)
    assert {name: (each.kind, each.bytes) for name, each in found.items()} == {
        ".new-train-a1.0a1b2c3d": ("part", 10)
    }
    assert (outside / "precious").exists()
    assert {path.name for path in runs.iterdir()} == {
        ".new-train-b2.0a1b2c3d", ".new-odd.nothexxx", ".new-link.0a1b2c3d",
    }  # fmt: skip


def test_folders_of_runs_go_only_on_request(box):
    old = run_of(box, "train-a1")
    new = run_of(box, "train-b2", expect="train-a1")
    failed = run_of(box, "eval-c3", "exit 3", name="eval")
    assert swept(box) == {}
    assert set(swept(box, superseded=True, remove=False)) == {"train-a1"}
    assert old.exists()
    assert set(swept(box, superseded=True)) == {"train-a1"}
    assert (old.exists(), new.exists()) == (False, True)
    assert set(swept(box, finished=True)) == {"train-b2"}
    assert (new.exists(), failed.exists()) == (False, True)  # what failed can be resumed
    assert not list((box.state / "runs").glob(".new-*"))
    # The name is kept: it says that there was a run, and whose it is next.
    assert str((box.state / "names/train").readlink()) == "train-b2"
    assert run_of(box, "train-d4", expect="train-b2").exists()


def test_a_young_run_stays(box):
    run_of(box, "train-a1", days=10)
    assert swept(box, finished=True) == {}
    assert set(swept(box, finished=True, days=10)) == {"train-a1"}


STAY = {
    "no end record": lambda folder: (folder / "end").unlink(),
    "an end record of an earlier attempt": lambda folder: rewrite(
        folder / "attempt", "attempt=1", "attempt=2"
    ),
    "an end record of another run": lambda folder: rewrite(folder / "end", "nonce=", "nonce=0"),
    "no attempt record": lambda folder: (folder / "attempt").unlink(),
    "no nonce": lambda folder: (folder / "nonce").unlink(),
    "a plan of another run": lambda folder: rewrite(folder / "plan", "run_id=train-a1", "run_id=train-zz"),
    "a plan of another format": lambda folder: rewrite(folder / "plan", "format=1", "format=2"),
    "locks elsewhere": lambda folder: rewrite(
        folder / "plan", "lockdir=-", f"lockdir={folder.parent.parent}"
    ),
    "a lock that is a link": lambda folder: relink(folder / "chain.lock"),
}


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    was = path.stat().st_mtime
    path.write_text(text.replace(old, new, 1))
    os.utime(path, (was, was))


def relink(path):
    path.unlink()
    path.symlink_to(path.parent / "run.log")


def test_every_reason_to_stay_keeps_a_finished_run(tmp_path):
    for number, (reason, spoil) in enumerate(STAY.items()):
        box = SmallBox(tmp_path / f"box{number}")
        folder = run_of(box, "train-a1")
        if number % 2:
            run_of(box, "train-b2", expect="train-a1", start=False)
        spoil(folder)
        found = swept(box, days=0, superseded=True, finished=True)
        assert folder.is_dir() and not any(each.goes for each in found.values()), reason


def test_a_run_that_lives_stays_and_so_does_one_whose_leftover_lives(box):  # P1
    living = run_of(box, "train-a1", WAIT)
    child = None
    left = run_of(box, "eval-b2", name="eval")
    try:
        tag = next(line for line in (left / "plan").read_text().splitlines() if line.startswith("tag="))[4:]
        child = subprocess.Popen(["sleep", "600"], env={**box.env, "BABYSIT_TAG": f"{tag}/01-train"})
        wait_until(
            lambda: b"BABYSIT_TAG" in Path(f"/proc/{child.pid}/environ").read_bytes(), 60, "its environment"
        )
        found = swept(box, days=0, superseded=True, finished=True)
        assert living.is_dir() and left.is_dir()
        assert {name: each.why for name, each in found.items()} == {
            "eval-b2": f"done: of it lives {child.pid}"
        }
    finally:
        if child:
            child.kill()
            child.wait()
        (box.home / "go").touch()
        wait_until((living / "end").exists, 60, "the end of what lived")
        wait_until(lambda: free(living), 60, "its locks are free")
    assert {name for name, each in swept(box, days=0, finished=True).items() if each.goes} == {
        "eval-b2",
        "train-a1",
    }


@pytest.mark.parametrize("lock", ["chain.lock", "stage.lock"])
def test_a_held_lock_keeps_a_run(box, lock):
    folder = run_of(box, "train-a1")
    holder = subprocess.Popen(["flock", "-F", "-s", folder / lock, "sleep", "600"])
    try:
        taken = ["flock", "-n", folder / lock, "true"]
        wait_until(lambda: subprocess.run(taken, check=False).returncode != 0, 60, "the lock is held")
        found = swept(box, finished=True)
        assert [(each.goes, each.why) for each in found.values()] == [(False, "done: its lock is held")]
        assert folder.is_dir()
    finally:
        holder.kill()
        holder.wait()


def test_a_linked_run_folder_is_not_followed(box):  # S37
    folder = run_of(box, "train-a1")
    folder.rename(box.home / "aside")
    folder.symlink_to(box.home / "aside")
    assert swept(box, days=0, superseded=True, finished=True) == {}
    assert (box.home / "aside/end").exists()


def test_on_a_box_that_was_never_armed_there_is_nothing_and_nothing_is_made(box):
    assert swept(box, superseded=True, finished=True) == {}
    assert not box.state.exists() and not box.share.exists()


def test_listing_changes_nothing(box):
    tool(box)
    run_of(box, "train-a1")
    before = sorted((path, path.lstat().st_mtime_ns) for path in box.home.rglob("*"))
    assert set(swept(box, superseded=True, finished=True, remove=False)) == {TOOL, "train-a1"}
    assert sorted((path, path.lstat().st_mtime_ns) for path in box.home.rglob("*")) == before
