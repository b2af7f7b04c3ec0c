"""`tail` and `notify`: a line at once, an end with the loop, an end with whoever reads."""

import json
import os
import select
import signal
import subprocess

import pytest
from asking import THEIRS, command
from loops import SLOW, Program
from waiting import wait_until

pytestmark = pytest.mark.timeout(180)

FINISHING = """
import os, sys, time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="short"):
    step.track(loss=1.0 / (step.index + 1))
    if step.index == 0:
        print("begun", flush=True)
    if os.path.exists("now"):
        {how}
    time.sleep(0.002)
"""
ENDS = {
    "left": ("break", 0, "left"),
    "exception": ("raise ValueError('x')", 23, "exception"),
    "killed": ("os.kill(os.getpid(), 9)", 23, "it was killed"),
}


@pytest.fixture
def asks(program):
    """`asks(words)` starts the command over the first program's folder; all end with the test."""
    started = []

    def start(one, *words, **options):
        started.append(command(one.ipc, *words, **options))
        return started[-1]

    yield start
    for asking in started:
        asking.kill()
        asking.wait()
        for stream in (asking.stdin, asking.stdout, asking.stderr):
            if stream is not None:
                stream.close()


def line(asking):
    """The next line, as soon as it is there."""
    assert select.select([asking.stdout], [], [], 60)[0], "no line"
    return asking.stdout.readline()


def test_tail_speaks_at_once_into_a_pipe_and_once_an_interval(program, asks):
    one = program(SLOW).begun()
    asking = asks(one, "tail", one.pid, "--interval", 0.1, bufsize=1)
    assert line(asking) == f"[loopmonitor] Tailing PID {one.pid} every 0.1s \u2014 Ctrl+C to stop.\n"
    for _ in range(3):
        assert line(asking).startswith(f"[loopmonitor] PID {one.pid}  ")
    asking.send_signal(signal.SIGINT)
    assert asking.wait(60) == 130 and asking.stderr.read() == ""
    assert one.out() == "begun\n"


@pytest.mark.parametrize("how", sorted(ENDS))
def test_tail_ends_with_the_loop_and_says_how(program, asks, how):
    act, code, words = ENDS[how]
    one = program(FINISHING.format(how=act)).begun()
    asking = asks(one, "tail", one.pid, "--interval", 1000, "--json")
    assert json.loads(line(asking))["ok"] is True
    (one.home / "now").touch()
    one.end()
    out, _ = asking.communicate(timeout=60)  # long before the next interval where the kernel tells of the end
    last = json.loads(out.splitlines()[-1])
    assert asking.returncode == last["exit_code"] == code and words in last["answers"][0]["says"]


def test_tail_of_an_inner_loop_asks_it(program, asks):
    one = program(
        "import time\nfrom onbox import ipc_range\nfor a in ipc_range(9, label='outer'):\n"
        "    for b in ipc_range(10**6, label='inner'):\n        b.track(deep=1)\n"
        "        if b.index == 0: print('begun', flush=True)\n        time.sleep(0.002)\n"
    ).begun()
    wait_until(lambda: len(one.card()["loops"]) == 2, 60, "the inner loop in the card")
    asking = asks(one, "tail", f"{one.pid}/2", "--interval", 0.5, "--json")
    looks = []  # a loop that does not answer within an interval has no state in that line
    wait_until(
        lambda: looks.append(json.loads(line(asking))["answers"][0]) or looks[-1]["reply"], 60, "its answer"
    )
    assert looks[-1]["reply"]["state"]["tracked"] == {"deep": 1}


def test_tail_ends_when_its_reader_goes(program, asks):
    one = program(SLOW).begun()
    asking = asks(one, "tail", one.pid, "--interval", 1000)
    line(asking)
    asking.stdout.close()
    assert asking.wait(60) == 141  # long before the next interval


def test_tail_ends_with_standard_input_where_that_is_wanted(program, asks):
    """As the last thing that a cut connection leaves of a command: its end of input."""
    one = program(SLOW).begun()
    asking = asks(one, "tail", one.pid, "--interval", 1000, "--until-eof", stdin=subprocess.PIPE)
    line(asking)
    asking.stdin.write("ignored\n")
    asking.stdin.flush()
    assert asking.poll() is None
    asking.stdin.close()
    asking.wait(60)
    assert asking.returncode == 141


def test_tail_of_several_is_refused(program, asks):
    one = program(SLOW).begun()
    program(SLOW, ipc=one.ipc).begun()
    asking = asks(one, "tail", "slow")
    assert asking.wait(60) == 2 and "means 2 loops, one is needed" in asking.stderr.read()


def test_notify_is_met_with_the_values_it_saw(program, asks):
    one = program(SLOW).begun()
    asking = asks(one, "notify", one.pid, "loss < 0.1 and iteration > 3", "--interval", 0.1, "--json")
    out, err = asking.communicate(timeout=60)
    said = json.loads(out)["answers"][0]
    assert (
        asking.returncode == 0
        and said["reply"]["met"]
        and said["reply"]["values"]["loss"] < 0.1
        and err == ""
    )


def test_notify_waits_for_a_name_and_gives_up_in_time(program, asks):
    one = program(SLOW).begun()
    wait_until(one.state, 60, "a first state, which lacks it")
    asking = asks(one, "notify", one.pid, "accuracy > 0.9", "--interval", 0.1, "--for", 1)
    out, err = asking.communicate(timeout=60)
    assert (
        asking.returncode == 124 and err.count("not tracked yet: accuracy") == 1 and "not met in 1 s" in err
    )
    assert out.startswith(f"[loopmonitor] Watching PID {one.pid} for: 'accuracy > 0.9'")


def test_notify_says_that_the_loop_died_and_does_not_watch_a_ghost(program, asks):
    one = program(FINISHING.format(how=ENDS["killed"][0])).begun()
    asking = asks(one, "notify", one.pid, "loss < 0", "--interval", 1000)
    line(asking)
    (one.home / "now").touch()
    one.end()
    _, err = asking.communicate(timeout=60)
    assert asking.returncode == 23 and "not met before its end" in err.replace("\n         ", " ")


def test_notify_judges_the_last_values_of_a_loop_that_has_ended(program, asks):
    one = program(FINISHING.format(how="step.track(done=1); break")).begun()
    asking = asks(one, "notify", one.pid, "done == 1", "--interval", 1000)
    line(asking)
    (one.home / "now").touch()
    out, _ = asking.communicate(timeout=60)
    assert asking.returncode == 0 and "condition met: done == 1 (done=1)" in out.replace("\n         ", " ")


def test_notify_alerts_a_desktop_only_where_there_is_one(program, asks, tmp_path):
    one = program(SLOW).begun()
    tool = tmp_path / "bin" / "notify-send"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/alerts\n')
    tool.chmod(0o755)
    path = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
    assert asks(one, "notify", one.pid, "iteration > 0", "--interval", 0.1, env=path).wait(60) == 0
    assert not (tmp_path / "alerts").exists()
    desktop = {**path, "DISPLAY": ":0"}
    assert asks(one, "notify", one.pid, "iteration > 0", "--interval", 0.1, env=desktop).wait(60) == 0
    assert "condition met" in (tmp_path / "alerts").read_text()


def test_a_loop_that_is_not_ours_is_tailed_by_its_file_until_it_is_gone(tmp_path, asks):
    one = Program(tmp_path / "theirs", THEIRS, flags=("-W", "ignore")).begun()
    try:
        wait_until(one.state, 60, "a first state")
        asking = asks(one, "tail", one.pid, "--interval", 0.2)
        line(asking)
        assert "loss=" in line(asking)
        one.process.kill()
        one.end()
        out, _ = asking.communicate(timeout=60)
        assert asking.returncode == 23 and "still registered: it was killed" in out.replace(
            "\n         ", " "
        )
    finally:
        one.close()
