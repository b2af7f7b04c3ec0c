import os
import subprocess
import time

import msgspec
import pytest
from small_box import SHELLS, SmallBox, small_path

from fleet.arming.ask import ask
from fleet.arming.place import Claim, claim, put_file, ship
from fleet.arming.preflight import preflight
from fleet.arming.ship import build_pyz, onbox_name
from fleet.errors import BoxRefused, NotFound, ProbeUnreadable, UsageError
from fleet.model.spec import BoxSpec
from fleet.text.frame import cksum

FILES = {
    "plan": b"format=1\nrun=train\n",
    "nonce": b"0" * 32 + b"\n",
    "empty": b"",
    "stages/01-train.sh": bytes(range(256)) * 300,
    "chain-00112233.sh": b"exit 0\n",
}
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture(params=SHELLS)
def any_box(request, tmp_path):
    return SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=request.param))


@pytest.fixture
def box(tmp_path):
    return SmallBox(tmp_path / "box")


def take(box, run_id, *, name="train", expect=None, files=FILES, link=None):
    return claim(
        link or box.link(),
        state_dir=None,
        run_name=name,
        run_id=run_id,
        files=files,
        expect_owner=expect,
        limit_s=30,
    )


def look(box, name):
    return preflight(box.link(), box=BoxSpec("gpu1", "h"), run_name="train", onbox_name=name, limit_s=30)


def whole(run_id, files=FILES):
    """What a whole run leaves in `SmallBox.tree`."""
    folders = {f"runs/{run_id}": "dir", f"runs/{run_id}/stages": "dir", f"runs/{run_id}/markers": "dir"}
    return folders | {f"runs/{run_id}/{path}": content for path, content in files.items()}


def test_a_free_name_is_claimed_with_every_byte_in_place(any_box):  # S37
    assert take(any_box, "train-a1") == Claim("train-a1", fresh=True)
    expected = {"runs": "dir", "names": "dir", "names/train": "-> train-a1"} | whole("train-a1")
    assert any_box.tree() == expected
    assert {
        path.stat().st_mode & 0o777 for path in (any_box.state / "runs").rglob("*") if path.is_file()
    } == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (any_box.state / "runs").rglob("*") if path.is_dir()} == {
        0o700
    }


def test_a_second_claimer_is_told_the_owner_and_leaves_nothing(any_box):
    take(any_box, "train-a1")
    before = any_box.tree()
    assert take(any_box, "train-b2") == Claim("train-a1", fresh=False)
    assert any_box.tree() == before


def test_claiming_again_with_the_same_id_changes_nothing(any_box):  # P1
    take(any_box, "train-a1")
    before = any_box.tree()
    assert take(any_box, "train-a1", files={"plan": b"other"}) == Claim("train-a1", fresh=False)
    assert any_box.tree() == before


def test_a_claim_cut_after_its_folder_stood_is_finished_by_the_next(any_box):
    take(any_box, "train-a1")
    (any_box.state / "names/train").unlink()
    assert take(any_box, "train-a1") == Claim("train-a1", fresh=True)
    assert any_box.tree()["names/train"] == "-> train-a1"


def test_with_the_right_owner_expected_the_name_moves_on(any_box):
    take(any_box, "train-a1")
    assert take(any_box, "train-b2", expect="train-a1") == Claim("train-b2", fresh=True)
    tree = any_box.tree()
    assert tree["names/train"] == "-> train-b2"
    assert whole("train-a1").items() <= tree.items()  # its log and records stay
    assert whole("train-b2").items() <= tree.items()


def test_with_a_wrong_owner_expected_the_present_one_is_answered(any_box):
    take(any_box, "train-a1")
    take(any_box, "train-b2", expect="train-a1")
    before = any_box.tree()
    assert take(any_box, "train-c3", expect="train-a1") == Claim("train-b2", fresh=False)
    assert any_box.tree() == before


def test_expecting_an_owner_where_there_is_none_takes_the_name(any_box):
    assert take(any_box, "train-b2", expect="train-a1") == Claim("train-b2", fresh=True)


def test_a_superseded_run_never_gets_its_name_back(any_box):
    take(any_box, "train-a1")
    take(any_box, "train-b2", expect="train-a1")
    before = any_box.tree()
    assert take(any_box, "train-a1", expect="train-b2") == Claim("train-b2", fresh=False)
    assert any_box.tree() == before


def test_a_name_left_behind_by_a_killed_successor_is_read_past_and_mended(any_box):
    take(any_box, "train-a1")
    take(any_box, "train-b2", expect="train-a1")
    (any_box.state / "names/train").unlink()
    (any_box.state / "names/train").symlink_to("train-a1")  # .after-train-a1 was made, the name not moved yet
    assert look(any_box, "onbox-0.pyz").owner == "train-b2"
    assert take(any_box, "train-c3", expect="train-a1") == Claim("train-b2", fresh=False)
    assert any_box.tree()["names/train"] == "-> train-b2"


def test_names_do_not_meet_each_other(any_box):
    take(any_box, "train-a1")
    assert take(any_box, "eval-a1", name="eval") == Claim("eval-a1", fresh=True)
    assert take(any_box, "t-1", name="train-a1") == Claim("t-1", fresh=True)  # a name like another's run id


def test_a_name_that_is_a_folder_is_refused_and_ours_is_gone(any_box):
    (any_box.state / "names/train").mkdir(parents=True)
    with pytest.raises(BoxRefused, match=r"cannot write .*names/train"):
        take(any_box, "train-a1")
    assert list((any_box.state / "runs").iterdir()) == []


def test_what_killed_claims_left_is_swept_after_a_day(any_box):
    runs = any_box.state / "runs"
    for name, age_s in ((".new-old.1", 100_000), (".new-young.1", 3600), ("train-z9", 100_000)):
        (runs / name / "stages").mkdir(parents=True)
        os.utime(runs / name, (time.time() - age_s,) * 2)
    take(any_box, "train-a1")
    assert {path.name for path in runs.iterdir()} == {".new-young.1", "train-z9", "train-a1"}


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/b/c", "-x", ".x", "a/.x", "a b", "a\nb", "", "a/", "$(x)", "a/../b"]
)
def test_a_file_that_is_no_file_of_a_run_is_never_sent(box, path):  # S16
    with pytest.raises(UsageError):
        take(box, "train-a1", files={path: b"x"})
    assert not box.state.exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/b/c", "-x", ".x", "a/.x", "a/", "$(x)", "a/../b"])
def test_the_script_itself_refuses_such_a_file_too(any_box, path):  # S16
    pairs = [
        ("act", "claim"),
        ("run", "train"),
        ("id", "train-a1"),
        ("expect", "-"),
        ("sum", "0"),
        ("file", f"{path} 1"),
    ]
    with pytest.raises(ProbeUnreadable, match="not a file of a run"):
        ask(any_box.link(), ("frame", "ground", "place"), pairs, where="x", limit_s=60, payload=b"x")
    assert not any_box.state.exists()


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_payload_that_came_cut_makes_no_run(any_box, cut):
    payload = b"".join(FILES.values())
    pairs = [
        ("act", "claim"),
        ("run", "train"),
        ("id", "train-a1"),
        ("expect", "-"),
        ("sum", str(cksum(payload))),
    ]
    pairs += [("file", f"{path} {len(content)}") for path, content in FILES.items()]
    with pytest.raises(ProbeUnreadable, match="damaged or cut"):
        ask(
            any_box.link(), ("frame", "ground", "place"), pairs, where="x", limit_s=60, payload=payload[:-cut]
        )
    assert any_box.tree() == {"names": "dir", "runs": "dir"}


@root_only
@pytest.mark.parametrize("option", ["size=64k", "nr_inodes=12"])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_full_disk_refuses_the_claim_and_nothing_stays(tmp_path, option, shell):
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "small", str(home)], check=True)
    try:
        box = SmallBox(home, small_path(tmp_path / "bin", shell=shell))
        with pytest.raises(BoxRefused, match=r"cannot write .*train-a1") as caught:
            take(box, "train-a1")
        assert "small" in caught.value.hint  # the df line
        assert box.tree() == {"names": "dir", "runs": "dir"}
        subprocess.run(["mount", "-o", "remount,size=4m,nr_inodes=200", str(home)], check=True)
        assert take(box, "train-a1") == Claim("train-a1", fresh=True)
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_shipping_twice_writes_once(any_box):
    pyz, digest = build_pyz()
    name = onbox_name(digest)
    stale = look(any_box, name)
    first = ship(any_box.link(), stale, pyz, name)
    assert first.wrote
    inode = (any_box.share / name).stat().st_ino
    again = ship(any_box.link(), stale, pyz, name)  # from a report that does not know of it yet
    known = ship(any_box.link(), look(any_box, name), pyz, name)
    assert (again.wrote, known.wrote) == (False, False)
    assert first.path == again.path == known.path == str(any_box.share / name)
    assert (any_box.share / name).read_bytes() == pyz
    assert (any_box.share / name).stat().st_ino == inode
    assert sorted(path.name for path in any_box.share.iterdir()) == ["ipc", name]


def test_a_known_tool_costs_no_visit(box):
    pyz, digest = build_pyz()
    name = onbox_name(digest)
    ship(box.link(), look(box, name), pyz, name)
    assert not ship(None, look(box, name), pyz, name).wrote


@pytest.mark.parametrize("damage", [b"", b"short", "same size", "link"])
def test_a_damaged_tool_of_the_same_name_is_replaced(any_box, damage):
    pyz, digest = build_pyz()
    name = onbox_name(digest)
    any_box.share.mkdir(parents=True)
    target = any_box.share / name
    if damage == "link":
        (any_box.home / "victim").write_bytes(b"mine")
        target.symlink_to(any_box.home / "victim")
    else:
        target.write_bytes(b"\0" * len(pyz) if damage == "same size" else damage)
    assert ship(any_box.link(), look(any_box, name), pyz, name).wrote
    assert not target.is_symlink()
    assert target.read_bytes() == pyz
    if damage == "link":
        assert (any_box.home / "victim").read_bytes() == b"mine"


def test_a_folder_where_the_tool_belongs_is_refused(any_box):
    pyz, digest = build_pyz()
    name = onbox_name(digest)
    (any_box.share / name).mkdir(parents=True)
    with pytest.raises(BoxRefused, match="no plain file"):
        ship(any_box.link(), look(any_box, name), pyz, name)
    assert [path.name for path in any_box.share.rglob("*")] == [name]


def test_the_shipped_tool_runs_from_where_it_was_put(box):
    pyz, digest = build_pyz()
    report = look(box, onbox_name(digest))
    path = ship(box.link(), report, pyz, onbox_name(digest)).path
    ran = subprocess.run(
        [report.python, path, "version"], capture_output=True, text=True, check=True, env=box.env
    )
    assert ran.stdout.startswith("onbox ")


def test_the_handbook_is_replaced_as_a_whole(any_box):
    take(any_box, "train-a1")
    for content in (b"first\n", b"", b"\x00\xff second" * 5000):
        put_file(any_box.link(), state_dir=None, run_id="train-a1", name="handbook.md", content=content)
        assert (any_box.state / "runs/train-a1/handbook.md").read_bytes() == content
    assert set(any_box.tree()) == {
        "runs",
        "names",
        "names/train",
        *whole("train-a1"),
        "runs/train-a1/handbook.md",
    }


def test_a_budget_that_a_person_raised_is_replaced(box):
    take(box, "train-a1", files=FILES | {"budget": b"3\n"})
    put_file(box.link(), state_dir=None, run_id="train-a1", name="budget", content=b"4\n")
    assert (box.state / "runs/train-a1/budget").read_bytes() == b"4\n"


def test_a_handbook_for_a_run_that_is_not_there_is_not_found(any_box):
    with pytest.raises(NotFound, match="no run train-a1"):
        put_file(
            any_box.link(), state_dir=None, run_id="train-a1", name="handbook.md", content=b"x" * 100_000
        )


@pytest.mark.parametrize("name", ["plan", "../handbook.md", "", "spec.json"])
def test_nothing_that_is_fixed_at_arm_is_ever_put(box, name):  # R69
    with pytest.raises(UsageError):
        put_file(box.link(), state_dir=None, run_id="train-a1", name=name, content=b"")


def test_a_link_in_place_of_the_handbook_is_replaced_not_followed(any_box):  # S37
    take(any_box, "train-a1")
    victim = any_box.home / "victim"
    victim.write_bytes(b"mine")
    (any_box.state / "runs/train-a1/handbook.md").symlink_to(victim)
    put_file(any_box.link(), state_dir=None, run_id="train-a1", name="handbook.md", content=b"new")
    assert victim.read_bytes() == b"mine"
    assert (any_box.state / "runs/train-a1/handbook.md").read_bytes() == b"new"


def test_a_moved_state_folder_is_used_everywhere(box, tmp_path):
    spec = BoxSpec("gpu1", "h", state_dir=str(tmp_path / "vol ume"))
    preflight(box.link(), box=spec, run_name="train", onbox_name="onbox-0.pyz", limit_s=30)
    claimed = claim(
        box.link(),
        state_dir=spec.state_dir,
        run_name="train",
        run_id="train-a1",
        files=FILES,
        expect_owner=None,
        limit_s=30,
    )
    put_file(box.link(), state_dir=spec.state_dir, run_id="train-a1", name="handbook.md", content=b"x")
    assert msgspec.structs.asdict(claimed) == {"owner": "train-a1", "fresh": True}
    assert (tmp_path / "vol ume/runs/train-a1/handbook.md").read_bytes() == b"x"
    assert not box.state.exists()
