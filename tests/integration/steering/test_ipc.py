"""Every verb of `ipc` against a living loop of ours: the answer, the exit code, and nothing left behind."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pythons
from asking import ROOT, Asker, command
from loops import SLOW, stopped
from waiting import wait_until

from onbox.ipc import process

NESTED = """
import time
from onbox import ipc_range
for outer in ipc_range(1000, label="epochs"):
    for step in ipc_range(1_000_000, label="batches"):
        step.track(inner=step.index)
        if step.index == 0 and outer.index == 0:
            print("begun", flush=True)
        time.sleep(0.002)
    print("inner over", outer.index, flush=True)
"""

# A main thread that keeps the interpreter for itself: no thread of Python can answer. It stays in one call of C, which
# writes more than a pipe holds; whoever reads the first of it knows that it is in there.
HOGGING = """
import ctypes
from onbox import ipc_range
for step in ipc_range(10, label="hog"):
    ctypes.PyDLL(None).write(1, b"begun\\n" * 1_000_000, 6_000_000)
"""

pytestmark = pytest.mark.timeout(180)


def flat(text):
    return text.replace("\n         ", " ")


@pytest.fixture
def ipc(tmp_path, monkeypatch, capsys):
    return Asker(tmp_path / "program-0" / "ipc", monkeypatch, capsys)


@pytest.fixture
def loop(program, ipc):
    """A loop of ours, begun, over the asker's folder."""
    one = program(SLOW).begun()
    assert one.ipc == ipc.folder
    yield one
    assert ipc.fifos() == []


def test_list_shows_the_loop_in_the_table_of_the_original(loop, ipc):
    code, out, _ = ipc("list")
    head, rule, row = out.splitlines()
    assert code == 0 and head == f"{'PID':>8}  {'PPID':>7}  {'ALIVE':>5}  {'LANG':<4}  {'LABEL':<30}  STARTED"
    assert rule == "\u2500" * 85 and row.split()[:5] == [str(loop.pid), str(os.getpid()), "yes", "Py", "slow"]
    assert ipc("list", "--group", 1)[1] == "No processes with PPID 1.\n"
    (said,) = ipc.json("list", "--group", os.getpid())["answers"]
    assert said["reply"]["alive"] and said["kind"] == "onbox"
    assert said["reply"]["loops"] == loop.card()["loops"]


def test_peek_answers_the_asker_and_writes_nothing_to_the_program(loop, ipc):  # R151
    code, out, _ = ipc("peek", loop.pid)
    first, second, third = out.splitlines()
    assert code == 0 and first.startswith(f"[loopmonitor] PID {loop.pid}  iter ") and "/1000000" in first
    assert second.startswith("         elapsed ") and third.startswith("         loss=")
    (said,) = ipc.json("peek", "slow")["answers"]
    assert said["reply"]["final"] and said["reply"]["state"]["pid"] == loop.pid and said["confirmed"]
    assert loop.out() == "begun\n" and loop.err() == ""


def test_several_answers_stand_under_their_headings(loop, program, ipc):
    other = program(SLOW, ipc=loop.ipc).begun()
    code, out, _ = ipc("peek", "all")
    assert code == 0
    assert out.count("\u2500\u2500 slow  PID ") == 2 and str(other.pid) in out


def test_set_reaches_the_loop_and_says_from_when(program, ipc):
    one = program(
        "import time\nfrom onbox import ipc_range\n"
        "for step in ipc_range(10**6, label='x'):\n"
        "    if step.index == 0: print('begun', flush=True)\n"
        "    if step.get('tags'): print('got', step.get('tags'), flush=True)\n"
        "    time.sleep(0.002)\n"
    ).begun()
    (said,) = ipc.json("set", one.pid, "tags=['a', \"b\"]")["answers"]
    assert said["exit_code"] == 0 and said["reply"]["value"] == "['a', 'b']"
    assert "got ['a', 'b']\n" in one.begun("got").out()


def test_set_refused_by_the_loop_is_22(loop, ipc):
    for wrong in ("lr=os.system", "lr=", "=1", "a b=1", "lr=[[", "lr=" + "[" * 30 + "]" * 30):
        code, _, err = ipc("set", loop.pid, wrong)
        assert code == 22 and f"PID {loop.pid}" in err
    assert loop.process.poll() is None


def test_continue_leaves_the_loop_and_the_program_goes_on(loop, ipc):
    code, out, _ = ipc("continue", loop.pid)
    assert code == 0 and out.startswith(f"[loopmonitor] 'continue' sent to PID {loop.pid} (slow).\n")
    assert loop.end() == 0 and "behind the loop" in loop.out()
    left_at = loop.ends()[1]["state"]["iteration"]
    # The loop says so itself; where it is slow to, its end record does.
    assert re.search(rf"(left|continued) after iteration {left_at}\b", flat(out))


def test_break_saves_and_ends_the_program_with_88(loop, ipc):
    (said,) = ipc.json("break", loop.pid)["answers"]
    assert said["exit_code"] == 0 and loop.end() == 88 and "behind the loop" not in loop.out()
    assert said["reply"]["saved"] and loop.snapshots("break")[0]["pid"] == loop.pid
    record = loop.ends()[1]
    assert (record["ended"], record["saved"]) == ("broken", said["reply"]["saved"])
    (over,) = ipc.json("tail", loop.pid)["answers"]  # long after: its record still names the file
    assert over["reply"]["saved"] == record["saved"] and f"saved {record['saved']}" in over["says"]


def test_what_saved_nothing_says_so_in_its_end_record(program, ipc):
    one = program(SLOW).begun()
    assert ipc("continue", one.pid)[0] == 0 and one.end() == 0
    assert one.ends()[1]["saved"] is None and "saved" not in ipc("tail", one.pid)[1]


def test_checkpoint_says_where_it_saved(loop, ipc):
    (said,) = ipc.json("checkpoint", loop.pid)["answers"]
    assert json.loads(Path(said["reply"]["saved"]).read_text())["pid"] == loop.pid
    assert said["reply"]["saved"] in said["says"]


def test_stack_and_memory(loop, ipc):
    code, out, _ = ipc("stack", loop.pid)
    assert code == 0 and "thread MainThread (main):" in out and "script.py" in out
    code, out, _ = ipc("memory", loop.pid)
    assert code == 0 and " MB now, " in out
    (said,) = ipc.json("memory", loop.pid)["answers"]
    assert said["reply"]["rss_bytes"] > 1 << 20 and said["reply"]["peak_bytes"] > 1 << 20


def test_plot_draws_here_and_into_a_file(loop, ipc, tmp_path):
    code, out, _ = ipc("plot", loop.pid, "--last", 20)
    assert code == 0 and out.startswith("loss  ") and max(map(len, out.splitlines())) <= 80
    (said,) = ipc.json("plot", loop.pid, "--last", 3)["answers"]
    assert 1 <= len(said["reply"]["history"]["loss"]) <= 3
    picture = tmp_path / "plot.png"
    assert ipc("plot", loop.pid, "--png", picture)[0] == 0
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    code, _, err = ipc("plot", loop.pid, "--png", tmp_path / "none" / "plot.png")
    assert code == 2 and "the picture cannot be written" in " ".join(err.split())


def test_pause_and_resume_are_seen_to_be_so(loop, ipc):
    wait_until(loop.state, 60, "a first state")
    assert ipc("pause", loop.pid)[:2] == (0, f"[loopmonitor] PID {loop.pid} (slow) paused (SIGSTOP).\n")
    code, out, err = ipc("peek", loop.pid)
    assert (code, err) == (0, "") and "it is paused (state T): `resume` lets it go on" in flat(out)
    assert out.startswith(f"[loopmonitor] PID {loop.pid}  iter ")  # what it last wrote
    (said,) = ipc.json("set", loop.pid, "a=1", "--wait", "0.3")["answers"]
    assert said["exit_code"] == 124 and "the command waits there" in said["says"]
    assert ipc("resume", loop.pid)[:2] == (0, f"[loopmonitor] PID {loop.pid} (slow) resumed (SIGCONT).\n")
    assert ipc("peek", loop.pid)[0] == 0


def test_a_paused_loop_is_seen_from_outside_without_being_waited_for(loop, ipc):
    wait_until(loop.state, 60, "a first state")
    stopped(loop.pid)
    replies = {}
    for verb in ("peek", "memory", "stack"):
        (said,) = ipc.json(verb, loop.pid, "--wait", "3600")["answers"]
        assert (said["exit_code"], said["confirmed"]) == (0, True) and "paused" in said["says"]
        replies[verb] = said["reply"]
        assert replies[verb]["paused"] is True
    assert replies["peek"]["state"] == loop.state()
    assert replies["peek"]["written_at"] == (ipc.folder / f"{loop.pid}.state.json").stat().st_mtime
    assert replies["memory"]["rss_bytes"] > 1 << 20 and replies["stack"]["threads"]
    (ipc.folder / f"{loop.pid}.state.json").unlink()
    code, out, err = ipc("peek", loop.pid, "--wait", 3600)
    assert (code, out) == (124, "") and "has written no state of this loop" in flat(err)
    os.kill(loop.pid, signal.SIGCONT)
    wait_until(lambda: process.state_letter(loop.pid) != "T", 60, "it goes on")
    (said,) = ipc.json("peek", loop.pid)["answers"]
    assert said["reply"]["final"] and "paused" not in said["reply"]


def test_an_inner_loop_is_meant_by_its_number(program, ipc):
    one = program(NESTED).begun()
    wait_until(lambda: len(one.card()["loops"]) == 2, 60, "the inner loop in the card")
    (said,) = ipc.json("peek", f"{one.pid}/2")["answers"]
    assert (said["n"], said["label"]) == (2, "batches") and "inner" in said["reply"]["state"]["tracked"]
    assert ipc("continue", f"{one.pid}/2")[0] == 0
    wait_until(lambda: "inner over 0" in one.out(), 60, "the inner loop left")
    code, _, err = ipc("peek", f"{one.pid}/99")
    assert code == 3 and "runs no loop 99" in err
    assert ipc("break", one.pid, "--wait", 0.3)[0] in (0, 124)  # the outer one waits for its inner one
    assert one.process.poll() is None or one.end() == 88


def test_a_thread_that_keeps_the_interpreter_is_seen_from_outside(program, ipc):
    reading, writing = os.pipe()
    one = program(HOGGING, stdout=writing)
    os.close(writing)
    try:
        assert os.read(reading, 6) == b"begun\n", one.err()
        (said,) = ipc.json("stack", one.pid, "--wait", "0.5")["answers"]
        assert said["exit_code"] == 0 and said["reply"]["source"] in {"proc", "py-spy"}
        assert any(thread["main"] for thread in said["reply"]["threads"])
        code, out, _ = ipc("stack", one.pid, "--wait", 0.3)
        assert code == 0 and "(main)" in out
    finally:
        os.close(reading)


def test_a_loop_in_a_long_iteration_has_accepted_and_leaves_later(program, ipc):
    one = program(
        "import time\nfrom onbox import ipc_range\nfor step in ipc_range(9, label='long'):\n"
        "    print('begun', flush=True)\n    time.sleep(900)\n"
    ).begun()

    def accepted():
        (said,) = ipc.json("continue", one.pid, "--wait", "0.5")["answers"]
        assert said["exit_code"] == 124
        return said["says"] == "accepted; it leaves when the iteration ends"

    wait_until(accepted, 60, "the loop has accepted")


def test_dying_while_asked_is_23_and_says_that_it_was_killed(loop, ipc):
    stopped(loop.pid)
    asking = command(ipc.folder, "set", loop.pid, "a=1", "--wait", 100, "--json")
    try:
        wait_until(lambda: ipc.unread(loop.pid), 60, "the question was asked")
        os.kill(loop.pid, signal.SIGKILL)
        out, _ = asking.communicate(timeout=60)
    finally:
        asking.kill()
        asking.wait()
    assert asking.returncode == 23 and "it was killed" in json.loads(out)["answers"][0]["says"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_asker_leaves_no_fifo(loop, ipc, number):
    stopped(loop.pid)
    asking = command(ipc.folder, "set", loop.pid, "a=1", "--wait", 100)
    try:
        wait_until(lambda: ipc.unread(loop.pid), 60, "the question was asked")
        asking.send_signal(number)
        _, err = asking.communicate(timeout=60)
    finally:
        asking.kill()
        asking.wait()
    assert (asking.returncode, err) == (128 + number, "") and ipc.fifos() == []


def test_clean_takes_what_the_dead_left_and_nothing_of_the_living(program, ipc):
    dead, living = program(SLOW).begun(), None
    living = program(SLOW, ipc=dead.ipc).begun()
    dead.process.kill()
    dead.end()
    assert dead.left_behind() and dead.registered()
    for path in (*dead.ipc.glob(f".{dead.pid}.*"), *dead.ipc.glob(f"onbox/.{dead.pid}.*")):
        os.utime(path, (1, 1))  # what it was just writing is taken away when it has aged
    for name in ("4194999.fifo", "4194998.state.json", "notes.txt", "4194997.cmd"):
        os.mkfifo(dead.ipc / name) if name.endswith("fifo") else (dead.ipc / name).write_text("{}")
    (dead.ipc / "4194996.fifo").write_text("not a FIFO")
    code, out, _ = ipc("clean")
    assert code == 0 and out == f"Removed stale entries: {sorted([dead.pid, 4194999, 4194998, 4194997])}\n"
    assert dead.left_behind() == [] and dead.registered() is None
    assert living.registered() and living.card() and ipc("peek", living.pid)[0] == 0
    assert (dead.ipc / "notes.txt").exists() and (dead.ipc / "4194996.fifo").exists()
    assert ipc("clean")[1] == "Registry is clean.\n"


def test_clean_leaves_what_another_machine_has_in_a_shared_folder(program, ipc):
    one = program(SLOW).begun()
    card, entry = one.card(), one.registered()
    one.process.kill()
    one.end()
    path = one.ipc / "onbox" / f"{one.pid}.json"
    path.write_text(json.dumps({**card, "host": "another-machine"}))
    assert ipc("clean")[1] == "Registry is clean.\n"
    assert one.registered() and path.exists() and f"{one.pid}.fifo" in one.left_behind()
    path.write_text(json.dumps({**card, "host": "another-machine", "loops": []}))
    (one.ipc / "registry.json").write_text("{}")
    assert (
        ipc("clean")[1] == "Registry is clean.\n" and path.exists() and f"{one.pid}.fifo" in one.left_behind()
    )
    path.write_text(json.dumps({**card, "host": "another-machine"}))
    (one.ipc / "registry.json").write_text(json.dumps({str(one.pid): entry}))
    code, _, err = ipc("peek", one.pid)
    assert code == 3 and "of the machine another-machine" in err.replace("\n         ", " ")


def test_clean_takes_the_fifo_of_a_killed_asker_but_not_of_a_living_one(loop, ipc):
    for name in ("0" * 16, "1" * 16, "2" * 16):
        os.mkfifo(ipc.folder / "onbox" / f"{name}.fifo", 0o600)
    for name in ("0" * 16, "1" * 16):
        os.utime(ipc.folder / "onbox" / f"{name}.fifo", (1, 1))
    reading = os.open(ipc.folder / "onbox" / f"{'1' * 16}.fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        ipc("clean")
        assert ipc.fifos() == [f"{'1' * 16}.fifo", f"{'2' * 16}.fifo"]
    finally:
        os.close(reading)
        for name in ("1" * 16, "2" * 16):
            (ipc.folder / "onbox" / f"{name}.fifo").unlink()


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_the_command_says_the_same_under_the_oldest_and_the_newest_python(loop, ipc, version):
    asking = command(
        ipc.folder, "peek", loop.pid, "--json", python=pythons.found().get(version, sys.executable)
    )
    out, err = asking.communicate(timeout=60)
    assert (asking.returncode, err) == (0, "") and json.loads(out)["answers"][0]["pid"] == loop.pid


def test_what_only_our_own_option_could_mean_is_not_said_in_the_words_of_the_original(loop, ipc):
    assert ipc("peek", "nix")[2].startswith("[loopmonitor] No alive processes matching 'nix'.\n")
    for target, words in (("all", "No loop of the run"), ("slow", "No loop matching 'slow' of the run")):
        said = ipc.json("peek", target, "--tag", "train-1")["error"]
        assert said["what"] == f"{words} with the tag train-1 runs here." and said["next"] == "ipc list"


def test_closed_streams_do_not_matter(loop, ipc):
    words = f"exec {sys.executable} -m onbox ipc set {loop.pid} a=1 <&- >&- 2>&-"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", words], env=env, timeout=90, check=False).returncode == 0


def test_an_ascii_terminal_reads_the_table_too(loop, ipc):
    asking = command(ipc.folder, "list", env={"PYTHONIOENCODING": "ascii"})
    out, err = asking.communicate(timeout=60)
    assert (asking.returncode, err) == (0, "") and out.splitlines()[1] == "-" * 85


def test_votes_go_after_a_day_unless_a_living_rank_may_have_to_read_them(program, ipc):
    one = program(SLOW.replace('label="slow"', 'label="slow", group="g", rank=0, world=1')).begun()
    wait_until(one.card, 60, "its card")
    votes = one.ipc / "onbox/votes"
    votes.mkdir(mode=0o700)
    now = time.time()
    for name, age_s in (("a" * 16, 3 * 86400), ("b" * 16, 3600), ("notes", 3 * 86400)):
        (votes / name).write_text("go")
        os.utime(votes / name, (now - age_s,) * 2)
    card = json.loads((path := one.ipc / "onbox" / f"{one.pid}.json").read_bytes())
    path.write_text(
        json.dumps({**card, "started_at": now - 4 * 86400})
    )  # as if it had begun before all of them
    assert ipc("clean")[0] == 0 and len(list(votes.iterdir())) == 3
    path.write_text(json.dumps(card))
    assert ipc("clean")[0] == 0
    assert sorted(path.name for path in votes.iterdir()) == ["b" * 16, "notes"]


def test_the_folder_is_private(loop, ipc):
    ipc("peek", loop.pid)
    assert (
        stat.S_IMODE(ipc.folder.stat().st_mode)
        == stat.S_IMODE((ipc.folder / "onbox").stat().st_mode)
        == 0o700
    )
