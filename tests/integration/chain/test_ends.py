"""How stages end, what is stamped, and what the end record says."""

import os
import shutil
import subprocess
import sys

import pytest
from integration.chain import cases
from integration.chain.rig import LONG, alive, kill, result
from waiting import wait_until

from fleet.arming.ship import build_pyz
from fleet.model.spec import Stage
from fleet.text.frame import Section
from patrol.readers.records import read_end

pytestmark = pytest.mark.timeout(300)
# A stage supervisor as the chain expects one (docs/box.md), small enough to read.
SUPERVISOR = """import subprocess, sys
assert sys.argv[1] == 'supervise' and sys.argv[3] == '--', sys.argv
status = subprocess.Popen(sys.argv[4:], close_fds=False).wait()
kind, value = ('signal', -status) if status < 0 else ('exit', status)
open(sys.argv[2], 'w').write('kind=%s\\nvalue=%d\\n' % (kind, value))
sys.exit(128 + value if kind == 'signal' else value)
"""


def test_a_killed_trainer_is_recorded_and_resumed_at_its_stage(make_run):  # R63 R77
    run = make_run(prepare="work prep; over", train=LONG, eval="work eval; over")
    first = run.start("0")
    run.up()
    kill(run.trainer())
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["state"], end["stage"], end["rc"], end["signal"], end["how"]) == (
        "failed", "02-train", "137", "-", "shell",
    )  # fmt: skip
    assert run.record("failed.1") == end
    assert run.result("1") == (0, "already-so: 1:failed")
    (run.work / "alive").unlink()
    again = run.start("1:failed")
    run.up(2)
    run.open_gate()
    assert result(again)[0] == 0
    assert run.launches() == ["prep", "train", "train", "eval"]
    assert not run.collisions()


def test_with_a_supervisor_a_signal_is_told_from_an_exit_status(make_run, tmp_path):  # R63 R77
    tool = tmp_path / "onbox.py"
    tool.write_text(SUPERVISOR)
    run = make_run(python=sys.executable, onbox=str(tool), train=LONG)
    first = run.start("0")
    run.up()
    kill(run.trainer())
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["rc"], end["signal"], end["how"], end["why"]) == ("137", "9", "waitid", "signal")
    run = make_run(python=sys.executable, onbox=str(tool), train="work train; over; exit 137")
    assert run.result("0")[0] == 20
    end = run.record("end")
    assert (end["rc"], end["signal"], end["how"], end["why"]) == ("137", "-", "waitid", "exit")


@pytest.fixture
def shipped(tmp_path):
    """The tool as `arm` ships it."""
    path = tmp_path / "onbox.pyz"
    path.write_bytes(build_pyz()[0])
    return str(path)


def test_the_shipped_supervisor_tells_a_signal_and_hides_nothing_from_the_locks(make_run, shipped):  # P1 R77
    run = make_run(python=sys.executable, onbox=shipped, train=LONG, eval="work eval; over")
    first = run.start("0")
    run.up()
    kill(run.trainer())
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["rc"], end["signal"], end["how"], end["why"]) == ("137", "9", "waitid", "signal"), run.log()
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


def test_a_supervised_stage_is_told_to_end_once(make_run, shipped):
    run = make_run(
        python=sys.executable, onbox=shipped,
        train="trap 'echo told >>$W/told' TERM; work train; while [ ! -e $W/told ]; do sleep 0.1 || :; done; sleep 0.5 || :; exit 9",
    )  # fmt: skip
    first = run.start("0")
    run.up()
    stopped = run.stop(grace_s=40)
    assert stopped.word == "stopped"
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["state"], end["rc"], end["how"], end["why"]) == ("stopped", "9", "waitid", "stopped")
    assert (run.work / "told").read_text() == "told\n"
    assert not [line for line in stopped.ended if line.endswith("KILL")]


@pytest.mark.parametrize(
    "tool",
    ["import sys; sys.exit(125)", "import sys; sys.exit(1)", "not python at all", "import os; os._exit(0)"],
)
def test_a_supervisor_that_does_not_work_is_done_without(make_run, tmp_path, tool):
    path = tmp_path / "onbox.py"
    path.write_text(tool)
    run = make_run(python=sys.executable, onbox=str(path), train="work train; over; exit 3")
    assert run.result("0")[0] == 20
    assert run.launches() == ["train"]
    assert (run.record("end")["rc"], run.record("end")["how"]) == ("3", "shell")
    assert "== no stage supervisor" in run.log()


def test_a_supervisor_that_stops_working_later_is_done_without(make_run, tmp_path):
    tool = tmp_path / "onbox.py"
    tool.write_text(f"import sys\nif sys.argv[4] != 'true': sys.exit(125)\n{SUPERVISOR}")
    run = make_run(python=sys.executable, onbox=str(tool), train="work train; over")
    assert run.result("0")[0] == 0
    assert run.launches() == ["train"]
    assert "could not start: 01-train runs without it" in run.log()


def test_a_crash_in_front_of_a_pipe_stamps_nothing(make_run):  # R60 R61 D6
    run = make_run(train="work train; over; sh -c 'kill -9 $$' | tee $W/log", eval="work eval")
    assert run.result("0")[0] == 20
    assert run.record("end")["rc"] == "137"
    assert not run.stamped()
    assert run.launches() == ["train"]


def test_without_strict_a_stage_is_run_by_sh_exactly_as_written(make_run, tmp_path):  # S18
    note = tmp_path / "note"
    run = make_run(
        train=Stage(
            "train", f"false\nfalse | true\necho \"${{BASH_VERSION-none}}\" '$HOME' >{note}", strict=False
        )
    )
    assert run.result("0")[0] == 0
    shell = subprocess.run(
        ["sh", "-c", 'echo "${BASH_VERSION-none}"'], capture_output=True, text=True, check=True
    )
    assert note.read_text() == f"{shell.stdout.strip()} $HOME\n"


def test_a_stage_works_in_its_folder_unbuffered_and_finds_the_shipped_library(
    make_run, tmp_path
):  # R6 R73 D5
    folder = tmp_path / "it's a folder; $(exit 3)"
    folder.mkdir()
    tool = tmp_path / "onbox.py"
    tool.write_text(SUPERVISOR)
    run = make_run(
        cwd=str(folder), python=sys.executable, onbox=str(tool),
        train='pwd -P; echo "$PYTHONUNBUFFERED $PYTHONPATH"; readlink /proc/self/fd/0; ls -l /proc/self/fd',
    )  # fmt: skip
    assert run.result("0", PYTHONPATH="mine")[0] == 0
    log = run.log()
    assert f"\n{folder}\n" in log
    assert f"\n1 {tool}:mine\n" in log
    assert "\n/dev/null\n" in log
    assert "stage.lock" in log
    assert "chain.lock" not in log


def test_what_python_prints_is_in_the_log_at_once(make_run):  # R73 D8
    code = "import os; print('epoch 1'); open(os.environ['W'] + '/gate').read()"
    run = make_run(train=f'work train; {sys.executable} -c "{code}"; over')
    first = run.start("0")
    wait_until(lambda: "\nepoch 1\n" in run.log(), 60, "the line is in the log while Python still runs")
    assert first.poll() is None
    run.open_gate()
    assert result(first)[0] == 0


@pytest.mark.parametrize(("cwd", "inside"), [("~", ""), ("~/a b", "a b"), ("a b", "a b"), (None, "")])
def test_a_folder_is_seen_from_the_home_folder(make_run, cwd, inside):
    run = make_run(cwd=cwd, train="pwd -P")
    (run.home / "a b").mkdir()
    assert run.result("0", CDPATH="/tmp")[0] == 0
    assert f"\n{run.home / inside}\n" in run.log()


def test_a_folder_that_is_gone_fails_the_stage_before_it_works(make_run, tmp_path):
    run = make_run(cwd=str(tmp_path / "gone"), train="work train")
    assert run.result("0")[0] == 20
    assert (run.record("end")["why"], run.record("end")["stage"]) == ("cwd", "01-train")
    assert not run.launches()


def test_forged_markers_are_not_believed(make_run):
    cases.forged_markers(make_run)


def test_a_marker_target_that_is_no_plain_file_is_never_followed(make_run):
    cases.marker_target(make_run)


@pytest.mark.parametrize(
    ("how", "policy"),
    [
        ("nohup", "fail"),
        ("nohup", "end"),
        ("nohup", "allow"),
        ("fd 8 closed", "fail"),
        ("clean environment", "fail"),
        ("clean environment", "end"),
        ("clean environment", "allow"),
        ("deaf to TERM", "end"),
    ],
)
def test_leftovers_of_a_stage_that_returned_0(make_run, how, policy):
    cases.leftovers(make_run, how, policy)


def test_an_end_that_leaves_hundreds_of_processes_can_be_read(make_run):
    run = make_run(train=Stage("train", "for i in $(seq 300); do sleep 600 & done; exit 3"))
    assert run.result("0")[0] == 20
    section = Section("end", run.run_id, 0, (run.dir / "end").read_bytes()[:4096])
    end = read_end(section, run.nonce, 0.0).value
    assert (end.why, end.rc, end.ended_at >= end.started_at) == ("exit", 3, True)
    assert 100 < len(end.leftovers) <= len(run.tagged()) and {*end.leftovers} <= run.tagged()


def test_what_is_just_ending_is_no_leftover(make_run):
    """It lives at the first look, and ends in the first pause after it."""
    run = make_run(train="work train; over; sleep 600 & echo $! >$W/left")
    folder, left = run.home / "bin", run.work / "left"
    folder.mkdir()
    ends = "kill $pid; while grep -q 'State:.[^ZX]' /proc/$pid/status; do :; done"
    pause = f'[ "$1" != 0.1 ] || {{ pid=$(cat {left}) && {ends}; }} 2>/dev/null'
    (folder / "sleep").write_text(f'#!/bin/sh\n{pause}\nexec {shutil.which("sleep")} "$@"\n')
    (folder / "sleep").chmod(0o755)
    assert run.result("0", PATH=f"{folder}:{os.environ['PATH']}")[0] == 0, run.log()
    assert not run.tagged(), "it was never waited for"


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(folder, size)` mounts a tmpfs of that size over `folder`, its files kept."""
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    mounted = []

    def mount(folder, options):
        kept = tmp_path / "kept"
        subprocess.run(["cp", "-a", f"{folder}/.", kept], check=True)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "babysit-test", folder], check=False
        ).returncode:
            pytest.skip("this machine lets nobody mount a tmpfs")
        mounted.append(folder)
        subprocess.run(["cp", "-a", f"{kept}/.", folder], check=True)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_is_told_and_resumed_when_there_is_room(make_run, small_disk):  # R60 R75
    run = make_run(
        prepare="work prep; over",
        train="work train; over; [ -e $W/room ] || cat /dev/zero >$R/filler 2>/dev/null || true",
        eval="work eval; over",
    )
    small_disk(run.dir, "size=4m")
    assert run.result("0")[0] == 20
    end = run.record("end")
    assert (end["why"], end["stage"], end["rc"]) == ("cannot-stamp", "02-train", "0"), run.log()
    assert run.stamped() == {"01-prepare"}
    code, said = run.result("1:failed")
    assert (code, said[:11]) == (74, "unwritable:"), said
    with (run.dir / "filler").open("r+b") as filler:
        filler.truncate((run.dir / "filler").stat().st_size - 512 * 1024)
    assert run.result("1:failed")[0] == 20
    assert run.record("end")["why"] == "disk"
    assert run.launches() == ["prep", "train"]
    (run.dir / "filler").unlink()
    (run.work / "room").touch()
    assert run.result("2:failed")[0] == 0
    assert run.launches() == ["prep", "train", "train", "eval"]


def test_a_disk_without_inodes_is_told(make_run, small_disk):  # R75
    run = make_run(
        prepare="work prep; over; i=0; while : >$R/markers/filler.$i; do i=$((i + 1)); done 2>/dev/null || true",
        train="work train",
    )
    small_disk(run.dir, "size=8m,nr_inodes=60")
    assert run.result("0")[0] in (20, 74)
    assert run.launches() == ["prep"]


def test_stop_ends_a_live_attempt_and_says_what_it_ended(make_run):  # D7
    run = make_run(prepare="work prep; over", train=LONG, eval="work eval")
    first = run.start("0")
    run.up()
    trainer = run.trainer()
    stopped = run.stop()
    assert stopped.word == "stopped"
    assert f"{trainer}" in stopped.text.split()
    assert any(line.startswith(f"{trainer} ") and line.endswith(" TERM") for line in stopped.ended)
    assert result(first)[0] == 20
    end = run.record("end")
    assert (end["state"], end["why"], end["stage"], end["attempt"]) == ("stopped", "stopped", "02-train", "1")
    assert not run.record("failed.1")
    assert run.verdict() == "free"
    again = run.stop()
    assert (again.word, again.text, again.ended) == ("already-so", "1:stopped", ())
    (run.work / "alive").unlink(missing_ok=True)
    resumed = run.start("1:stopped")
    run.up(2)
    run.open_gate()
    assert result(resumed)[0] == 0
    assert run.launches() == ["prep", "train", "train", "eval"]


def test_a_trainer_that_saves_and_returns_0_on_term_is_stopped_and_not_stamped(make_run):
    run = make_run(
        train="trap 'echo saved >$W/saved; over; exit 0' TERM; work train; while :; do sleep 0.1 || :; done"
    )
    first = run.start("0")
    run.up()
    assert run.stop(grace_s=40).word == "stopped"
    assert result(first)[0] == 20
    assert (run.work / "saved").read_text() == "saved\n"
    assert not run.stamped()
    assert run.record("end")["state"] == "stopped"


def test_what_does_not_hear_term_is_killed_after_its_grace(make_run):
    run = make_run(train="trap '' TERM; work train; gate; over")
    first = run.start("0")
    run.up()
    trainer = run.trainer()
    stopped = run.stop(grace_s=1)
    assert stopped.word == "stopped"
    assert [line.rsplit(" ", 1)[1] for line in stopped.ended if line.startswith(f"{trainer} ")] == [
        "TERM",
        "KILL",
    ]
    assert not alive(trainer)
    result(first)


def test_stop_of_a_dead_chain_without_an_orphan_writes_its_end(make_run):
    run = make_run(train=LONG)
    first = run.start("0")
    run.up()
    run.crash_chain(first)
    run.end()
    stopped = run.stop()
    assert (stopped.word, stopped.text) == ("stopped", "nothing ended")
    assert run.seen() == "1:stopped"


def test_stop_leaves_a_stranger_alone_that_has_the_chains_pid(make_run):  # R16 R114 S40 D7
    run = make_run(train=LONG)
    first = run.start("0")
    run.up()
    run.crash_chain(first)
    # A pid that came round again, on a process whose arguments name the run and its tag.
    stranger = subprocess.Popen(["sh", "-c", "read -r _", run.run_id, run.run.tag], stdin=subprocess.PIPE)
    try:
        attempt = run.dir / "attempt"
        attempt.write_text(attempt.read_text().replace(f"pid={first.pid}\n", f"pid={stranger.pid}\n"))
        assert run.record("attempt")["pid"] == str(stranger.pid)
        stopped = run.stop()
        assert (stopped.word, alive(run.trainer())) == ("stopped", False)
        assert stranger.poll() is None
        assert not [line for line in stopped.ended if line.startswith(f"{stranger.pid} ")]
    finally:
        stranger.communicate()


def test_stop_quotes_an_attempt_and_leaves_every_other_alone(make_run):
    run = make_run(train="work train; [ -e $W/twice ] || { >$W/twice; over; exit 3; }; gate; over")
    assert run.stop(attempt=1).word == "already-so"
    run.result("0")
    second = run.start("1:failed")
    run.up(2)
    said = run.stop(attempt=1)
    assert (said.word, said.text, said.ended) == ("already-so", "2", ())
    assert run.verdict() == "running"
    run.open_gate()
    assert result(second)[0] == 0
    assert run.stop(attempt=2).text == "2:done"


def test_stop_ends_what_a_failed_attempt_left_behind(make_run):
    run = make_run(train="work train; over; nohup sleep 600 >/dev/null 2>&1 &")
    assert run.result("0")[0] == 20
    left = run.record("end")["leftovers"].split()
    stopped = run.stop()
    assert stopped.word == "stopped"
    assert set(left) <= set(stopped.text.split())
    assert run.seen() == "1:failed"
    wait_until(lambda: not run.tagged(), 60, "the leftover is gone")
