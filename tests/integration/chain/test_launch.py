"""Launching over a link: detached by what the box has, answered in time, and waited for."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from integration.chain.rig import LONG, PYTHON, SHELLS, alive, kill, proc, result
from waiting import wait_until

from fleet.errors import NotFound, ProbeUnreadable, UsageError
from fleet.text.templates import box_script

TMUX = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")


def tools(folder, *, but=(), busybox=False):
    """A PATH folder with links to this machine's tools, or to busybox's, except `but`."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for name in os.listdir(place) if os.path.isdir(place) and not busybox else ():
            with_path = Path(place) / name
            if name not in but and not (folder / name).is_symlink() and os.access(with_path, os.X_OK):
                (folder / name).symlink_to(with_path)
    if busybox:
        applets = subprocess.run(
            ["busybox", "--list"], capture_output=True, text=True, check=True
        ).stdout.split()
        for name in set(applets) - set(but):
            (folder / name).symlink_to(shutil.which("busybox"))
        if "cksum" not in applets:  # an applet of upstream's default build that Debian leaves out
            (folder / "cksum").symlink_to(shutil.which("cksum"))
    if "python3" not in but:
        (folder / "python3").unlink(missing_ok=True)
        (folder / "python3").symlink_to(PYTHON)
    return folder


def parent(pid):
    return int(proc(pid, "stat").rpartition(") ")[2].split()[1])


def session(pid):
    return int(proc(pid, "stat").rpartition(") ")[2].split()[3])


@pytest.fixture
def own_tmux(tmp_path, monkeypatch):
    """A folder of our own for tmux's sockets; its server is ended after the test."""
    folder = tmp_path / "tmux"
    folder.mkdir(mode=0o700)
    yield {"TMUX_TMPDIR": str(folder)}
    subprocess.run(
        ["tmux", "-L", "babysit", "kill-server"],
        env={**os.environ, "TMUX_TMPDIR": str(folder)}, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@TMUX
def test_under_tmux_the_job_lives_on_and_keeps_the_environment_of_its_own_start(make_run, own_tmux):  # R40
    first = make_run(train="echo hello $COLOUR; locale 2>/dev/null | grep LC_ALL; work train; gate; over")
    second = make_run(train="echo hello $COLOUR; work train; gate; over")
    secret = "a b'c\"$d"
    began = time.monotonic()
    said = first.launch(detach="tmux", env={**own_tmux, "COLOUR": "blue", "LC_ALL": "C.UTF-8"})
    took = time.monotonic() - began
    assert (said.word, said.text, said.detach, said.first_line) == (
        "started",
        "attempt 1",
        "tmux",
        "hello blue",
    )
    assert took < 6
    said = second.launch(detach="tmux", env={**own_tmux, "COLOUR": secret})
    assert (said.word, said.detach, said.first_line) == ("started", "tmux", f"hello {secret}")
    sessions = subprocess.run(
        ["tmux", "-L", "babysit", "list-sessions", "-F", "#S"],
        env={**os.environ, **own_tmux}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert sorted(sessions) == sorted([f"babysit-{first.run_id}", f"babysit-{second.run_id}"])
    assert first.record("attempt")["how"] == "tmux"
    assert "LC_ALL=C.UTF-8" in first.log()
    assert secret not in " ".join(proc(pid, "cmdline") for pid in os.listdir("/proc") if pid.isdigit())
    assert not [name for name in os.listdir(first.dir) if "first" in name]
    for run in (first, second):
        run.open_gate()
        wait_until(lambda run=run: run.seen() == "1:done", 15, "the job has ended")


@pytest.mark.parametrize(
    ("missing", "detach"),
    [((), "setsid"), (("setsid",), "python"), (("setsid", "python3", "python"), "nohup")],
)
def test_without_tmux_the_next_best_way_out_of_the_session_is_taken(make_run, tmp_path, missing, detach):
    path = tools(tmp_path / "bin", but=("tmux", *missing))
    run = make_run(train=f"echo hello; trap 'over; exit 9' INT; {LONG}")
    said = run.launch(detach="tmux", path=path)
    assert (said.word, said.text, said.detach, said.first_line) == ("started", "attempt 1", detach, "hello")
    chain = int(run.record("attempt")["pid"])
    assert run.record("attempt")["how"] == detach
    assert alive(chain)
    assert session(chain) != os.getsid(0)
    ignored = int(proc(chain, "status").partition("SigIgn:\t")[2].split()[0], 16)
    if detach == "setsid":
        assert not ignored & 0b11, "deaf to SIGHUP or SIGINT"
    if detach == "nohup":
        assert ignored & 1, "SIGHUP would end it"
    run.up()
    run.open_gate()
    wait_until(lambda: run.seen() == "1:done", 15, "the job has ended")


def test_every_word_of_a_chain_is_an_answer_and_none_is_raised(make_run):
    run = make_run(
        budget=2, train="work train; [ -e $W/twice ] || { >$W/twice; over; exit 3; }; gate; over; exit 4"
    )
    said = run.launch()
    assert said.word == "started"
    wait_until(lambda: run.seen() == "1:failed", 10, "the job has failed")
    assert run.launch("0").text == "1:failed"
    assert run.launch("0").word == "already-so"
    assert run.launch("7").word == "unknown"
    assert run.launch("seven").word == "usage"
    assert run.launch("1:failed").word == "started"
    run.up(2)
    assert (run.launch("2").word, run.launch("2").text) == ("alive", run.record("attempt")["pid"])
    run.open_gate()
    wait_until(lambda: run.seen() == "2:failed", 10, "the job has failed again")
    said = run.launch("2:failed")
    assert (said.word, said.text) == ("budget", "2 of 2")
    assert run.launches() == ["train", "train"]


def test_a_run_that_is_not_there_is_not_found(make_run):
    run = make_run(train="true")
    run.run_id = "iris-ffff"
    with pytest.raises(NotFound, match="no run iris-ffff"):
        run.launch("0")
    with pytest.raises(NotFound, match="no run iris-ffff"):
        run.stop()
    run.run_id = "../iris"
    with pytest.raises(UsageError):
        run.launch("0")


def test_a_chain_that_says_nothing_of_ours_is_unreadable(make_run):
    run = make_run(train="true")
    run.chain.write_text("echo Welcome to the box")
    with pytest.raises(ProbeUnreadable, match="Welcome"):
        run.launch("0")


def test_what_the_job_prints_first_is_only_shown_from_this_attempt(make_run):
    run = make_run(train="[ -e $W/twice ] && echo second || { echo first; >$W/twice; exit 3; }")
    assert run.launch("0").first_line == "first"
    wait_until(lambda: run.seen() == "1:failed", 10, "the job has failed")
    assert run.launch("1:failed").first_line == "second"


def test_a_full_disk_is_answered_as_unwritable(make_run, tmp_path):
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    run = make_run(train="work train")
    kept = tmp_path / "kept"
    subprocess.run(["cp", "-a", f"{run.dir}/.", kept], check=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "babysit-test", run.dir], check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", run.dir], check=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={run.dir}/filler"], stderr=subprocess.DEVNULL, check=False)
        assert run.launch("0").word == "unwritable"
    finally:
        subprocess.run(["umount", "-l", run.dir], check=True)
    assert not run.launches()


# -- boxes with few tools


@pytest.mark.parametrize(
    "missing", [("flock",), ("flock", "python3", "python"), ("timeout",), ("sync", "stat")]
)
def test_a_box_without_a_tool_runs_the_job_and_lets_nobody_in_twice(make_run, tmp_path, missing):  # P1
    path = tools(tmp_path / "bin", but=missing)
    env = {"PATH": str(path)}
    run = make_run(train=LONG, eval="work eval; over")
    first = run.start("0", shell=(SHELLS[0]), **env)
    run.up()
    assert {result(process)[0] for process in [run.start("1", **env) for _ in range(3)]} == {10}
    run.crash_chain(first)
    code, said = run.result("1", **env)
    assert code == 10
    assert str(run.trainer()) in said
    kill(run.trainer())
    wait_until(lambda: run.verdict() == "free", 10, "the orphan has ended")
    (run.work / "alive").unlink()
    again = run.start("1", **env)
    run.up(2)
    run.open_gate()
    assert result(again)[0] == 0
    assert run.launches() == ["train", "train", "eval"]


def test_without_any_tool_for_locks_nothing_is_launched(make_run, tmp_path):
    path = tools(tmp_path / "bin", but=("flock", "python3", "python", "perl"))
    run = make_run(train="work train")
    assert run.result("0", PATH=str(path)) == (12, "unknown: this box has no flock, python3 or perl")
    assert not run.launches()


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox here")
def test_a_box_that_has_only_busybox_and_python(make_run, tmp_path):
    path = tools(tmp_path / "bin", busybox=True)
    run = make_run(train="echo hello; sleep 60")
    stage = run.dir / "stages" / "01-train.sh"
    stage.write_text("echo hello\nsleep 60\n")
    said = run.launch("0", path=path)
    assert (said.word, said.detach, said.first_line) == ("started", "setsid", "hello"), said
    said = run.launch("1", path=path)
    assert said.word == "alive"
    kill(int(run.record("attempt")["pid"]))
    said = run.launch("1", path=path)
    assert said.word == "alive"
    assert set(map(str, run.tagged())) <= set(said.text.split())
    stopped = run.stop(path=path)
    assert stopped.word == "stopped"
    assert not run.marked()
    assert run.seen() == "1:stopped"


# -- waiting


def wait(run, hold, path=None):
    """Return code of wait_for_end and how long it took."""
    script = box_script("records", "wait") + b'wait_for_end "$1" "$2"'
    env = {**os.environ, **({"PATH": str(path)} if path else {})}
    return subprocess.Popen(["sh", "-c", script, "sh", run.dir, str(hold)], env=env)


@pytest.mark.parametrize("missing", [(), ("flock",)])
def test_a_wait_returns_with_the_end_and_at_once_when_nothing_runs(make_run, tmp_path, missing):
    path = tools(tmp_path / "bin", but=missing)
    run = make_run(train=LONG)
    early = wait(run, 30, path)
    first = run.start("0")
    run.up()
    held = wait(run, 1, path)
    assert held.wait(10) == 1
    assert early.poll() is None
    run.open_gate()
    assert result(first)[0] == 0
    began = time.monotonic()
    assert early.wait(10) == 0
    assert time.monotonic() - began < 1.5
    began = time.monotonic()
    assert wait(run, 30, path).wait(10) == 0
    assert time.monotonic() - began < 1.5


def test_a_wait_without_a_plan_or_an_attempt(make_run):
    run = make_run(train="true")
    assert wait(run, 1).wait(10) == 1
    (run.dir / "plan").unlink()
    assert wait(run, 1).wait(10) == 2


# -- one search for several runs

SCAN = b"""
set -u
one=$1/stage.lock two=$2/stage.lock
scan_search 1 10 "$one" "$two"
for dir in "$1" "$2"; do
  read_plan "$dir"
  scan_of "$dir/stage.lock"
  printf '%s=%s\\n%s' "$p_run_id" "$alive" "$alive_lines"
done
"""


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("grep", ["as it is", "fails"])
def test_one_search_finds_what_is_alive_of_several_runs(make_run, tmp_path, shell, grep):
    first, second = make_run(train=LONG), make_run(train="true")
    chain = first.start("0")
    first.up()
    env = dict(os.environ)
    if grep == "fails":
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "grep").write_text("#!/bin/sh\nexit 2\n")
        (folder / "grep").chmod(0o755)
        env["PATH"] = f"{folder}:{env['PATH']}"
    script = box_script("records", "scan") + SCAN
    done = subprocess.run(
        [*shell, "-c", script, "sh", first.dir, second.dir],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    blocks = done.stdout
    trainer = first.trainer()
    assert f"{second.run_id}=\n" in f"{blocks}\n"
    found = dict(line.split(" ", 1) for line in blocks.splitlines() if " " in line and "=" not in line)
    assert found[str(trainer)] == "tag bash"
    assert found[str(chain.pid)].startswith("lock ")
    first.open_gate()
    assert result(chain)[0] == 0


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_search_that_cannot_look_is_unknown_and_never_none(make_run, tmp_path, shell):  # D1
    run = make_run(train=LONG)
    chain = run.start("0")
    run.up()
    path = tools(tmp_path / "bin", but=("sed",))
    script = box_script("records", "scan") + SCAN
    done = subprocess.run(
        [shutil.which(shell[0]), *shell[1:], "-c", script, "sh", run.dir, run.dir],
        env={**os.environ, "PATH": str(path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{run.run_id}=?\n" * 2
    run.open_gate()
    assert result(chain)[0] == 0
    assert run.result("0", PATH=str(path))[0] == 0  # moved on: already so
    other = make_run(train="work train")
    assert other.result("0", PATH=str(path)) == (12, "unknown: /proc cannot be searched")
    assert not other.launches()
