"""`ipc` with loops of the 0.1.x wire that are not ours: asked by nothing but their own commands, seen from outside."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asking import THEIRS, Asker, command
from loops import Program, stopped
from waiting import wait_until

from onbox.ipc import foreign
from onbox.ipc.channel import Channel, Nobody
from onbox.ipc.known import roll as known_roll
from onbox.ipc.process import Watched
from onbox.ipc.target import Chosen

pytestmark = pytest.mark.timeout(180)

SAMPLER = """#!{python}
import json, sys
assert sys.argv[1:3] == ["dump", "--json"] and sys.argv[3] == "--pid" and sys.argv[4].isdigit()
frames = [dict(name="inner", filename="t.py", line=7), dict(name="<module>", filename="t.py", line=9)]
print(json.dumps([dict(pid=int(sys.argv[4]), thread_name="MainThread", frames=frames)]))
"""


@pytest.fixture
def ipc(tmp_path, monkeypatch, capsys):
    (tmp_path / "ipc").mkdir(mode=0o700)
    return Asker(tmp_path / "ipc", monkeypatch, capsys)


@pytest.fixture
def theirs(tmp_path, ipc):
    """`theirs(label, mute, language)` starts one; all end with the test."""
    started = []

    def start(*words, **options):
        home = tmp_path / f"theirs-{len(started)}"
        text = THEIRS.replace("sys.argv", repr(["script.py", *words])) if words else THEIRS
        options.setdefault("flags", ("-W", "ignore"))
        started.append(Program(home, text, ipc=ipc.folder, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def loop(theirs):
    """One with a state, without which it has nothing to save."""
    one = theirs().begun()
    wait_until(one.state, 60, "a first state")
    return one


def test_peek_reads_the_state_and_never_signals(loop, ipc):  # R151
    (said,) = ipc.json("peek", loop.pid)["answers"]
    assert said["kind"] == "loopmonitor" and said["reply"]["state"]["pid"] == loop.pid and said["confirmed"]
    assert ipc("peek", "theirs")[1].startswith(f"[loopmonitor] PID {loop.pid}  iter ")
    for verb in ("stack", "memory", "plot", "list"):
        assert ipc(verb, *(() if verb == "list" else (loop.pid,)))[0] == 0
    assert loop.out() == "begun\n"


def test_a_paused_one_is_said_to_be_paused(loop, ipc):
    stopped(loop.pid)
    (said,) = ipc.json("peek", loop.pid)["answers"]
    assert (said["exit_code"], said["reply"]["paused"]) == (0, True) and "it is paused" in said["says"]


def test_before_its_first_state_peek_says_so(theirs, ipc):
    one = theirs().begun()
    stopped(one.pid)
    (ipc.folder / f"{one.pid}.state.json").unlink(missing_ok=True)
    code, out, _ = ipc("peek", one.pid)
    assert code == 0 and "no state yet" in out


def test_set_is_sent_and_said_to_be_unconfirmed(loop, ipc):
    (said,) = ipc.json("set", loop.pid, "lr=0.5")["answers"]
    assert (said["exit_code"], said["confirmed"]) == (0, False)
    wait_until(lambda: (loop.state() or {}).get("tracked", {}).get("lr") == 0.5, 60, "the value is there")


def test_what_it_would_refuse_unseen_is_refused_before(loop, ipc):
    for wrong in ("lr=os", "1x=3", "lr=[[[["):
        assert ipc("set", loop.pid, wrong)[0] == 22
    assert loop.out() == "begun\n"


def test_checkpoint_is_seen_by_its_file(loop, ipc):
    (said,) = ipc.json("checkpoint", loop.pid)["answers"]
    assert said["exit_code"] == 0 and json.loads(Path(said["reply"]["saved"]).read_text())["pid"] == loop.pid


def test_continue_is_seen_by_its_leaving(loop, ipc):
    (said,) = ipc.json("continue", loop.pid)["answers"]
    assert (said["exit_code"], said["confirmed"]) == (0, True)
    assert loop.end() == 0 and "behind the loop" in loop.out()


def test_break_is_seen_by_its_file_and_its_end(loop, ipc):
    began = time.monotonic()
    (said,) = ipc.json("break", loop.pid)["answers"]
    assert said["exit_code"] == 0
    # Its end is waited for, as long as that is worth it.
    assert "the program has ended" in said["says"] or time.monotonic() - began > foreign._ENDS_S
    assert json.loads(Path(said["reply"]["saved"]).read_text())["pid"] == loop.pid
    assert loop.end() == 0 and "behind the loop" not in loop.out()


@pytest.mark.parametrize("verb", ["continue", "break", "checkpoint"])
def test_what_cannot_be_seen_in_time_is_124(theirs, ipc, verb):
    one = theirs("deaf", "mute", "python").begun()
    (said,) = ipc.json(verb, one.pid, "--wait", "0.3")["answers"]
    assert said["exit_code"] == 124 and not said["confirmed"]
    one.begun(f"heard {verb}\n")


def test_a_stopped_one_has_not_read_it_and_a_second_command_waits_its_turn(loop, ipc):
    stopped(loop.pid)
    code, _, err = ipc("set", loop.pid, "a=1", "--wait", 0.3)
    assert code == 124 and "has not read it" in err and "state T" in err.replace("\n         ", " ")
    code, _, err = ipc("set", loop.pid, "b=2", "--wait", 0.3)
    assert code == 124 and "not sent: an earlier command still waits" in err.replace("\n         ", " ")
    os.kill(loop.pid, signal.SIGCONT)
    wait_until(lambda: "heard set a=1" in loop.out(), 60, "the first was heard")
    assert ipc("set", loop.pid, "c=3")[0] == 0
    wait_until(lambda: "heard set c=3" in loop.out(), 60, "the third was heard")
    assert "b=2" not in loop.out()


def test_two_askers_take_turns(loop, ipc):
    askers = [command(ipc.folder, "set", loop.pid, f"k{at}={at}", "--wait", 90) for at in range(4)]
    assert [asker.wait(100) for asker in askers] == [0, 0, 0, 0]
    for asker in askers:
        asker.communicate()
    wait_until(lambda: loop.out().count("heard set k") == 4, 60, "each was heard")


def test_dying_while_it_is_waited_for_is_23(theirs, ipc):
    one = theirs("deaf", "mute", "python").begun()
    asking = command(ipc.folder, "continue", one.pid, "--wait", 100, "--json")
    try:
        wait_until(lambda: "heard continue" in one.out(), 60, "the command was heard")
        one.process.kill()
        one.end()
        out, _ = asking.communicate(timeout=60)
    finally:
        asking.kill()
        asking.wait()
    assert asking.returncode == 23 and "it was killed" in json.loads(out)["answers"][0]["says"]


def test_a_program_whose_output_nobody_reads_is_not_made_to_print(theirs, ipc):
    reading, writing = os.pipe()
    one = theirs(stdout=writing)
    os.close(writing)
    assert os.read(reading, 100) == b"begun\n"
    os.close(reading)
    code, _, err = ipc("continue", one.pid)
    assert code == 22 and "nobody reads any more" in err.replace("\n         ", " ")
    assert ipc("peek", one.pid)[0] == 0 and one.process.poll() is None


def test_a_program_that_does_not_catch_the_signal_is_never_signalled(tmp_path, ipc):
    """As in the moment between the FIFO and the handler: SIGUSR1 would end it."""
    text = THEIRS.replace("    signal.signal(signal.SIGUSR1, heard)\n", "", 1)
    one = Program(tmp_path / "theirs", text, ipc=ipc.folder).begun()
    try:
        code, _, err = ipc("continue", one.pid, "--wait", 0.3)
        assert code == 124 and "does not catch SIGUSR1" in err
        assert one.process.poll() is None
    finally:
        one.close()


def test_nothing_is_signalled_that_stopped_catching_while_it_was_told(tmp_path, ipc):
    """The last look, behind the write: the one that a loop's end in just that moment leaves."""
    text = THEIRS.replace("    signal.signal(signal.SIGUSR1, heard)\n", "", 1)
    one = Program(tmp_path / "theirs", text, ipc=ipc.folder).begun()
    (loop,) = [Chosen(known, 1) for known in known_roll(ipc.folder).living]
    watched, channel = Watched(loop.known.identity), Channel(ipc.folder / f"{one.pid}.fifo")
    try:
        telling = foreign._Telling(ipc.folder, loop, "peek", 0.0, watched, None)
        with pytest.raises(Nobody, match="no signal was sent"):
            foreign._fired(channel, telling)
        assert one.process.poll() is None and channel.unread() == len("peek\n")
    finally:
        channel.close()
        watched.close()
        one.close()


def test_a_sampler_on_the_path_shows_its_frames(loop, ipc, tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "py-spy"
    tool.parent.mkdir()
    tool.write_text(SAMPLER.format(python=sys.executable))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    (said,) = ipc.json("stack", loop.pid)["answers"]
    assert said["reply"]["source"] == "py-spy"
    frames = said["reply"]["threads"][0]["frames"]
    assert [frame["function"] for frame in frames] == ["<module>", "inner"]
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert ipc.json("stack", loop.pid)["answers"][0]["reply"]["source"] == "proc"


def test_pause_stops_it_and_resume_lets_it_go(loop, ipc):
    assert ipc("pause", loop.pid)[0] == 0 and ipc.json("resume", loop.pid)["answers"][0]["confirmed"]


def test_a_loop_in_r_gets_its_line_in_its_file(theirs, ipc):
    one = theirs("chain", "", "R").begun()
    path = ipc.folder / f"{one.pid}.cmd"
    (said,) = ipc.json("set", one.pid, "burn=3")["answers"]
    assert (said["kind"], said["exit_code"], said["confirmed"]) == ("R", 0, False)
    assert ipc("checkpoint", one.pid, "--wait", 0.2)[0] == 124
    assert path.read_text() == "set burn=3\ncheckpoint\n" and path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to(ipc.folder / "elsewhere")
    assert ipc("set", one.pid, "burn=4")[0] == 22 and not (ipc.folder / "elsewhere").exists()
    assert ipc("list")[1].splitlines()[2].split()[3] == "R"


def test_a_reused_pid_is_no_loop(ipc):
    """Killed, and its number given to another process: the registration is older than the process."""
    other = subprocess.Popen(["sleep", "900"])
    try:
        entry = {"pid": other.pid, "label": "old", "script": "t.py", "language": "python", "ppid": 1}
        entry["start_time"] = "2020-01-01T00:00:00+00:00"
        (ipc.folder / "registry.json").write_text(json.dumps({str(other.pid): entry}))
        os.mkfifo(ipc.folder / f"{other.pid}.fifo", 0o600)
        for verb in ("peek", "continue", "pause", "memory"):
            code, _, err = ipc(verb, other.pid)
            assert code == 3 and "another process has its number now" in err.replace("\n         ", " ")
        assert "no \x20 Py" in ipc("list")[1] or " no " in ipc("list")[1]
        assert ipc("clean")[1] == f"Removed stale entries: [{other.pid}]\n"
        assert other.poll() is None and list(ipc.folder.glob("*.fifo")) == []
    finally:
        other.kill()
        other.wait()


def test_a_registration_that_proves_nothing_is_no_loop_and_stays(ipc):
    entry = {
        "pid": os.getpid(),
        "label": "odd",
        "script": "",
        "language": "python",
        "start_time": "yesterday",
    }
    (ipc.folder / "registry.json").write_text(json.dumps({str(os.getpid()): entry}))
    code, _, err = ipc("pause", os.getpid())
    assert code == 3 and "nothing shows" in err
    assert ipc("clean")[1] == "Registry is clean.\n"


def test_the_process_of_another_user_is_no_loop(ipc):
    other = subprocess.Popen(["sleep", "900"], user=65534)
    try:
        entry = {"pid": other.pid, "label": "x", "script": "", "language": "python", "ppid": 1}
        entry["start_time"] = "2099-01-01T00:00:00+00:00"
        (ipc.folder / "registry.json").write_text(json.dumps({str(other.pid): entry}))
        code, _, err = ipc("pause", other.pid)
        assert code == 3 and "belongs to another user" in err.replace("\n         ", " ")
    finally:
        other.kill()
        other.wait()


# What stands where the FIFO should


def _symlink(path, elsewhere):
    path.symlink_to(elsewhere)


def _regular(path, _elsewhere):
    path.write_text("")


def _hard_link(path, elsewhere):
    os.mkfifo(elsewhere, 0o600)
    os.link(elsewhere, path)


def _socket(path, _elsewhere):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(str(path))


def _of_another(path, _elsewhere):
    os.mkfifo(path, 0o600)
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (_symlink, "is a symbolic link"),
        (_regular, "not a FIFO"),
        (_hard_link, "2 names"),
        (_socket, "not a FIFO"),
        (_of_another, "belongs to uid 65534"),
    ],
)
def test_what_is_no_fifo_of_ours_is_never_written_and_nobody_is_signalled(
    loop, ipc, put, why, tmp_path
):  # S38
    path, elsewhere = ipc.folder / f"{loop.pid}.fifo", tmp_path / "elsewhere"
    elsewhere.write_text("precious") if put is _symlink else None
    path.unlink()
    put(path, elsewhere)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if put in {_hard_link, _of_another} else None
    try:
        code, _, err = ipc("continue", loop.pid)
        assert code == 22 and why in err.replace("\n         ", " ")
        assert reading is None or os.read(reading, 100) == b""
    finally:
        os.close(reading) if reading is not None else None
    assert put is not _symlink or elsewhere.read_text() == "precious"
    assert loop.process.poll() is None and loop.out() == "begun\n"


def test_a_fifo_that_is_gone_or_unread_means_no_loop(loop, ipc):
    path = ipc.folder / f"{loop.pid}.fifo"
    path.unlink()
    assert ipc("continue", loop.pid)[0] == 3
    os.mkfifo(path, 0o600)  # nobody reads this one
    code, _, err = ipc("continue", loop.pid)
    assert code == 3 and "nobody reads" in err and loop.process.poll() is None
