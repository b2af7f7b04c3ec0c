"""What ends or misleads a loop of the published loopmonitor 0.1.2, done to a loop of ours: it goes on.

Each script is the same but for its import. Where the published one fails every time, that is shown beside ours;
where it loses a race, only ours is held to its word.
"""

import os
import signal
import time

import pytest
from peers import BOTH, OURS, THEIRS, TURNING, WITHIN_S, held, moves, state, stops
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)
both = pytest.mark.parametrize("module", BOTH)
FAILED = (1, 120)  # 120: Python could not write out at its end what the failure left in a stream

AFTER = """
import itertools, signal, time
from pathlib import Path
from MODULE import ipc_range
EARLIER
for step in ipc_range(3, label="short"):
    time.sleep(0.01)
print("after", flush=True)
while not Path("stop").exists():
    time.sleep(0.005)
print("whole", flush=True)
"""
HEARS = 'signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))'


# Asking


@both
def test_peek_when_nobody_reads_the_output(folder, module):  # R152
    reading, writing = os.pipe()
    one = folder.turning(module, TURNING.replace("print(", "(lambda *_, **__: 0)("), stdout=writing)
    os.close(writing)
    os.close(reading)
    with held(one):
        folder.asked(THEIRS, "peek", one.pid)
    if module == THEIRS:
        assert one.end() in FAILED
        assert "BrokenPipeError" in one.err()
    else:
        moves(one)
        assert stops(one) == 0


@both
def test_a_signal_behind_the_loop(folder, module):
    one = folder.program(module, AFTER.replace("EARLIER", "")).begun("after")
    os.kill(one.pid, signal.SIGUSR1)
    if module == THEIRS:
        assert one.end() == -signal.SIGUSR1
    else:
        assert stops(one) == 0
        assert one.out() == "after\nwhole\n"


@both
def test_a_signal_behind_an_inner_loop(folder, module):
    """The published one is off the list then, and any signal kills it."""
    text = TURNING.replace(
        "lr = step.get", "inner = [0 for _ in ipc_range(2, label='inner')]\n    lr = step.get"
    )
    one = folder.program(module, text)
    wait_until(lambda: one.process.poll() is not None or state(one) is not None, WITHIN_S, "a first turn")
    if module == THEIRS:
        (one.home / "hold").touch()
        wait_until((one.home / "held").exists, WITHIN_S, "it stands")
        os.kill(one.pid, signal.SIGUSR1)
        assert one.end() == -signal.SIGUSR1
    else:
        os.kill(one.pid, signal.SIGUSR1)
        moves(one)
        assert folder.asked(OURS, "peek", one.pid).returncode == 0
        assert stops(one) == 0


def test_many_short_loops_under_fire(folder):
    """The published sender's own steps, flat out: a line, then the signal, never one without the other."""
    text = """
from pathlib import Path
from MODULE import ipc_range
while not Path("stop").exists():
    for step in ipc_range(3, label="short"):
        pass
print("whole", flush=True)
"""
    one = folder.program(OURS, text)
    fifo, sent, enough = folder.ipc / f"{one.pid}.fifo", 0, time.monotonic() + 4
    while one.process.poll() is None:
        if sent and time.monotonic() > enough:
            (one.home / "stop").touch()
        try:
            writing = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            os.write(writing, b"memory\n")
        except OSError:
            continue
        finally:
            os.close(writing)
        os.kill(one.pid, signal.SIGUSR1)
        sent += 1
    print(f"{sent} commands")
    assert sent > 0
    assert one.end() == 0, one.err()
    assert one.out().endswith("whole\n")


@both
def test_an_earlier_handler_is_there_again(folder, module):
    one = folder.program(module, AFTER.replace("EARLIER", HEARS)).begun("after")
    os.kill(one.pid, signal.SIGUSR1)
    if module == THEIRS:
        assert one.end() == -signal.SIGUSR1
    else:
        one.begun("heard")
        assert stops(one) == 0


def test_an_earlier_handler_hears_what_is_not_for_us(folder):
    one = folder.turning(OURS, "import signal\n" + HEARS + TURNING)
    os.kill(one.pid, signal.SIGUSR1)
    one.begun("heard")
    folder.asked(THEIRS, "memory", one.pid)
    one.begun(" MB")
    moves(one)
    assert stops(one) == 0
    assert one.out().count("heard") == 1


@both
def test_continue_when_the_output_is_ascii(folder, module):
    one = folder.turning(module, env={"PYTHONIOENCODING": "ascii"})
    folder.asked(THEIRS, "continue", one.pid)
    if module == THEIRS:
        assert one.end() == 1
        assert "UnicodeEncodeError" in one.err()
    else:
        assert one.end() == 0
        assert one.out().endswith("behind the loop 0.1\n")


def test_list_when_the_output_is_ascii(folder):
    one = folder.turning(OURS)
    env = {"PYTHONIOENCODING": "ascii"}
    assert folder.asked(THEIRS, "list", env=env).returncode == 1
    said = folder.asked(OURS, "list", env=env)
    assert said.returncode == 0
    assert str(one.pid) in said.stdout


@both
@pytest.mark.parametrize("line", ["plot abc", "plot 1 2"])
def test_a_plot_of_nothing_that_counts(folder, module, line):
    one = folder.turning(module)
    with held(one):
        one.old(line)
        if module == THEIRS:
            assert one.end() == 1
            assert "ValueError" in one.err()
    if module == OURS:
        moves(one)
        assert stops(one) == 0


@both
def test_a_second_command_inside_of_a_value(folder, module):
    """The published command sends it, and the program ends; ours refuses, and nothing was sent."""
    one = folder.turning(module)
    said = folder.asked(OURS, "set", one.pid, "s='a'\nbreak", "--json")
    assert said.returncode == 2
    moves(one)
    assert one.out() == ""
    if module == THEIRS:
        assert folder.asked(THEIRS, "set", one.pid, "s='a'\nbreak").returncode == 0
        assert one.end() == 0
        assert "behind the loop" not in one.out()
    else:
        assert stops(one) == 0


# Tracking


@both
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("__import__('numpy').float32(1.5)", id="numpy number"),
        pytest.param("object()", id="object"),
        pytest.param("{(1, 2): 3}", id="key that is no text"),
        pytest.param("1j", id="complex"),
        pytest.param("b'raw'", id="bytes"),
    ],
)
def test_a_value_that_json_has_no_word_for(folder, module, value):
    one = folder.program(module, TURNING.replace("lr=lr", f"lr=lr, odd={value}"))
    if module == THEIRS:
        assert one.end() == 1
        assert "TypeError" in one.err()
        assert (folder.ipc / f"{one.pid}.fifo").exists()
        assert one.registered() is not None
        return
    wait_until(lambda: state(one), WITHIN_S, one.err())
    moves(one)
    assert "odd" in state(one)["tracked"]
    assert stops(one) == 0
    assert one.left_behind() == []


@both
def test_a_disk_that_takes_no_more(folder, module):  # R152
    """A limit on the size of files stands for the full disk: the write fails in the middle."""
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
    text = TURNING.replace("step.track(", f"{full}\n    step.track(")
    one = folder.program(module, text)
    if module == THEIRS:
        assert one.end() in FAILED
        assert "behind the loop" not in one.out()
        assert (folder.ipc / f"{one.pid}.fifo").exists()
        return
    with held(one):
        pass
    with held(one):  # a second time: it went round
        pass
    seen = []

    def counted():
        seen.append(folder.asked(OURS, "peek", one.pid, "--json").answer["reply"]["state"])
        return seen[-1]["faults"] >= 1

    wait_until(counted, WITHIN_S, "a state that could not be written")
    assert seen[-1]["iteration"] >= 1
    assert stops(one) == 0
    assert one.out() == "behind the loop 0.1\n"


THREAD = """
import threading
def work():
    BODY
worker = threading.Thread(target=work)
worker.start()
worker.join()
"""


@both
def test_a_loop_in_a_thread(folder, module):  # R152
    body = TURNING.strip().replace("\n", "\n    ")
    one = folder.program(module, THREAD.replace("BODY", body))
    if module == THEIRS:
        one.end()
        assert "ValueError: signal only works in main thread" in one.err()
        assert "behind the loop" not in one.out()
        return
    wait_until(lambda: state(one), WITHIN_S, one.err())
    assert folder.asked(OURS, "set", one.pid, "lr=0.5").returncode == 0
    moves(one)
    assert folder.asked(OURS, "continue", one.pid).returncode == 0
    assert one.end() == 0
    assert one.out() == "behind the loop 0.5\n"
