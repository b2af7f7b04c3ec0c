"""A stage that is watched: started by the tool's other act, with all that a stage has, or done without it."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from integration.chain.rig import LONG, SHELLS, alive, kill, proc, result, tools
from integration.patrol.hand_box import probed
from msgspec.structs import replace
from waiting import wait_until

from fleet import clock
from fleet.arming.chain import checkpoint_file
from fleet.arming.ship import build_pyz
from fleet.arming.start import stop
from fleet.link.local import LocalLink
from fleet.model.spec import Stage
from onbox.usage.files import Wanted
from onbox.usage.profile import profile
from patrol.decide import decide
from patrol.history import History, fold

pytestmark = pytest.mark.timeout(300)
# The two acts of the tool as the chain calls them (docs/box.md), small enough to read. It notes each call.
TOOL = """import json, os, subprocess, sys
act, out, words = sys.argv[1], sys.argv[2], sys.argv[3:]
open(os.environ['W'] + '/calls', 'a').write(json.dumps(sys.argv[1:]) + '\\n') if 'W' in os.environ else None
{broken}
usage = None
if act == 'watched':
    usage, stage, attempt = words[:3]
    words = words[3:]
assert words[0] == '--', sys.argv
status = subprocess.Popen(words[1:], close_fds=False).wait()
kind, value = ('signal', -status) if status < 0 else ('exit', status)
if usage:
    assert os.stat(usage).st_mode & 0o777 == 0o700, oct(os.stat(usage).st_mode)
    open(usage + '/%s.json' % stage, 'w').write('{{"stage":"%s","attempt":%s}}' % (stage, attempt))
open(out, 'w').write('kind=%s\\nvalue=%d\\n' % (kind, value))
sys.exit(128 + value if kind == 'signal' else value)
"""


def first(cases, normal=1):
    """The cases, all but the first `normal` of them for the long sweep."""
    return [
        case if at < normal else pytest.param(case, marks=pytest.mark.fault) for at, case in enumerate(cases)
    ]


@pytest.fixture
def tool(tmp_path):
    """`tool(broken)`: the path of a tool that does its work, after the line `broken`."""

    def make(broken="pass"):
        path = tmp_path / f"onbox{len(list(tmp_path.glob('onbox*')))}.py"
        path.write_text(TOOL.format(broken=broken))
        return str(path)

    return make


def watched(body, *more):
    return Stage("train", body, *more, monitor=True)


def run_of(make_run, onbox, **stages):
    return make_run(python=sys.executable, onbox=onbox, **stages)


def calls(run):
    path = run.work / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("shell", first(SHELLS), ids=lambda shell: shell[0])
def test_a_watched_stage_is_started_by_the_other_act_and_the_rest_as_ever(make_run, tool, shell):
    run = run_of(
        make_run,
        tool(),
        prepare="work prep; over",
        train=watched("work train; over; exit 3"),
        eval="work eval",
    )
    first = run.start("0", shell, W=str(run.work))
    assert result(first)[0] == 20
    folder = str(run.dir)
    tried, begun = [words for words in calls(run) if words[0] == "watched"]
    # Once on `true`, in a folder that is gone again, once on the stage.
    assert tried == ["watched", f"{folder}/.result", f"{folder}/usage/.try", "02-train", "1", "--", "true"]
    assert begun[:6] == ["watched", f"{folder}/.result", f"{folder}/usage", "02-train", "1", "--"]
    assert begun[-1] == f"{folder}/stages/02-train.sh"
    assert [words[0] for words in calls(run)].count("supervise") == 2  # the try of an attempt, and prepare
    end = run.record("end")
    assert (end["rc"], end["signal"], end["how"], end["why"]) == ("3", "-", "waitid", "exit"), run.log()
    assert sorted(path.name for path in (run.dir / "usage").iterdir()) == ["02-train.json"]
    assert (run.dir / "usage").stat().st_mode & 0o777 == 0o700


def test_who_is_not_watched_has_no_folder_and_pays_nothing(make_run, tool):
    run = run_of(make_run, tool(), train="work train; over")
    assert run.result("0", W=str(run.work))[0] == 0
    assert not (run.dir / "usage").exists()
    assert [words[0] for words in calls(run)] == ["supervise", "supervise"]


def _link(folder, work):
    (work / "elsewhere").mkdir()
    folder.symlink_to(work / "elsewhere")


def _file(folder, _work):
    folder.write_text("in the way")


def _pipe(folder, _work):
    os.mkfifo(folder)


@pytest.mark.parametrize("there", first([_link, _file, _pipe]), ids=lambda made: made.__name__)
def test_a_folder_that_is_not_the_runs_own_is_left_alone_and_the_stage_runs(make_run, tool, there):
    run = run_of(make_run, tool(), train=watched("work train; over"))
    there(run.dir / "usage", run.work)
    assert run.result("0", W=str(run.work))[0] == 0
    assert run.launches() == ["train"]
    assert f"== 01-train is not watched: no folder of its own at {run.dir}/usage" in run.log()
    assert [words[0] for words in calls(run)] == ["supervise", "supervise"]
    assert not list((run.work / "elsewhere").glob("*")) and not list((run.work / "elsewhere").glob(".*"))


def test_a_folder_that_others_may_enter_is_closed_and_used(make_run, tool):
    run = run_of(make_run, tool(), train=watched("work train; over"))
    (run.dir / "usage").mkdir(mode=0o777)
    (run.dir / "usage").chmod(0o777)
    assert run.result("0")[0] == 0
    assert (run.dir / "usage/01-train.json").exists()


NOT_ABLE = {
    # What is wrong with the tool -> what run.log says of it, and which acts still began the stage.
    "breaks as it starts": ("if act == 'watched': 1 / 0", "01-train is not watched: ", ["supervise"]),
    "hangs": ("import time; act == 'watched' and time.sleep(60)", "01-train is not watched: ", ["supervise"]),
    "works on true alone": (
        "if act == 'watched' and words[-1] != 'true': sys.exit(125)",
        "the stage supervisor could not start: 01-train runs without it (watched)",
        ["watched", "supervise"],
    ),
    "works once": (
        "if words[-1] != 'true': sys.exit(125)",
        "the stage supervisor could not start: 01-train runs without it (supervise)",
        ["watched", "supervise"],
    ),
    "has no working act": ("sys.exit(125)", "01-train is not watched: no stage supervisor", []),
    "does not know the act": ("if act == 'watched': sys.exit(2)", "01-train is not watched: ", ["supervise"]),
    "says nothing": ("if act == 'watched': sys.exit(0)", "01-train is not watched: ", ["supervise"]),
}


@pytest.mark.parametrize("what", first(NOT_ABLE, 4))
def test_a_stage_never_fails_because_it_cannot_be_watched(make_run, tool, what):
    broken, says, acts = NOT_ABLE[what]
    run = run_of(make_run, tool(broken), train=watched("work train; over"), eval="work eval; over")
    if what == "hangs":
        run.chain.write_text(run.chain.read_text().replace("limited 30 ", "limited 1 "))
    assert run.result("0", W=str(run.work))[0] == 0, run.log()
    assert run.launches() == ["train", "eval"]
    assert f"== {says}" in run.log()
    assert [words[0] for words in calls(run) if words[-1].endswith("01-train.sh")] == acts
    assert not list((run.dir / "usage").glob(".*")) if (run.dir / "usage").exists() else True


def test_a_box_without_python_runs_it_and_says_so(make_run):
    run = make_run(train=watched("work train; over"))
    assert run.result("0")[0] == 0
    assert "== 01-train is not watched: no stage supervisor" in run.log()
    assert not (run.dir / "usage").exists()


def test_a_box_without_timeout_watches_it_all_the_same(make_run, tool, tmp_path):
    path = tools(tmp_path / "bin", but=("timeout",))
    run = run_of(make_run, tool(), train=watched("work train; over"), eval="work eval; over")
    assert run.result("0", PATH=str(path))[0] == 0, run.log()
    assert (run.dir / "usage/01-train.json").exists() and "left over" not in run.log()


def test_a_plan_of_an_older_babysit_or_one_that_names_nobody_watches_nobody(make_run, tool):
    run = run_of(make_run, tool(), train=watched("work train; over"))
    plan = run.dir / "plan"
    plan.write_text(re.sub(r"(?m)^monitor=.*$", "monitor=01-trainer 1-train train", plan.read_text()))
    assert run.result("0")[0] == 0
    assert not (run.dir / "usage").exists()


# -- with the tool as it is shipped


@pytest.fixture
def shipped(tmp_path):
    path = tmp_path / "onbox.pyz"
    path.write_bytes(build_pyz()[0])
    return str(path)


def usage(run, stage="01-train"):
    """What the watcher of a stage wrote last."""
    return json.loads((run.dir / f"usage/{stage}.json").read_text())


def watcher_of(run):
    """Its own child looks like it for as long as it is not executed."""
    pids = {pid for pid in run.tagged() if "\0watched\0" in proc(pid, "cmdline")}
    (pid,) = [pid for pid in pids if int(proc(pid, "stat").rpartition(") ")[2].split()[1]) not in pids]
    return pid


def samples(run, stage="01-train", number=1):
    path = run.dir / f"usage/{stage}.{number}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_shipped_watcher_tells_a_signal_and_hides_nothing_from_the_locks(make_run, shipped):  # P1 R77
    run = run_of(make_run, shipped, train=watched(LONG), eval="work eval; over")
    first = run.start("0")
    run.up()
    kill(run.trainer())
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["rc"], end["signal"], end["how"], end["why"]) == ("137", "9", "waitid", "signal"), run.log()
    seen = usage(run)
    assert (seen["stage"], seen["attempt"], seen["end"]["signal"], seen["end"]["killed_by"]) == (
        "01-train",
        1,
        9,
        "unknown",
    )
    (run.work / "alive").unlink()
    second = run.start("1:failed")
    run.up(2)
    run.crash_chain(second)
    assert run.verdict() == "orphaned"
    code, said = run.result("2")
    assert (code, str(run.trainer()) in said) == (10, True)
    stopped = run.stop(attempt=2)
    assert stopped.word == "stopped"
    assert not alive(run.trainer())
    assert run.seen() == "2:stopped"


def test_a_watched_stage_is_told_to_end_once(make_run, shipped):
    body = "trap 'echo told >>$W/told' TERM; work train; while [ ! -e $W/told ]; do sleep 0.1 || :; done; sleep 0.5 || :; exit 9"
    run = run_of(make_run, shipped, train=watched(body))
    first = run.start("0")
    run.up()
    watcher = watcher_of(run)
    stopped = run.stop(grace_s=40)
    assert stopped.word == "stopped"
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["state"], end["rc"], end["how"], end["why"]) == ("stopped", "9", "waitid", "stopped")
    assert (run.work / "told").read_text() == "told\n"
    # Its watcher would hand it on, for a second time.
    assert not [line for line in stopped.ended if line.startswith(f"{watcher} ")], stopped.ended
    assert not [line for line in stopped.ended if line.endswith("KILL")]


@pytest.mark.parametrize("policy", first(["fail", "end", "allow"]))
def test_leftovers_of_a_watched_stage_are_the_chains_own_matter(make_run, shipped, policy):
    run = run_of(
        make_run,
        shipped,
        train=watched("work train; over; setsid sleep 600 & disown", policy),
        eval="work eval; over; exit 3",
    )
    assert run.result("0")[0] == 20, run.log()
    end = run.record("end")
    left = {*run.tagged(), *run.marked()}
    if policy == "fail":
        assert (end["stage"], end["why"]) == ("01-train", "leftovers") and left
        assert {str(pid) for pid in left} == set(end["leftovers"].split())
    else:
        assert (end["stage"], end["why"], end["leftovers"]) == ("02-eval", "exit", "-"), end
        assert bool(left) == (policy == "allow")
    seen = usage(run)["end"]
    # What it is called depends on whether it has become `sleep` yet.
    assert seen["exit_code"] == 0 and len(seen["left_running"]) == 1, seen


def test_every_attempt_has_its_own_lines_and_the_folder_is_private(make_run, shipped):
    old = os.umask(0)
    try:
        run = run_of(
            make_run, shipped, train=watched("work train; over; [ -e $W/again ] || { >$W/again; exit 3; }")
        )
        assert run.result("0")[0] == 20
        assert run.result("1:failed")[0] == 0, run.log()
    finally:
        os.umask(old)
    names = sorted(path.name for path in (run.dir / "usage").iterdir())
    assert names == ["01-train.1.jsonl", "01-train.2.jsonl", "01-train.json"]
    assert {path.stat().st_mode & 0o777 for path in (run.dir / "usage").iterdir()} == {0o600}
    assert usage(run)["attempt"] == 2 and usage(run)["end"]["exit_code"] == 0
    for number, code in ((1, 3), (2, 0)):
        lines = samples(run, number=number)
        assert (
            lines[0]["kind"] == "metadata" and lines[-1]["kind"] == "exit" and lines[-1]["exit_code"] == code
        )
        assert [line for line in lines if line["kind"] in ("tree", "sample")]


def test_the_watcher_may_be_killed_and_the_command_lives(make_run, shipped):
    run = run_of(make_run, shipped, train=watched(LONG))
    first = run.start("0")
    run.up()
    worker = run.trainer()
    kill(watcher_of(run))
    assert result(first)[0] == 20
    assert alive(worker) and run.record("end")["leftovers"].split()
    run.open_gate()
    wait_until(lambda: not alive(worker), 60, "the command has ended by itself")


# -- killed for memory, for real


@pytest.fixture
def small_memory():
    """A memory group of 160 MiB, by its `cgroup.procs`; all that the test put into it has ended by then."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    folder = root / f"babysit-test-{os.getpid()}"
    try:
        if root == v2:
            (root / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        (folder / limit).write_text(str(160 << 20))
        yield folder / "cgroup.procs"
    finally:
        for pid in map(int, (folder / "cgroup.procs").read_text().split()):
            kill(pid)
        wait_until(lambda: _removed(folder), 60, "the group is empty")


def _removed(folder):
    """A group whose last process is just leaving is still busy."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


# Each piece waits for a sample of the one before, or the watcher would only see the end of it.
_GROWS = """import os, sys, time
held, size = [], -1
while True:
    held.append(bytearray(b'x' * (10 << 20)))
    while os.stat(sys.argv[1]).st_size == size:
        time.sleep(0.02)
    size = os.stat(sys.argv[1]).st_size
"""


def judged(run):
    """What a patrol says of it, by a real probe."""
    run.run = replace(run.run, launched=True, box=replace(run.run.box, state_dir=str(run.state)))
    seen = probed(run, [run], limit_s=60)
    history = fold(History(), run.run, seen, clock.now())
    return decide(run.run, seen, history, clock.now())


@pytest.mark.parametrize("how", ["exec ", ""], ids=["the command itself", "one of its processes"])
def test_a_stage_that_the_kernel_kills_for_memory_is_named_as_that(
    make_run, shipped, small_memory, how
):  # R43
    grows = f"{how}{sys.executable} $R/grows.py $R/usage/01-train.1.jsonl"
    run = run_of(make_run, shipped, train=watched(grows))
    (run.dir / "grows.py").write_text(_GROWS)
    into = ("sh", "-c", f'echo $$ >{small_memory}; exec dash "$@"', "sh")
    assert result(run.start("0", into))[0] == 20, run.log()
    end, record = usage(run)["end"], run.record("end")
    assert (end["killed_by"], record["rc"], record["how"]) == ("oom", "137", "waitid"), (end, run.log())
    assert end["oom"]["after"] > end["oom"]["before"] and end["oom"]["scope"] == "cgroup"
    assert (end["signal"], end["exit_code"]) == ((9, None) if how else (None, 137))
    verdict = judged(run)
    assert verdict.row == "R-OOM-1", verdict
    who = "stage train" if how else "a process of stage train"
    assert re.match(
        rf"{who} was killed by the OOM killer at 1\d\d of 168 MB, rising for \d+ s · ", verdict.summary
    ), verdict
    assert 100 << 20 < verdict.usage.peak_bytes <= 161 << 20


# -- saving before a stop

_SAVES = """
import os, signal, sys, time
def save(number, frame):
    open(sys.argv[1] + "/model.ckpt", "a").write("saved\\n")
signal.signal(signal.SIGINT, save)
open(sys.argv[1] + "/old.ckpt", "w").close()
open(sys.argv[1] + "/launches", "a").write("train %d\\n" % os.getpid())
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("how", "begins"),
    # Who watches passes an INT on to its command, which would then save twice.
    [
        ("signal:INT", "exec "),
        ("kill -INT $BABYSIT_PID; until [ -s work/model.ckpt ]; do sleep 0.1; done; sleep 1", ""),
    ],
    ids=["signal", "command"],
)
def test_what_is_saved_before_a_stop_is_asked_of_the_job_and_not_of_its_watcher(
    make_run, shipped, how, begins
):
    run = run_of(make_run, shipped, train=watched(f"{begins}{sys.executable} $R/saves.py $W; true"))
    (run.dir / "saves.py").write_text(_SAVES)
    run.run = replace(
        run.run,
        spec=replace(run.run.spec, checkpoint=how, checkpoint_limit_s=90, artifacts=(f"{run.work}/*.ckpt",)),
    )
    if checkpoint_file(run.run.spec) is not None:
        (run.dir / "checkpoint.sh").write_bytes(checkpoint_file(run.run.spec))
    run.start("0")
    run.up()
    run.pids.add(run.trainer())
    link = LocalLink({**os.environ, "HOME": str(run.home)})
    stopped = stop(
        link,
        state_dir=str(run.state),
        run_id=run.run_id,
        attempt=1,
        grace_s=40,
        limit_s=200,
        spec=run.run.spec,
    )
    assert (stopped.word, stopped.checkpoint.saved) == ("stopped", True), stopped
    assert (run.work / "model.ckpt").read_text() == "saved\n"
    assert run.record("end")["state"] == "stopped"
    (phase,) = profile(run.dir, Wanted())["phases"]
    assert phase["exit"]["killed_by"] == "user", phase["exit"]
