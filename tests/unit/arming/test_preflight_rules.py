import msgspec
import pytest

from fleet.arming.preflight import BoxReport
from fleet.arming.preflight_rules import (
    FREE_BYTES_MIN,
    FREE_INODES_MIN,
    REFUSALS,
    REMARKS,
    has_pipe,
    is_network_fs,
    refusals,
    warnings,
)
from fleet.model.spec import BoxSpec, RunSpec, Stage

GOOD = BoxReport(
    box="gpu1",
    home="/home/dev",
    state_dir="/home/dev/.local/state/babysit",
    state_error=None,
    state_fs="ext4",
    free_bytes=10**9,
    free_inodes=10**6,
    lock_dir="/home/dev/.local/state/babysit",
    lock_error=None,
    lock_fs="ext4",
    cwd="/home/dev/job",
    cwd_there=True,
    os="Ubuntu 22.04",
    arch="x86_64",
    sh="/usr/bin/dash",
    bash="/usr/bin/bash",
    python="/usr/bin/python3",
    python_version="3.10.12",
    tmux="tmux 3.2a",
    setsid="/usr/bin/setsid",
    flock="/usr/bin/flock",
    perl="/usr/bin/perl",
    timeout="/usr/bin/timeout",
    gpus=("NVIDIA H100",),
    uid=1000,
    user="dev",
    boot_id="b",
    machine_id="m",
    box_id="0" * 32,
    onbox_sum=None,
    owner=None,
    now=1000.0,
    skew_s=0.3,
    noise_bytes=0,
    took_s=0.1,
)
BOX = BoxSpec("gpu1", "gpu1.example")


def spec(command="python train.py", **fields):
    return RunSpec("train", (Stage("train", command, **fields),))


def changed(**fields):
    return msgspec.structs.replace(GOOD, **fields)


def refused(report, run=None, box=BOX):
    return [error.what for error in refusals(report, run or spec(), box)]


def test_a_good_box_has_nothing_against_it():
    assert refusals(GOOD, spec(), BOX) == ()
    assert warnings(GOOD, spec(), BOX) == ()


NFS = {"lock_fs": "nfs4", "state_fs": "nfs4"}
REFUSED = [
    ({"flock": None, "python": None, "perl": None}, {}, "no tool to take locks"),
    ({"free_bytes": FREE_BYTES_MIN - 1}, {}, "disk full: 4.19 MB free"),
    ({"free_bytes": 0}, {}, "disk full: 0 B free"),
    ({"free_inodes": FREE_INODES_MIN - 1}, {}, "no inodes left: 63 free"),
    ({"state_error": "mkdir: Read-only file system"}, {}, "cannot write the state folder /home/dev/.local"),
    ({"lock_error": "Permission denied", "lock_dir": "/locks"}, {}, "cannot write the lock folder /locks"),
    ({"box_id": None}, {}, "the box's own id is damaged"),
    (NFS, {}, "locks cannot be trusted on nfs4"),
    ({"bash": None}, {"command": "python train.py | tee log"}, "no bash, and stage train has a pipe"),
    ({}, {"command": "python prepare.py\r\npython train.py"}, "stage train: a line ends in a carriage"),
    ({}, {"command": "python train.py\r"}, "stage train: a line ends in a carriage return"),
    ({"cwd_there": False}, {}, "no such folder on the box: /home/dev/job"),
    ({}, {"command": "x" * 300_000}, "too long: the run's commands have 300 kB in all"),
]


@pytest.mark.parametrize(("fields", "run", "words"), REFUSED, ids=[words[:30] for _, _, words in REFUSED])
def test_each_reason_alone_refuses_and_says_what_where_and_next(fields, run, words):  # R70
    found = refusals(changed(**fields), spec(**run), BOX)
    assert [error.what.startswith(words) for error in found] == [True], [error.what for error in found]
    assert found[0].where == "gpu1"
    assert found[0].hint
    assert found[0].next
    assert found[0].exit_code == 2


def test_every_row_of_refusals_is_reached_by_a_case():
    reached = {
        index for fields, run, _ in REFUSED for index, row in enumerate(REFUSALS) if _holds(row, fields, run)
    }
    assert reached == set(range(len(REFUSALS)))


def _holds(row, fields, run):
    from fleet.arming.preflight_rules import Asked

    return row.when(Asked(changed(**fields), spec(**run), BOX))


NEIGHBOURS = [
    ({"flock": None, "python": None}, {}),  # perl is left
    ({"flock": None, "perl": None}, {}),
    ({"free_bytes": FREE_BYTES_MIN}, {}),
    ({"free_bytes": None}, {}),  # not known is not full
    ({"free_inodes": FREE_INODES_MIN}, {}),
    ({"free_inodes": None}, {}),  # a file system that counts none
    ({"state_error": "full", "box_id": None, "free_bytes": 1}, {"only": 2}),  # the id is not blamed as well
    ({"bash": None}, {"command": "a || b"}),
    ({"bash": None}, {"command": "a | b", "strict": False}),
    ({"lock_fs": None}, {}),
    ({"cwd": None, "cwd_there": None}, {}),
    ({}, {"command": "x" * 250_000}),
    ({}, {"command": "printf 'a\rb'"}),  # its owner's own, inside of a line
]


@pytest.mark.parametrize(("fields", "run"), NEIGHBOURS)
def test_the_neighbour_of_each_reason_is_not_refused(fields, run):
    run = dict(run)
    expected = run.pop("only", 0)
    assert len(refused(changed(**fields), spec(**run))) == expected


def test_all_reasons_are_reported_at_once():
    worst = changed(
        flock=None,
        python=None,
        perl=None,
        free_bytes=0,
        free_inodes=0,
        lock_fs="nfs",
        bash=None,
        cwd_there=False,
    )
    assert len(refused(worst, spec("a | b"))) == 6


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *[
            (kind, True)
            for kind in ("nfs", "nfs4", "lustre", "fuse.sshfs", "fuse.juicefs", "cifs", "9p", "ceph", "gpfs")
        ],
        *[(kind, True) for kind in ("smb2", "smb3", "beegfs", "glusterfs", "fuse")],
        *[
            (kind, False)
            for kind in ("ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk", "ext2/ext3", None)
        ],
    ],
)
def test_network_file_systems_are_known_by_name(kind, network):
    assert is_network_fs(kind) is network


def test_a_lock_dir_on_a_local_disk_lets_records_stay_on_nfs():
    box = msgspec.structs.replace(BOX, lock_dir="/scratch/locks")
    assert refused(changed(state_fs="nfs4", lock_fs="xfs"), box=box) == []
    assert refused(changed(state_fs="nfs4", lock_fs="nfs4"), box=box) != []


@pytest.mark.parametrize(
    ("command", "pipe"),
    [
        ("python t.py | tee log", True),
        ("python t.py 2>&1|tee log", True),
        ("a |& b", True),
        ('x="$(a | b)"', True),
        ("a && b | c", True),
        ("a || b", False),
        ("a >| b", False),
        ("grep 'a|b' f", False),
        ('grep "a|b" f', False),
        ("grep a\\|b f", False),
        ("a", False),
        ("", False),
    ],
)
def test_pipes_are_told_from_other_bars(command, pipe):  # R61 D6
    assert has_pipe(command) is pipe


REMARKED = [
    ({"tmux": None}, {}, "no tmux: the run is detached by setsid"),
    ({"tmux": None, "setsid": None}, {}, "neither tmux nor setsid"),
    ({"python": None}, {}, "no python 3.8"),
    (
        {"python": None},
        {"monitor": True},
        "no python 3.8 or newer: a stage's signal is not told from its exit status, and train is not watched",
    ),
    ({"bash": None}, {}, "no bash: stages run by sh"),
    ({"timeout": None}, {}, "no timeout"),
    ({"gpus": None}, {}, "no nvidia-smi"),
    ({"gpus": ()}, {}, "nvidia-smi sees no GPU"),
    ({"noise_bytes": 120}, {}, "the login shell prints 120 B"),
    ({}, {"command": "docker run x"}, "what train (docker) starts is not seen"),
    ({}, {"command": "cd x && sbatch job.sh"}, "what train (sbatch) starts"),
    ({}, {"command": "/usr/bin/ssh node2 run"}, "what train (ssh) starts"),
    ({}, {"command": "env -i python t.py"}, "train (env -i) takes PYTHONUNBUFFERED away"),
    ({"skew_s": 61.0}, {}, "the box's clock is 1 min ahead"),
    ({"skew_s": -7200.0}, {}, "the box's clock is 2 h behind"),
    ({"state_fs": "tmpfs"}, {}, "the records lie on tmpfs"),
]


@pytest.mark.parametrize(("fields", "run", "words"), REMARKED, ids=[words[:30] for _, _, words in REMARKED])
def test_what_works_less_well_is_said_and_stops_nothing(fields, run, words):
    report = changed(**fields)
    assert [text.startswith(words) for text in warnings(report, spec(**run), BOX)] == [True]
    assert refusals(report, spec(**run), BOX) == ()


def test_every_row_of_remarks_is_reached_by_a_case():
    from fleet.arming.preflight_rules import Asked

    asked = [Asked(changed(**fields), spec(**run), BOX) for fields, run, _ in REMARKED]
    assert all(any(row.when(one) for one in asked) for row in REMARKS)


@pytest.mark.parametrize(
    "command",
    [
        "python docker_data.py",
        "cat ~/.ssh/config",
        "ls --ssh",
        "./sshfs x",
        "python srun.py",
        "python t.py --docker=1",
    ],
)
def test_words_that_only_look_like_it_are_not_warned_of(command):
    assert warnings(GOOD, spec(command), BOX) == ()


@pytest.mark.parametrize("skew_s", [60.0, -60.0])
def test_a_minute_of_skew_is_nothing_to_speak_of(skew_s):
    assert warnings(changed(skew_s=skew_s), spec(), BOX) == ()


def test_text_of_the_box_cannot_act_on_a_screen():  # S23
    report = changed(state_error="\x1b]0;owned\x07\nmore", state_dir="/x\x1b[31m")
    [error] = refusals(report, spec(), BOX)
    assert "\x1b" not in error.what + error.hint + "".join(error.next)
