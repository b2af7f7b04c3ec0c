"""The rig itself: what the other tests believe of a box must be so."""

import os
from pathlib import Path

import pytest
from box import Box, PlainBox
from sshd import all_pids, descendants
from waiting import wait_until


@pytest.mark.box
@pytest.mark.parametrize("user", ["dev", "root"])
def test_a_box_has_its_own_everything_and_leaves_nothing(make_box, user, tmp_path):
    box: Box = make_box(user=user, without=("tmux", "python3*"))
    shown = box.run(
        "id -un; pwd; hostname; cat /proc/sys/kernel/random/boot_id; command -v tmux python3 flock"
    )
    assert shown.stdout.split() == [user, box.inside_home, "gpu1", box.boot_id, "/run/box/tools/flock"]
    box.run("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo kept > ~/kept; echo lost > /tmp/lost")
    wait_until(lambda: list(box.processes().values()) == ["sleep 300"], 60, "only the sleep is left")
    old_boot, pids = box.boot_id, box.pids()
    box.reboot()
    assert box.processes() == {}
    assert box.boot_id != old_boot
    assert box.run("cat ~/kept; ls /tmp").stdout == "kept\n"
    box.stop()
    assert not box.folder.exists()
    assert str(box.folder) not in Path("/proc/mounts").read_text()
    assert not set(pids) & set(all_pids())


@pytest.mark.box
def test_a_box_counts_its_traffic_and_can_refuse_and_change_its_key(box: Box):
    before = box.traffic()
    assert box.run("exit 7").returncode == 7
    after = box.traffic()
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2, 1]  # ssh asks, then signs
    box.drop_sshd()
    assert "Connection refused" in box.run("true").stderr
    old = box.fingerprint
    box.raise_sshd()
    box.swap_host_key()
    assert box.fingerprint != old
    assert box.run("true").returncode == 0


@pytest.mark.box
def test_a_full_home_is_full(make_box):
    box: Box = make_box(home_mb=1)
    assert "No space left" in box.run("dd if=/dev/zero of=~/fill bs=64k count=100").stderr


def test_the_plain_box_needs_no_namespace_and_leaves_nothing(tmp_path):
    reason = PlainBox.available()
    if reason:
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    box = PlainBox.start(tmp_path / "plain")
    try:
        assert box.run("cd; pwd; echo ~").stdout.split() == [str(box.home)] * 2
        box.run("setsid env -i sleep 300 </dev/null >/dev/null 2>&1 &")
        wait_until(lambda: list(box.processes().values()) == ["sleep 300"], 60, "only the sleep is left")
        box.swap_host_key()
        assert box.run("true").returncode == 0
        pids = box.pids()
        box.kill()
        assert "Connection refused" in box.run("true").stderr
        box.start_again()
        assert box.run("echo again").stdout == "again\n"
    finally:
        box.stop()
    assert not box.folder.exists()
    assert not set(pids) & set(all_pids())
    assert not [pid for pid in descendants(os.getpid()) if pid in pids]
