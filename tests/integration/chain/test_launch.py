"""Launching over a link: detached by what the box has, and answered in time."""

import os
import shutil
import subprocess
import time

import pytest
from integration.chain.rig import LAUNCH_S, LONG, alive, pids, proc, tools

from fleet.arming.start import launch, stop
from fleet.errors import NotFound, ProbeUnreadable, UsageError
from fleet.link.local import LocalLink

pytestmark = pytest.mark.timeout(300)
TMUX = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")


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
def test_under_tmux_the_job_lives_on_and_keeps_the_environment_of_its_own_start(
    make_run, own_tmux
):  # R69 S20 R66
    first = make_run(train="echo hello $COLOUR; locale 2>/dev/null | grep LC_ALL; work train; gate; over")
    second = make_run(train="echo hello $COLOUR; work train; gate; over")
    secret = "a b'c\"$d"
    began = time.monotonic()
    said = first.launch(
        detach="tmux", env={**own_tmux, "COLOUR": "blue", "LC_ALL": "C.UTF-8"}, prints="hello blue"
    )
    took = time.monotonic() - began
    assert (said.word, said.text, said.detach, said.first_line) == (
        "started",
        "attempt 1",
        "tmux",
        "hello blue",
    )
    assert took < LAUNCH_S - 10, "it was waited for to the end of its time"
    first.up()
    said = second.launch(detach="tmux", env={**own_tmux, "COLOUR": secret}, prints=f"hello {secret}")
    assert (said.word, said.detach, said.first_line) == ("started", "tmux", f"hello {secret}")
    sessions = subprocess.run(
        ["tmux", "-L", "babysit", "list-sessions", "-F", "#S"],
        env={**os.environ, **own_tmux}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert sorted(sessions) == sorted([f"babysit-{first.run_id}", f"babysit-{second.run_id}"])
    assert first.record("attempt")["how"] == "tmux"
    assert "LC_ALL=C.UTF-8" in first.log()
    assert secret not in " ".join(proc(pid, "cmdline") for pid in pids())
    assert not list(first.dir.glob("*first*"))
    for run in (first, second):
        run.open_gate()
        run.over("1:done")


@pytest.mark.parametrize(
    ("missing", "detach"),
    [((), "setsid"), (("setsid",), "python"), (("setsid", "python3", "python"), "nohup")],
)
def test_without_tmux_the_next_best_way_out_of_the_session_is_taken(
    make_run, tmp_path, missing, detach
):  # R66
    path = tools(tmp_path / "bin", but=("tmux", *missing))
    run = make_run(train=f"echo hello; trap 'over; exit 9' INT; {LONG}")
    said = run.launch(detach="tmux", path=path, prints="hello")
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
    run.over("1:done")


def test_every_word_of_a_chain_is_an_answer_and_none_is_raised(make_run):
    run = make_run(
        budget=2, train="work train; [ -e $W/twice ] || { >$W/twice; over; exit 3; }; gate; over; exit 4"
    )
    said = run.launch()
    assert said.word == "started"
    run.over("1:failed")
    assert run.launch("0").text == "1:failed"
    assert run.launch("0").word == "already-so"
    assert run.launch("7").word == "unknown"
    assert run.launch("seven").word == "usage"
    assert run.launch("1:failed").word == "started"
    run.up(2)
    assert (run.launch("2").word, run.launch("2").text) == ("alive", run.record("attempt")["pid"])
    run.open_gate()
    run.over("2:failed")
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
    assert run.launch("0", prints="first").first_line == "first"
    run.over("1:failed")
    assert run.launch("1:failed", prints="second").first_line == "second"


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
        # Now what is kept free for the end fits, and a record does not.
        size = (run.dir / "filler").stat().st_size
        os.truncate(run.dir / "filler", size // 4096 * 4096 - 8192)
        assert run.launch("0").word == "unwritable"
        assert not (run.dir / ".reserve").exists()
    finally:
        subprocess.run(["umount", "-l", run.dir], check=True)
    assert not run.launches()


@pytest.mark.parametrize("state", ["~/state", "state"])
def test_a_state_folder_begins_at_home_for_a_start_and_a_stop_as_for_all_else(make_run, tmp_path, state):
    """As arm takes it, wherever the box's login shell has gone to."""
    run = make_run(train="echo hello")
    link = LocalLink({**os.environ, "HOME": str(run.home)}, cwd=str(tmp_path))
    said = launch(link, state_dir=state, run_id=run.run_id, expect="0", detach="setsid", limit_s=LAUNCH_S)
    assert (said.word, said.text) == ("started", "attempt 1")
    run.over("1:done")
    ended = stop(link, state_dir=state, run_id=run.run_id, attempt=1, grace_s=1, limit_s=100)
    assert (ended.word, ended.text) == ("already-so", "1:done")
