"""The command for loops that comes with the shipped tool: it runs, survives its tool, and is linked only where it may be."""

import os
import subprocess

import pytest
from small_box import SmallBox

from fleet.arming.place import Linked, claim, link_ipc, ship_anyway
from fleet.arming.ship import build_pyz, onbox_name

PYZ, DIGEST = build_pyz()
NAME = onbox_name(DIGEST)


@pytest.fixture
def box(tmp_path):
    return SmallBox(tmp_path / "box")


def ipc(box, *words, program=None, **env):
    return subprocess.run(
        [program or box.share / "ipc", *words],
        env=box.env | env,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def test_it_is_there_with_the_tool_and_runs_its_ipc(box):
    ship_anyway(box.link(), PYZ, NAME, where="box")
    assert (box.share / "ipc").stat().st_mode & 0o777 == 0o700
    done = ipc(box, "list")
    assert (done.returncode, done.stdout) == (0, "No registered processes.\n"), done.stderr
    assert ipc(box, "peek", "no such $(loop)").returncode == 3
    before = (box.share / "ipc").stat().st_ino
    ship_anyway(box.link(), PYZ, NAME, where="box")
    assert (box.share / "ipc").stat().st_ino == before
    assert sorted(path.name for path in box.share.iterdir()) == ["ipc", NAME]


def test_without_its_tool_it_takes_the_newest_there_is_or_says_so(box):
    ship_anyway(box.link(), PYZ, NAME, where="box")
    older, newer = box.share / "onbox-000000000000.pyz", box.share / "onbox-ffffffffffff.pyz"
    older.write_text("no zip")
    newer.write_bytes(PYZ)
    os.utime(older, (1, 1))
    (box.share / NAME).unlink()
    assert ipc(box, "list").returncode == 0
    older.unlink()
    newer.unlink()
    gone = ipc(box, "list")
    assert gone.returncode == 2 and "its tool is gone" in gone.stderr


def test_a_box_without_python_says_so(box):
    ship_anyway(box.link(), PYZ, NAME, where="box")
    box.path = "/nowhere"
    tools = box.home / "tools"
    tools.mkdir()
    for tool in ("sh", "readlink"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    box.path = str(tools)
    done = subprocess.run(
        ["/bin/sh", str(box.share / "ipc"), "list"], env=box.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no Python 3.8" in done.stderr


def test_it_is_linked_where_its_owner_agreed_and_never_in_place_of_anything(box):
    folder = box.home / "bin"
    folder.mkdir()
    assert link_ipc(box.link(), folder=str(folder), where="box").word == "missing"
    ship_anyway(box.link(), PYZ, NAME, where="box")
    at = str(folder / "ipc")
    assert link_ipc(box.link(), folder=str(folder), where="box") == Linked("made", at)
    assert link_ipc(box.link(), folder="~/bin", where="box") == Linked("there", at)
    assert ipc(box, "list", program=folder / "ipc").returncode == 0
    for put in (
        lambda path: path.write_text("mine"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/nowhere"),
    ):
        other = box.home / f"bin{put.__code__.co_firstlineno}{id(put)}"
        other.mkdir()
        put(other / "ipc")
        was = os.lstat(other / "ipc")
        assert link_ipc(box.link(), folder=str(other), where="box").word == "taken"
        assert os.lstat(other / "ipc").st_ino == was.st_ino and not list(other.glob("ipc/*"))
    nowhere = link_ipc(box.link(), folder=str(box.home / "none $(id)"), where="box")
    assert nowhere.word == "failed" and nowhere.why.startswith("there is no folder")


def test_something_else_in_its_place_is_left(box):
    box.share.mkdir(parents=True)
    (box.share / "ipc").mkdir()
    assert ship_anyway(box.link(), PYZ, NAME, where="box").wrote
    assert (box.share / "ipc").is_dir() and sorted(path.name for path in box.share.iterdir()) == ["ipc", NAME]


def test_it_looks_where_the_newest_run_was_told_to_have_its_loops(box):
    ship_anyway(box.link(), PYZ, NAME, where="box")
    moved = box.home / "my $(touch x) loops"

    def arm(run_id, before, loops):
        took = claim(
            box.link(), state_dir=None, run_name="train", run_id=run_id, files={"plan": b"x"},
            expect_owner=before, limit_s=30, loops=loops,
        )  # fmt: skip
        assert took.fresh

    def folder(**env):
        # What may not be is named.
        moved.mkdir(mode=0o700, exist_ok=True)
        moved.chmod(0o777)
        (box.home / ".ipc").mkdir(mode=0o700, exist_ok=True)
        (box.home / ".ipc").chmod(0o777)
        return ipc(box, "list", **env).stderr

    assert str(box.home / ".ipc") in folder()
    arm("train-a1", None, "~/my $(touch x) loops")
    assert str(moved) in folder()
    assert f"ls -la '{moved}'" in folder()
    assert str(moved) not in folder(LOOPCTL_DIR=str(box.home / ".ipc"))
    arm("train-b2", "train-a1", None)
    assert str(moved) not in folder() and not (box.share / "loops").exists()
    assert not list(box.home.rglob("x"))
