"""A run's files as they are rendered: pure, so that they can be read here line by line."""

import subprocess

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.arming.chain import BoxPlan, digest_of, marks_of, render, stage_ids, tag_of
from fleet.errors import UsageError
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage

NONCE = "0123456789abcdef" * 2
PLAN = BoxPlan("/home/dev/.local/state/babysit")


def a_run(*stages, nonce=NONCE, run_id="iris-7f3a", **spec):
    spec = RunSpec(spec.pop("name", "iris"), stages or (Stage("train", "python train.py"),), **spec)
    return Run(
        run_id=run_id, spec=spec, box=BoxSpec("gpu1", "gpu1"), nonce=nonce, tag=tag_of(run_id, nonce),
        chain="", spec_digest="ab" * 32, armed_at=0.0,
    )  # fmt: skip


def plan_of(files):
    return [tuple(line.split("=", 1)) for line in files.files["plan"].decode().splitlines()]


def test_the_files_of_a_run():
    run = a_run(
        Stage("prepare", "make data\n"), Stage("train", "python train.py | tee log", "end", strict=False)
    )
    files = render(run, BoxPlan("/state", python="/usr/bin/python3", onbox="/home/dev/onbox-1.pyz"))
    assert set(files.files) == {
        "plan", "spec.json", "budget", "nonce", files.chain_name, "stages/01-prepare.sh", "stages/02-train.sh",
    }  # fmt: skip
    assert files.files["budget"] == b"3\n"
    assert files.files["nonce"] == f"{NONCE}\n".encode()
    assert files.files["stages/01-prepare.sh"] == b"make data\n"
    assert files.files["stages/02-train.sh"] == b"python train.py | tee log\n"
    assert msgspec.json.decode(files.files["spec.json"], type=RunSpec) == run.spec
    first, second = marks_of(NONCE, ("01-prepare", "02-train"))
    assert plan_of(files) == [
        ("format", "1"),
        ("run", "iris"),
        ("run_id", "iris-7f3a"),
        ("tag", run.tag),
        ("chain", files.chain_name),
        ("onbox", "/home/dev/onbox-1.pyz"),
        ("python", "/usr/bin/python3"),
        ("lockdir", "-"),
        ("cwd", "-"),
        ("spec_digest", "ab" * 32),
        ("stage", f"01-prepare {first} fail 1"),
        ("stage", f"02-train {second} end 0"),
    ]


def test_locks_elsewhere_get_a_folder_of_the_runs_own():
    files = render(a_run(), BoxPlan("/state", lockdir="/var/tmp/locks/"))
    assert ("lockdir", "/var/tmp/locks/iris-7f3a") in plan_of(files)


def test_the_last_part_of_a_chain_is_its_stages_joined_by_and(tmp_path):  # R60
    text = render(a_run(Stage("prepare", "a"), Stage("train", "b"), Stage("eval", "c")), PLAN)
    lines = [line.strip() for line in text.files[text.chain_name].decode().splitlines()]
    start = lines.index("stage 01-prepare &&")
    assert lines[start : start + 4] == [
        "stage 01-prepare &&", "stage 02-train &&", "stage 03-eval &&", "finish done - 0 - -",
    ]  # fmt: skip


def test_the_nonce_is_in_one_file_only():  # S9
    files = render(a_run(), PLAN)
    assert [path for path, content in files.files.items() if NONCE.encode() in content] == ["nonce"]
    assert NONCE not in tag_of("iris-7f3a", NONCE)


def test_the_same_run_and_plan_give_the_same_bytes():
    assert render(a_run(), PLAN) == render(a_run(), PLAN)


def test_a_chains_name_tells_its_text():  # R69
    one, other = render(a_run(), PLAN), render(a_run(Stage("train", "a"), Stage("eval", "b")), PLAN)
    assert one.chain_name != other.chain_name
    assert len(one.chain_name) == len("chain-12345678.sh")


@pytest.mark.parametrize("shell", [("sh",), ("bash",), ("dash",), ("busybox", "sh")], ids=" ".join)
def test_every_shell_can_read_the_chain(tmp_path, shell):  # R23
    files = render(a_run(), PLAN)
    path = tmp_path / files.chain_name
    path.write_bytes(files.files[files.chain_name])
    try:
        done = subprocess.run([*shell, "-n", path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {shell[0]} here")
    assert (done.returncode, done.stderr) == (0, "")


@given(
    command=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    cwd=st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1),
)
@settings(max_examples=50, deadline=None)
def test_commands_and_folders_stay_as_they_were_written(command, cwd):  # S18
    files = render(a_run(Stage("train", command), cwd=cwd), PLAN)
    assert files.files["stages/01-train.sh"].decode().removesuffix("\n") == command.removesuffix("\n")
    assert f"cwd={cwd}".encode() in files.files["plan"].split(b"\n")
    bare = render(a_run(), PLAN)
    assert files.files[files.chain_name] == bare.files[bare.chain_name]


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "iris\nrun_id=other"},
        {"cwd": "/data\nstage=99-evil 1 fail 1"},
        {"cwd": "/data\r"},
    ],
)
def test_a_value_that_would_not_stay_on_its_line_is_refused(spec):
    with pytest.raises(UsageError, match="one line"):
        render(a_run(**spec), PLAN)


@pytest.mark.parametrize("name", ["", "a b", "$(id)", "../up", "-x", "a/b", "a'b", "a\nb", "é"])
def test_a_name_that_can_be_no_file_name_is_refused(name):
    with pytest.raises(UsageError, match="stage name"):
        render(a_run(Stage(name, "true")), PLAN)
    with pytest.raises(UsageError, match="run id"):
        render(a_run(run_id=name), PLAN)


@pytest.mark.parametrize("count", [0, 100])
def test_a_chain_has_1_to_99_stages(count):
    with pytest.raises(UsageError, match=f"not {count}"):
        stage_ids([Stage("a", "true")] * count)


def test_a_command_with_a_nul_is_refused():
    with pytest.raises(UsageError, match="NUL"):
        render(a_run(Stage("train", "a\0b")), PLAN)


@given(nonces=st.sets(st.binary(min_size=16, max_size=16).map(bytes.hex), min_size=2, max_size=20))
def test_marks_are_odd_huge_and_nobody_elses(nonces):
    stages = [f"{index:02}-s" for index in range(1, 100)]
    marks = [mark for nonce in nonces for mark in marks_of(nonce, stages)]
    assert len(set(marks)) == len(marks)
    assert all(mark % 2 and 2**40 < mark < 2**45 for mark in marks)
    assert all(16 <= len(str(mark * 1024)) <= 17 for mark in marks)


def test_watched_stages_stand_on_one_line_and_make_no_other_job():
    plain, watched = (
        [Stage(name, name, monitor=monitor and name != "eval") for name in ("prepare", "train", "eval")]
        for monitor in (False, True)
    )
    files = render(a_run(*watched), PLAN)
    # One line: who read plans before there was this key refuses any key but `stage` that comes twice.
    assert plan_of(files)[-1] == ("monitor", "01-prepare 02-train")
    assert [key for key, _ in plan_of(files)].count("monitor") == 1
    assert "monitor" not in dict(plan_of(render(a_run(*plain), PLAN)))
    assert digest_of(a_run(*watched).spec) == digest_of(a_run(*plain).spec)
    assert files.files[files.chain_name] == render(a_run(*plain), PLAN).files[files.chain_name]
    assert b"monitor" not in render(a_run(*plain), PLAN).files["spec.json"]
    assert msgspec.json.decode(files.files["spec.json"], type=RunSpec).stages == tuple(watched)


@pytest.mark.parametrize(
    ("checkpoint", "content"),
    [
        (None, None),
        ("signal:USR1", None),
        ("python save.py 'it's' && sync", b"python save.py 'it's' && sync\n"),
        ("first\nsecond\n", b"first\nsecond\n"),
    ],
)
def test_a_checkpoint_is_a_file_as_it_was_written_and_makes_no_other_job(checkpoint, content):  # S18
    plain, run = a_run(), a_run(checkpoint=checkpoint, artifacts=("*.pt",))
    files = render(run, PLAN)
    assert files.files.get("checkpoint.sh") == content
    assert files.files[files.chain_name] == render(plain, PLAN).files[files.chain_name]
    assert digest_of(run.spec) == digest_of(plain.spec)
    # A run without one has nothing of it on its box: an older babysit goes on reading what it knows.
    assert (b"checkpoint" in files.files["spec.json"]) is (checkpoint is not None)
    assert msgspec.json.decode(files.files["spec.json"], type=RunSpec) == run.spec


def test_a_folder_of_loops_stands_in_the_plan_where_its_box_has_one_and_makes_no_other_job():
    plain = a_run(Stage("train", "true"))
    moved = msgspec.structs.replace(plain, box=msgspec.structs.replace(plain.box, loops="~/odd $(x)/.ipc"))
    assert plan_of(render(moved, PLAN))[-1] == ("loops", "~/odd $(x)/.ipc")
    assert "loops" not in dict(plan_of(render(plain, PLAN)))
    first, second = (render(run, PLAN).files for run in (plain, moved))
    assert {path for path in first if first[path] != second[path]} == {"plan"}
    broken = msgspec.structs.replace(plain.box, loops="/a\rb")
    with pytest.raises(UsageError, match="fits on one line"):
        render(msgspec.structs.replace(plain, box=broken), PLAN)
