"""Memory groups as real trees of files: both versions, nested, with and without limits, and what is missing."""

import pytest

from onbox.meter.cgroup import Group, Use, kills_of, levels
from onbox.meter.files import Files
from onbox.meter.kills import Kills

MIB = 1 << 20
V1_NO_LIMIT = 9223372036854771712
V2 = b"30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = b"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
BESIDE = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


def v2(root, path, used, limit="max", *, peak=None, kills=None):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.max").write_text(f"{limit}\n")
    if peak is not None:
        (folder / "memory.peak").write_text(f"{peak}\n")
    if kills is not None:
        (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 4\noom 1\noom_kill {kills}\n")
    return folder


def v1(root, path, used, limit=V1_NO_LIMIT, *, peak=0, kills=0):
    folder = root / "sys/fs/cgroup/memory" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.max_usage_in_bytes").write_text(f"{peak}\n")
    (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
    return folder


def group(root, membership, mounts):
    return Group(levels(membership, mounts, str(root)), Files())


def test_v2_the_level_with_the_least_room_counts(tmp_path):  # R43
    v2(tmp_path, "a", 900 * MIB, 1000 * MIB)
    v2(tmp_path, "a/b", 500 * MIB, 510 * MIB)
    v2(tmp_path, "a/b/c", 400 * MIB)
    found = group(tmp_path, b"0::/a/b/c\n", V2)
    assert found.version == "v2"
    assert found.use(0) == Use(500 * 1024, 510 * 1024, None)


def test_v1_its_largest_number_is_no_limit(tmp_path):  # R43
    v1(tmp_path, "", 5000 * MIB)
    v1(tmp_path, "docker", 700 * MIB, 800 * MIB)
    v1(tmp_path, "docker/x", 600 * MIB)
    membership = b"9:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/docker/x\n"
    found = group(
        tmp_path, membership, BESIDE + V1 + V2.replace(b"/sys/fs/cgroup", b"/sys/fs/cgroup/unified")
    )
    assert found.version == "v1"
    assert found.use(0) == Use(700 * 1024, 800 * 1024, None)


def test_without_any_limit_the_nearest_level_is_told(tmp_path):
    v2(tmp_path, "a", 900 * MIB)
    v2(tmp_path, "a/b", 500 * MIB)
    assert group(tmp_path, b"0::/a/b\n", V2).use(0) == Use(500 * 1024, None, None)


@pytest.mark.parametrize("membership", [b"", b"0::/a\n", b"garbage\n", b"4:cpu:/a\n", b"0::/../../x\n"])
def test_no_group_is_none(tmp_path, membership):
    found = group(tmp_path, membership, V2)
    assert (found.version, found.use(0), found.kills()) == (None, None, None)
    assert group(tmp_path, membership, b"\n - \nx y - z\n").use(0) is None


def test_a_container_sees_its_own_group_at_the_top_of_the_mount(tmp_path):
    v1(tmp_path, "", 300 * MIB, 400 * MIB)
    mounts = BESIDE + V1.replace(b"0:32 / ", b"0:32 /docker/x ")
    assert group(tmp_path, b"4:memory:/docker/x\n", mounts).use(0) == Use(300 * 1024, 400 * 1024, None)
    v1(tmp_path, "inner", 100 * MIB, 110 * MIB)
    assert group(tmp_path, b"4:memory:/docker/x/inner\n", mounts).use(0) == Use(100 * 1024, 110 * 1024, None)
    assert group(tmp_path, b"4:memory:/elsewhere\n", mounts).use(0) == Use(300 * 1024, 400 * 1024, None)


def test_a_mount_with_a_space_in_its_path(tmp_path):
    folder = tmp_path / "odd place"
    v2(folder, "", 7 * MIB, 9 * MIB)
    mounts = V2.replace(
        b" /sys/fs/cgroup ", b" " + str(folder).replace(" ", "\\040").encode() + b"/sys/fs/cgroup "
    )
    assert group("", b"0::/\n", mounts).use(0) == Use(7 * 1024, 9 * 1024, None)


def test_a_peak_counts_from_when_it_rose(tmp_path):
    folder = v2(tmp_path, "a", 100 * MIB, 1000 * MIB, peak=800 * MIB)
    found = group(tmp_path, b"0::/a\n", V2)
    assert found.use(0) == Use(100 * 1024, 1000 * 1024, None), "it was that high before we came"
    (folder / "memory.peak").write_text(f"{900 * MIB}\n")
    assert found.use(100) == Use(100 * 1024, 1000 * 1024, 900 * 1024)


def test_a_limit_that_changes_is_seen(tmp_path):
    folder = v2(tmp_path, "a", 100 * MIB, 1000 * MIB)
    found = group(tmp_path, b"0::/a\n", V2)
    assert found.use(0) == Use(100 * 1024, 1000 * 1024, None)
    (folder / "memory.max").write_text(f"{200 * MIB}\n")
    (folder / "memory.current").write_text(f"{150 * MIB}\n")
    assert found.use(100) == Use(150 * 1024, 200 * 1024, None)


def test_who_counts_kills(tmp_path):
    v2(tmp_path, "a", MIB, kills=7)
    v2(tmp_path, "a/b", MIB)
    assert group(tmp_path, b"0::/a/b\n", V2).kills() == 7, "the nearest level that has the file"
    v1(tmp_path, "x", MIB, kills=3)
    assert group(tmp_path, b"4:memory:/x\n", V1).kills() == 3


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"oom_kill 5\n", 5),
        (b"oom 9\noom_kill 5\noom_group_kill 2\n", 5),
        (b"oom_kill_disable 0\n", None),
        (b"", None),
        (b"oom_kill x\n", None),
    ],
)
def test_the_line_of_kills(raw, count):
    assert kills_of(raw) == count


class Machine:
    """The machine's count, as the kernel has it beside the groups'."""

    count = 5

    def kills(self):
        return self.count


def killed(tmp_path):
    folder = v2(tmp_path, "a", MIB, kills=2)
    return folder, Kills(group(tmp_path, b"0::/a\n", V2), Machine(), 0.0)


def test_a_command_that_was_killed_while_the_count_rose(tmp_path):
    _, kills = killed(tmp_path)
    assert kills.scope == "cgroup"
    v2(tmp_path, "a", MIB, kills=3)
    kills.look(10, ["root"])
    assert kills.seen() == (2, 3, "cgroup")
    assert kills.hit(10, 9) and kills.hit(10, None), "itself, or one of its tree"
    assert not kills.hit(10_000, None), "that was long ago"


def test_a_command_that_was_killed_by_somebody_else(tmp_path):
    _, kills = killed(tmp_path)
    kills.look(10, ["root"])
    assert kills.seen() == (2, 2, "cgroup")
    assert not kills.hit(10, 9)


def test_the_count_rose_for_somebody_else_long_before(tmp_path):
    _, kills = killed(tmp_path)
    v2(tmp_path, "a", MIB, kills=3)
    kills.look(10, [])
    kills.look(500, ["one"])
    assert not kills.hit(500, 9)


def test_a_command_that_was_killed_a_moment_after_the_last_count(tmp_path):
    _, kills = killed(tmp_path)
    v2(tmp_path, "a", MIB, kills=3)
    kills.look(0.1, [])
    assert kills.seen() == (2, 2, "cgroup"), "so soon nobody asks again"
    kills.look(0.2, [], last=True)
    assert kills.seen() == (2, 3, "cgroup") and kills.hit(0.2, 9)


def test_who_dies_slowly_is_still_a_victim(tmp_path):
    _, kills = killed(tmp_path)
    v2(tmp_path, "a", MIB, kills=3)
    kills.look(10, [])  # the count rose; its memory takes a while to go
    kills.look(30, ["one"])
    assert kills.hit(40, None)


def test_without_a_group_the_machine_counts():
    kills = Kills(Group([], Files()), Machine(), 0.0)
    assert kills.seen() == (5, 5, "machine")
    Machine.count = 6
    try:
        kills.look(1, ["one"])
    finally:
        Machine.count = 5
    assert kills.seen() == (5, 6, "machine") and kills.hit(1, None)
