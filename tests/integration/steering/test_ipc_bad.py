"""`ipc` against our own loops when something is wrong: pids, files, pipes, lines, torn content."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest
from asking import Asker, command
from loops import SLOW, stopped
from waiting import wait_until

from onbox.ipc.known import iso

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def ipc(tmp_path, monkeypatch, capsys):
    return Asker(tmp_path / "program-0" / "ipc", monkeypatch, capsys)


@pytest.fixture
def loop(program, ipc):
    yield program(SLOW).begun()
    assert ipc.fifos() == []


def fill(writing):
    """Nothing comes back: not one more byte goes into the pipe."""
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * 4096)


def flat(text):
    return text.replace("\n         ", " ")


@pytest.mark.parametrize("verb", ["peek", "stack", "continue", "pause", "tail", "checkpoint"])
def test_no_such_pid_is_3(ipc, verb):
    code, out, err = ipc(verb, 4194999)
    assert (
        (code, out) == (3, "") and "No alive processes matching '4194999'." in err and "next: ipc list" in err
    )


def test_a_dead_pid_is_3_and_says_so(loop, ipc):
    loop.process.kill()
    loop.end()
    said = ipc.json("peek", loop.pid)
    assert said["exit_code"] == 3 and said["answers"] == []
    assert said["error"]["code"] == "no-loop" and "no such process" in said["error"]["what"]


@pytest.mark.parametrize(
    "late_s", [0.0, 1.5]
)  # a start time in whole seconds may seem to be earlier than it was
def test_a_reused_pid_is_no_loop_of_ours(loop, ipc, late_s):  # S38 S40
    """The card of a dead loop, and another process with its number."""
    card, entry = loop.card(), loop.registered()
    entry["start_time"] = iso(card["loops"][0]["started_at"] + late_s)
    loop.process.kill()
    loop.end()
    other = subprocess.Popen(["sleep", "900"])
    try:
        (ipc.folder / "onbox" / f"{other.pid}.json").write_text(json.dumps({**card, "pid": other.pid}))
        (ipc.folder / "registry.json").write_text(json.dumps({str(other.pid): {**entry, "pid": other.pid}}))
        for verb in ("peek", "pause", "break"):
            code, _, err = ipc(verb, other.pid)
            assert code == 3 and "another process has its number now" in flat(err)
        assert other.poll() is None
        ipc("clean")
        assert not (ipc.folder / "onbox" / f"{other.pid}.json").exists() and other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("how", ["symlink", "regular", "hard link", "another's"])
def test_what_is_no_fifo_of_ours_is_never_written(loop, ipc, how, tmp_path):  # S38
    path, elsewhere = ipc.folder / f"{loop.pid}.fifo", tmp_path / "elsewhere"
    path.rename(elsewhere)
    if how == "symlink":
        path.symlink_to(elsewhere)
    elif how == "regular":
        path.write_text("")
    elif how == "hard link":
        os.link(elsewhere, path)
    else:
        elsewhere.rename(path)
        os.chown(path, 65534, 65534)
    assert ipc("set", loop.pid, "a=1", "--wait", 0.5)[0] == 22
    assert not path.is_file() or path.is_symlink() or path.read_bytes() == b""


def test_a_stopped_reader_with_a_full_pipe_is_124_and_nothing_was_written(loop, ipc):
    stopped(loop.pid)  # each of its threads: one that still runs would empty the pipe
    writing = os.open(ipc.folder / f"{loop.pid}.fifo", os.O_WRONLY | os.O_NONBLOCK)
    try:
        fill(writing)
        code, _, err = ipc("set", loop.pid, "a=1", "--wait", 0.5)
        assert code == 124 and "state T" in flat(err) and "its pipe is full, nothing was written" in flat(err)
        asking = command(ipc.folder, "set", loop.pid, "b=2", "--wait", 100)
        try:
            wait_until(ipc.fifos, 60, "the question was made")
            os.kill(loop.pid, signal.SIGCONT)  # within its time: tried again until there is room
            out, _ = asking.communicate(timeout=60)
        finally:
            asking.kill()
            asking.wait()
        assert asking.returncode == 0 and "set b = 2" in out
    finally:
        os.close(writing)


def test_a_line_of_4095_bytes_arrives_whole_and_one_more_is_refused(loop, ipc):
    head = len(f"@{'0' * 16}/1 set big=''")
    fits = "x" * (4095 - head)
    code, _, err = ipc("set", loop.pid, f"big='{fits}'")
    (said,) = ipc.json("set", loop.pid, f"big='{fits}'")["answers"] if code == 0 else ({"reply": None},)
    assert code == 0 and len(said["reply"]["value"]) == len(fits) + 2, err
    for text in (f"big='{fits}{'x' * 40}'", f"big='{'é' * 4000}'", "big=" + "[" * 5000):
        code, out, err = ipc("set", loop.pid, text)
        assert (code, out) == (2, "") and "at most 4095 fit" in flat(err)


def test_a_second_command_cannot_be_smuggled_in(loop, ipc):
    for sign in ("\n", "\r", "\x0b", "\x1b", "\x85", "\u2028", "\x00"):
        said = ipc.json("set", loop.pid, f"s=a{sign}break")
        assert said["exit_code"] == 2 and "control character" in said["error"]["what"], repr(sign)
    assert ipc("peek", loop.pid)[0] == 0 and loop.process.poll() is None


def test_a_value_without_a_name_is_a_wrong_command_line(loop, ipc):
    code, _, err = ipc("set", loop.pid, "lr")
    assert code == 2 and "KEY=VALUE" in err, err


def test_huge_and_nested_literals_end_in_an_answer(loop, ipc):
    assert ipc("set", loop.pid, "v={'a': {1: [2, (3, {4})]}}")[0] == 0
    for value in ("9**9**9", "'a'*10**9", "[" * 25 + "]" * 25, "1" * 4000 + "x", "-" * 90 + "1"):
        assert ipc("set", loop.pid, f"v={value}")[0] == 22, value
    assert loop.process.poll() is None


def test_a_torn_registry_is_never_no_loops_at_all(loop, ipc):
    for content in ("", "{", "[]", "null", '"x"', '{"a"', "\x00"):
        (ipc.folder / "registry.json").write_text(content)
        code, _, err = ipc("peek", loop.pid)
        assert code == 2 and "cannot be read" in flat(err), content
    (ipc.folder / "registry.json").write_text('{"1": 3, "2": {"pid": "x"}, "3": {}}')
    assert ipc("peek", loop.pid)[0] == 0  # odd entries are no entries; the loop has its card


def test_an_odd_card_makes_no_loop_of_ours(loop, ipc):
    """What is registered stays reachable by the old wire; the odd card is never believed."""
    for content in ("", "{", "[]", '{"format": 2}', '{"format": 1, "pid": "x"}', "\x00" * 70000):
        (ipc.folder / "onbox" / f"{loop.pid}.json").write_text(content)
        (said,) = ipc.json("peek", loop.pid)["answers"]
        assert (said["kind"], said["exit_code"]) == ("loopmonitor", 0), content[:30]


def test_a_folder_of_another_or_open_to_others_is_not_used(ipc):
    ipc.folder.mkdir(parents=True)
    for mode in (0o777, 0o770, 0o702):
        ipc.folder.chmod(mode)
        said = ipc.json("peek", "all")
        assert said["exit_code"] == 2 and said["error"]["code"] == "folder"
    ipc.folder.chmod(0o700)
    os.chown(ipc.folder, 65534, 65534)
    code, _, err = ipc("list")
    assert code == 2 and "belongs to uid 65534" in flat(err)
    os.chown(ipc.folder, os.geteuid(), os.getegid())


def test_a_wrong_command_line_has_its_document_too(ipc):
    said = ipc.json("frobnicate", "1")
    assert (said["exit_code"], said["error"]["code"]) == (2, "usage")
    assert ipc.json("notify", "1", "().__class__")["error"]["code"] == "usage"
    assert ipc("peek")[0] == 2 and ipc("--help")[0] == 0


def test_an_empty_tag_is_no_tag_and_means_no_loop(loop, ipc):
    said = ipc.json("break", "all", "--tag", "")
    assert (said["exit_code"], said["error"]["code"]) == (2, "usage") and loop.last("peek")["ok"]


def test_labels_and_values_cannot_act_on_the_terminal(program, ipc):
    one = program(
        "import time\nfrom onbox import ipc_range\n"
        "for step in ipc_range(10**6, label='\\x1b[2Jevil\\u202e\\n'):\n"
        "    step.track(**{'k\\x1b]0;x\\x07': 'v\\x1b[31m\\r\\n'})\n"
        "    if step.index == 0: print('begun', flush=True)\n"
        "    time.sleep(0.002)\n"
    ).begun()
    for words in (
        ("list",),
        ("peek", one.pid),
        ("stack", one.pid),
        ("plot", one.pid),
        ("set", one.pid, "a=1"),
        ("pause", one.pid),
    ):
        code, out, err = ipc(*words)
        assert code == 0 and not set("\x1b\x07\r\u202e") & set(out + err)


def opened(fifo):
    """An end to write into: it is made first, and then its reader opens it."""
    ends = []

    def tried():
        with contextlib.suppress(OSError):
            ends.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return ends

    wait_until(tried, 60, "a reader of the answer")
    return ends[0]


def test_garbage_in_the_answer_fifo_is_not_the_answer(loop, ipc):
    stopped(loop.pid)
    asking = command(ipc.folder, "set", loop.pid, "a=1", "--wait", 100, "--json")
    try:
        wait_until(lambda: ipc.unread(loop.pid), 60, "the question was asked")
        writing = opened(ipc.folder / "onbox" / ipc.fifos()[0])
        for junk in (b"\n", b"{\n", b"[]\n", b'{"id": "x", "final": true, "ok": true}\n', b"\xff\xfe\n"):
            os.write(writing, junk)
        os.close(writing)
        os.kill(loop.pid, signal.SIGCONT)
        out, _ = asking.communicate(timeout=60)
    finally:
        asking.kill()
        asking.wait()
    (said,) = json.loads(out)["answers"]
    assert said["exit_code"] == 0 and said["reply"]["value"] == "1"


def test_a_loop_that_lets_nobody_in_refuses_and_says_why(program, ipc):
    """No FIFO of its own is there: not that there is no such loop."""
    chained = "import faulthandler, signal\nfaulthandler.register(signal.SIGUSR1, chain=True)\n"
    one = program(chained + SLOW)
    wait_until(lambda: (one.card() or {}).get("loops") or one.process.poll() is not None, 60, "a card")
    for verb in ("peek", "break"):
        (said,) = ipc.json(verb, one.pid, "--wait", 5)["answers"]
        assert said["exit_code"] == 22 and "SIGUSR1 would end the program" in said["says"], said
    assert one.process.poll() is None


def end_record(folder, n, how, **more):
    place = folder / "onbox/ended"
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    for each in (place.parent, folder):
        each.chmod(0o700)
    said = {
        "label": f"loop {n}",
        "n": n,
        "ended": how,
        "exit_code": None,
        "ended_at": float(n),
        "tag": "run-1/01-train",
        **more,
    }
    (place / f"4194998-5-{n}.json").write_text(json.dumps(said))
    os.utime(place / f"4194998-5-{n}.json", (100 - n, 100 - n))  # copied about: the record's own word counts


def test_of_a_process_that_is_over_the_newest_loop_tells_and_none_for_one_that_was_killed(ipc):
    end_record(ipc.folder, 1, "finished")
    end_record(ipc.folder, 2, "exception", exit_code=1)
    (over,) = ipc.json("tail", 4194998)["answers"]
    assert (over["n"], over["label"], over["exit_code"]) == (2, "loop 2", 23), over
    assert ipc.json("tail", "4194998/1")["exit_code"] == 0
    assert ipc.json("tail", 4194998, "--tag", "run-1")["exit_code"] == 23
    assert ipc.json("tail", 4194998, "--tag", "run-2")["exit_code"] == 3
    end_record(ipc.folder, 3, "finished")
    assert ipc.json("tail", 4194998)["exit_code"] == 0
    card = {
        "format": 1, "pid": 4194998, "start_ticks": 5, "boot_id": "b", "host": os.uname().nodename, "cwd": "/", "script": "s",
        "started_at": 1.0, "tag": None, "group": None, "rank": None, "world": None, "why": None,
        "loops": [{"n": 4, "label": "killed", "total": None, "started_at": 4.0}],
    }  # fmt: skip
    (ipc.folder / "onbox/4194998.json").write_text(json.dumps(card))
    said = ipc.json("tail", 4194998)
    assert said["exit_code"] == 3 and "no such process" in said["error"]["what"], said


def test_break_tells_the_status_that_the_program_asked_for(program, ipc):
    one = program(SLOW.replace("label=", "break_code=7, label=")).begun()
    (said,) = ipc.json("break", one.pid)["answers"]
    # By the loop itself; where it is slow to say so, by its end record.
    assert re.search(r"the program ends with 7$|: broken after .* exit code 7\b", said["says"]), said
    assert said["reply"]["exit_code"] == 7
    assert one.end() == 7
