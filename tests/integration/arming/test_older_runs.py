"""A newer babysit meets runs that an older one armed: it reads, carries on, stops; and what it writes an older one reads."""

import msgspec
import pytest
from older_runs import RUNS, lay_out
from small_box import SHELLS, SmallBox, small_path
from waiting import wait_until

from babysit.acts.adopt import run_of
from babysit.acts.visit import ask
from fleet import clock
from fleet.arming.chain import BoxPlan, digest_of, render, tag_of
from fleet.arming.code import look_at_code
from fleet.arming.read_run import list_runs, read_run
from fleet.arming.start import launch, stop
from fleet.errors import ProbeUnreadable
from fleet.model.run import Code, CodeFile, Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from patrol.actions import NotNow, Resume, resume_proof
from patrol.decide import decide
from patrol.history import History, fold

pytestmark = pytest.mark.timeout(180)
BOX = BoxSpec("gpu1", "h")
WAIT = "echo train >>steps; until [ -e go ]; do sleep 0.1; done"
SPECS = {
    "queued": RunSpec("queued", (Stage("prepare", "echo prepare >>steps"), Stage("train", WAIT)), box="gpu1", cwd="~/job/queued"),
    "failed": RunSpec(
        "failed",
        (
            Stage("prepare", "echo prepare >>steps"),
            Stage("train", "echo train >>steps; [ -e go ] || exit 3", "end"),
            Stage("eval", "echo eval >>steps", strict=False),
        ),
        box="gpu1", cwd="~/job/failed", artifacts=("ck/*.pt",), results=("out.csv",), heartbeat=("still waiting",), budget=5,
    ),
    "finished": RunSpec("finished", (Stage("train", "echo 'epoch 1/1 loss 0.5'"),), box="gpu1", cwd="~/job/finished"),
    "stopped": RunSpec("stopped", (Stage("train", WAIT),), box="gpu1", cwd="~/job/stopped"),
    "gone": RunSpec("gone", (Stage("prepare", "echo prepare >>steps"), Stage("train", WAIT)), box="gpu1", cwd="~/job/gone"),
}  # fmt: skip
HEALTH = {
    "queued": "queued", "failed": "failed", "finished": "finished", "stopped": "stopped", "gone": "interrupted",
}  # fmt: skip
EXPECT = {"queued": "0", "failed": "1:failed", "stopped": "1:stopped", "gone": "1"}


@pytest.fixture
def box(tmp_path):
    box = SmallBox(tmp_path / "box")
    lay_out(box.home)
    yield box
    for name in RUNS:  # what a red test left waiting goes on to its end
        (box.home / "job" / name / "go").touch()


def found(box, name):
    return read_run(box.link(), state_dir=None, run_name_or_id=name)


def known(box, name):
    return run_of(found(box, name), BOX, armed_at=1_795_000_000.0)


def begin(box, run_id, expect):
    return launch(box.link(), state_dir=None, run_id=run_id, expect=expect, detach="setsid", limit_s=60)


def proof_of(box, run):
    return resume_proof(run, ask(box.link(), "gpu1", (run,), {}))


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_read_back_as_it_was_armed(box, name):
    run = found(box, name)
    assert (run.run_id, run.owner, run.spec, run.code) == (RUNS[name], RUNS[name], SPECS[name], None)
    assert run.budget == SPECS[name].budget
    # The same job by today's rule: armed again it is this run, not another command.
    assert run.spec_digest == digest_of(SPECS[name])
    assert run.tag == tag_of(run.run_id, run.nonce)


def test_all_old_names_are_listed(box):
    assert list_runs(box.link(), state_dir=None, where="gpu1") == tuple(sorted(RUNS))


@pytest.mark.parametrize("shell", SHELLS)
def test_one_probe_shows_how_each_old_run_is_under_every_shell(tmp_path, shell):
    tools = small_path(tmp_path / "bin", shell=shell)
    box = SmallBox(tmp_path / "box", tools)
    lay_out(box.home)
    runs = [known(box, name) for name in RUNS]
    # As a patrol would ask: with all that the probe's script uses, which is more than a small box has.
    full = SmallBox(box.home, f"{tools}:/usr/bin:/bin")
    seen = ask(full.link(), "gpu1", runs, {})
    now = clock.now()
    verdicts = {run.name: decide(run, seen, fold(History(), run, seen, now), now) for run in runs}
    assert {name: verdict.health.value for name, verdict in verdicts.items()} == HEALTH
    assert seen.runs[RUNS["failed"]].markers.value[0].stage == "01-prepare"
    assert seen.runs[RUNS["failed"]].end.value.rc == 3


@pytest.mark.parametrize("name", EXPECT)
def test_an_old_run_is_carried_on_by_its_own_chain_from_its_stamped_stage(box, name):  # P1 P6
    run = known(box, name)
    proof = proof_of(box, run)
    assert isinstance(proof, Resume) and proof.expect == EXPECT[name]
    (box.home / "job" / name / "go").touch()
    answer = begin(box, run.run_id, proof.expect)
    number = 1 if name == "queued" else 2
    assert (answer.word, answer.text) == ("started", f"attempt {number}")
    end = box.state / "runs" / run.run_id / "end"
    wait_until(lambda: end.exists() and f"attempt={number}\n" in end.read_text(), 60, "its end record")
    assert "state=done" in end.read_text()
    steps = (box.home / "job" / name / "steps").read_text().split()
    stamped_before = name in {"failed", "gone"}
    assert ("prepare" in steps) == (not stamped_before and name != "stopped")
    assert begin(box, run.run_id, proof.expect).word == "already-so"
    assert isinstance(proof_of(box, run), NotNow)


def test_an_old_run_that_lives_is_seen_and_stopped(box):  # P6
    run = known(box, "queued")
    assert begin(box, run.run_id, "0").word == "started"
    wait_until((box.home / "job/queued/steps").exists, 60, "its first stage")
    assert isinstance(proof_of(box, run), NotNow)
    ended = stop(box.link(), state_dir=None, run_id=run.run_id, attempt=1, grace_s=5, limit_s=90)
    assert ended.word == "stopped"
    assert proof_of(box, run).expect == "1:stopped"


def test_the_code_of_an_old_run_was_not_written_down(box):
    now, kept = look_at_code(box.link(), known(box, "failed"))
    assert kept is None and now.attempt == 1


def rewritten(box, name, file, old, new):
    path = box.state / "runs" / RUNS[name] / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_run_of_a_newer_format_is_refused_with_the_way_out(box):
    rewritten(box, "failed", "plan", "format=1\n", "format=2\n")
    with pytest.raises(
        ProbeUnreadable, match=r"armed by a newer babysit.*format 2, this one reads 1"
    ) as caught:
        found(box, "failed")
    assert "update babysit" in caught.value.hint
    with pytest.raises(ProbeUnreadable):
        begin(box, RUNS["failed"], "1:failed")


@pytest.mark.parametrize("value", ["0", "x", "", "-2", "9999999999"])
def test_a_format_that_is_none_is_not_called_newer(box, value):
    rewritten(box, "failed", "plan", "format=1\n", f"format={value}\n")
    with pytest.raises(ProbeUnreadable, match="has format"):
        found(box, "failed")


def test_keys_of_a_younger_babysit_are_passed_over(box):
    rewritten(box, "failed", "plan", "cwd=", "sandbox=none\ncwd=")
    rewritten(box, "failed", "spec.json", '"name": "failed",', '"name": "failed", "priority": {"x": [1]},')
    rewritten(box, "failed", "spec.json", '"name": "prepare",', '"name": "prepare", "on_stop": "x",')
    run = known(box, "failed")
    assert run.spec == SPECS["failed"]
    assert proof_of(box, run).expect == "1:failed"
    (box.home / "job/failed/go").touch()
    assert begin(box, run.run_id, "1:failed").word == "started"
    end = box.state / "runs" / run.run_id / "end"
    wait_until(lambda: end.exists() and "attempt=2\n" in end.read_text(), 60, "its end record")


class OldStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a babysit of format 1's first day took a stage for."""

    name: str
    command: str
    leftovers: str = "fail"
    strict: bool = True


class OldSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As above, a run."""

    name: str
    stages: tuple[OldStage, ...]
    box: str | None = None
    cwd: str | None = None
    artifacts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    heartbeat: tuple[str, ...] = ()
    stall_after_s: int = 1800
    start_grace_s: int = 120
    budget: int = 3


def test_what_is_armed_today_an_older_babysit_can_read(tmp_path):
    spec = msgspec.structs.replace(SPECS["failed"], code=("src/*.py",))
    code = Code(1, "/home/dev", commit="a" * 40, files=(CodeFile("a.py", None, "unread"),), globs=spec.code)
    run = Run(
        "failed-zz", spec, BOX, "0" * 32, tag_of("failed-zz", "0" * 32), "", digest_of(spec), 0.0, code=code
    )
    files = render(run, BoxPlan("/state")).files
    old = msgspec.json.decode(files["spec.json"], type=OldSpec)
    assert old.name == "failed" and old.budget == 5 and old.stages[1].leftovers == "end"
    plan = dict(
        line.split("=", 1) for line in files["plan"].decode().splitlines() if not line.startswith("stage=")
    )
    assert plan["format"] == "1" and plan["spec_digest"] == "548363702c1e6d99"
    assert set(plan) == {
        "format",
        "run",
        "run_id",
        "tag",
        "chain",
        "onbox",
        "python",
        "lockdir",
        "cwd",
        "spec_digest",
    }
