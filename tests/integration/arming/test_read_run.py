import hashlib
import os

import msgspec
import pytest
from small_box import SHELLS, SmallBox, small_path

from fleet.arming.place import claim
from fleet.arming.read_run import list_runs, read_run, tail_log
from fleet.errors import NotFound, ProbeUnreadable, UsageError
from fleet.link.local import LocalLink
from fleet.model.spec import RunSpec, Stage

SPEC = RunSpec("train", (Stage("prep", "echo 'é' | cat"), Stage("train", "python t.py")), cwd="~/jöb")
NONCE = "0123456789abcdef" * 2
TAG = f"train-a1-{hashlib.sha256(NONCE.encode()).hexdigest()[:16]}"
CWD = "/home/dev/jö\u2028b\x85"
PLAN = f"""format=1
run=train
run_id=train-a1
tag={TAG}
chain=chain-0123abcd.sh
onbox=/home/dev/onbox-0.pyz
python=-
lockdir=/home/dev/locks
cwd={CWD}
spec_digest=00ff
stage=01-prep 4503599627370001 fail 1
stage=02-train 4503599627370002 allow 0
"""
FILES = {
    "plan": PLAN.encode(),
    "spec.json": msgspec.json.encode(SPEC),
    "nonce": f"{NONCE}\n".encode(),
    "budget": b"3\n",
}


@pytest.fixture(params=SHELLS)
def box(request, tmp_path):
    return SmallBox(tmp_path / "box", small_path(tmp_path / "bin", shell=request.param))


@pytest.fixture
def armed(box):
    take(box, "train-a1", FILES)
    return box


def take(box, run_id, files, *, name="train", expect=None):
    return claim(
        box.link(), state_dir=None, run_name=name, run_id=run_id, files=files, expect_owner=expect, limit_s=30
    )


def read(box, name="train"):
    return read_run(box.link(), state_dir=None, run_name_or_id=name)


def log(box, content):
    (box.state / "runs/train-a1/run.log").write_bytes(content)


def tail(box, max_bytes, from_byte=None):
    return tail_log(box.link(), state_dir=None, run_id="train-a1", max_bytes=max_bytes, from_byte=from_byte)


@pytest.mark.parametrize("name", ["train", "train-a1"])
def test_a_run_is_read_back_by_name_and_by_id(armed, name):
    found = read(armed, name)
    assert (found.run_id, found.run, found.owner, found.tag) == ("train-a1", "train", "train-a1", TAG)
    assert (found.nonce, found.budget, found.spec) == (NONCE, 3, SPEC)
    assert (found.chain, found.onbox, found.python) == ("chain-0123abcd.sh", "/home/dev/onbox-0.pyz", None)
    assert (found.lock_dir, found.cwd, found.spec_digest) == ("/home/dev/locks", CWD, "00ff")
    assert found.stages == (
        ("01-prep", 4503599627370001, "fail", True),
        ("02-train", 4503599627370002, "allow", False),
    )
    assert found.folder == str(armed.state / "runs/train-a1")


def test_a_plan_whose_locks_lie_with_the_run_names_no_lock_folder(box):
    take(box, "train-a1", FILES | {"plan": PLAN.replace("lockdir=/home/dev/locks", "lockdir=-").encode()})
    assert read(box).lock_dir is None


def test_a_folder_of_loops_is_read_back_and_is_none_where_the_plan_names_none(box):
    take(box, "train-a1", FILES | {"plan": f"{PLAN}loops=/data/my loops\n".encode()})
    assert read(box).loops == "/data/my loops"
    take(box, "train-b2", FILES | {"plan": PLAN.replace("train-a1", "train-b2").encode()}, expect="train-a1")
    assert read(box).loops is None


def test_a_run_with_watched_stages_is_read_back(box):
    watched = RunSpec("train", tuple(msgspec.structs.replace(stage, monitor=True) for stage in SPEC.stages))
    plan = f"{PLAN}monitor=01-prep 02-train\n".encode()
    take(box, "train-a1", FILES | {"plan": plan, "spec.json": msgspec.json.encode(watched)})
    assert [stage.monitor for stage in read(box).spec.stages] == [True, True]


def test_reading_writes_nothing(armed):  # R58
    log(armed, b"x\n")
    before = armed.tree()
    read(armed), list_runs(armed.link(), state_dir=None, where="gpu1"), tail(armed, 10)
    assert armed.tree() == before


def test_on_a_box_that_was_never_armed_there_is_nothing_and_nothing_is_made(box):  # R58
    assert read(box) is None
    assert list_runs(box.link(), state_dir=None, where="gpu1") == ()
    assert not box.state.exists()


def test_a_superseded_run_read_by_its_id_tells_who_came_after(armed):
    second = PLAN.replace("train-a1", "train-b2").encode()
    take(armed, "train-b2", FILES | {"plan": second}, expect="train-a1")
    assert read(armed).run_id == "train-b2"
    assert (read(armed, "train-a1").run_id, read(armed, "train-a1").owner) == ("train-a1", "train-b2")


def test_a_name_whose_run_is_gone_is_said(armed):
    (armed.state / "runs/train-a1").rename(armed.home / "moved")
    with pytest.raises(NotFound, match="belongs to train-a1, whose folder is gone"):
        read(armed)


SPEC_TEXT = FILES["spec.json"]
DAMAGED = {
    "spec is cut": ("spec.json", SPEC_TEXT[:-2]),
    "spec is empty": ("spec.json", b""),
    "spec has a wrong type": ("spec.json", SPEC_TEXT.replace(b'"budget":3', b'"budget":"3"')),
    "spec is no UTF-8": ("spec.json", SPEC_TEXT.replace(b"python", b"\xff\xfepy")),
    "spec nests deep": ("spec.json", b"[" * 200_000),
    "spec is too long": ("spec.json", SPEC_TEXT + b" " * 262_144),
    "spec has a hostile stage": ("spec.json", SPEC_TEXT.replace(b'"name":"prep"', b'"name":"../x"')),
    "spec is another run's": (
        "spec.json",
        SPEC_TEXT.replace(b'"name":"train","stages"', b'"name":"other","stages"'),
    ),
    "plan of another run": ("plan", PLAN.replace("run_id=train-a1", "run_id=train-zz").encode()),
    "plan of another format": ("plan", PLAN.replace("format=1", "format=2").encode()),
    "plan is cut": ("plan", PLAN.encode()[:60]),
    "plan has no stage": ("plan", PLAN.partition("stage=")[0].encode()),
    "plan is no text": ("plan", b"\xff" + PLAN.encode()),
    "plan says a thing twice": ("plan", (PLAN + "run=train\n").encode()),
    "plan has a hostile chain": ("plan", PLAN.replace("chain-0123abcd.sh", "../../x.sh").encode()),
    "plan has another's tag": ("plan", PLAN.replace(f"tag={TAG}", "tag=train-b2-0123456789abcdef").encode()),
    "plan has an unknown rule": ("plan", PLAN.replace(" allow ", " maybe ").encode()),
    "nonce is short": ("nonce", b"abc\n"),
    "nonce is too long": ("nonce", b"0" * 65),
    "budget is no number": ("budget", b"many\n"),
    "budget is empty": ("budget", b""),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_records_are_unreadable_never_guessed(tmp_path, case):  # S28 P2
    box = SmallBox(tmp_path / "box")
    name, content = DAMAGED[case]
    assert content != FILES[name], "the case changes nothing"
    take(box, "train-a1", FILES | {name: content})
    with pytest.raises(ProbeUnreadable):
        read(box)


@pytest.mark.parametrize("name", ["plan", "spec.json", "nonce", "budget"])
def test_a_missing_or_linked_record_is_unreadable(tmp_path, name):
    box = SmallBox(tmp_path / "box")
    take(box, "train-a1", FILES)
    path = box.state / "runs/train-a1" / name
    path.rename(box.home / "aside")
    with pytest.raises(ProbeUnreadable):
        read(box)
    path.symlink_to(box.home / "aside")
    with pytest.raises(ProbeUnreadable):
        read(box)


def test_names_are_listed_sorted_and_only_names(armed):
    take(armed, "eval-a1", FILES, name="eval")
    take(armed, "eval-b2", FILES, name="eval", expect="eval-a1")
    (armed.state / "names/plain file").write_text("")
    (armed.state / "names/-x").symlink_to("y")
    (armed.state / "names/folder").mkdir()
    assert list_runs(armed.link(), state_dir=None, where="gpu1") == ("eval", "train")


@pytest.mark.parametrize("name", ["..", "-x", "a/b", "", "a\nb", "$(id)"])
def test_names_that_are_none_are_never_sent(armed, name):  # S16
    with pytest.raises(UsageError):
        read(armed, name)
    with pytest.raises(UsageError):
        tail_log(armed.link(), state_dir=None, run_id=name, max_bytes=10)


TEXT = b"".join(b"line %d\r\n" % number for number in range(3000)) + b"\n\n"  # 30 kB over several blocks


@pytest.mark.parametrize(
    ("max_bytes", "from_byte", "start", "stop"),
    [
        (100, None, len(TEXT) - 100, len(TEXT)),
        (10**5, None, 0, len(TEXT)),
        (0, None, len(TEXT), len(TEXT)),
        (50, 0, 0, 50),
        (50, 4096, 4096, 4146),
        (9000, 4095, 4095, 13095),
        (10**5, 8191, 8191, len(TEXT)),
        (10, len(TEXT), len(TEXT), len(TEXT)),
        (10, len(TEXT) + 99, len(TEXT), len(TEXT)),
    ],
)
def test_any_piece_of_the_log_comes_back_byte_for_byte(armed, max_bytes, from_byte, start, stop):
    log(armed, TEXT)
    got = tail(armed, max_bytes, from_byte)
    assert (got.start, got.size, got.data) == (start, len(TEXT), TEXT[start:stop])


def test_binary_in_the_log_comes_back_without_its_nul_bytes(armed):  # R42
    content = bytes(range(256)) * 64
    log(armed, content)
    assert tail(armed, 10**5).data == content.replace(b"\0", b"")


def test_a_log_of_ten_terabytes_costs_no_more(armed):  # P9
    """Read from its beginning it would cost an hour, and a visit has its 20 s."""
    with (armed.state / "runs/train-a1/run.log").open("wb") as file:
        file.truncate(10**13)
        file.seek(0, os.SEEK_END)
        file.write(b"last words\n")
    got = tail(armed, 4096)
    assert got.data.endswith(b"last words\n")
    assert got.size == 10**13 + 11


def test_no_log_yet_and_no_such_run_are_not_found(armed):
    with pytest.raises(NotFound, match="no log yet"):
        tail(armed, 10)
    with pytest.raises(NotFound, match="no run other-1"):
        tail_log(armed.link(), state_dir=None, run_id="other-1", max_bytes=10)


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_a_log_that_is_no_plain_file_is_not_opened(armed, kind):
    path = armed.state / "runs/train-a1/run.log"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    with pytest.raises(ProbeUnreadable, match="no plain file"):
        tail(armed, 10)


def test_the_log_is_read_whatever_units_the_account_likes(armed):
    """As a login shell may set them for ls and df."""
    log(armed, b"x" * 5000 + b"end\n")
    link = LocalLink({**armed.env, "BLOCK_SIZE": "human-readable"})
    found = tail_log(link, state_dir=None, run_id="train-a1", max_bytes=4)
    assert (found.data, found.start, found.size) == (b"end\n", 5000, 5004)
