"""What the published loopmonitor 0.1.2 answers wrongly, loses, or does too early; and ours beside it.

Each script is the same but for its import. Where the published one fails every time, that is shown; where it loses
a race, only ours is held to its word.
"""

import json
import os
import re
import signal
import subprocess
import time
from itertools import groupby

import processes
import pytest
from peers import BOTH, OURS, THEIRS, TURNING, WITHIN_S, held, moves, state, stops
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)
both = pytest.mark.parametrize("module", BOTH)


def test_the_state_is_never_torn(folder):
    text = TURNING.replace("lr=lr", "values=list(range(10_000))").replace("sleep(0.005)", "sleep(0.0005)")
    one = folder.turning(OURS, text)
    path, seen = folder.ipc / f"{one.pid}.state.json", set()
    deadline = time.monotonic() + WITHIN_S
    while len(seen) < 6 and time.monotonic() < deadline:
        seen.add(json.loads(path.read_bytes())["iteration"])
    assert len(seen) == 6
    assert stops(one) == 0


def test_the_registry_is_read_whole_while_others_tear_it(folder):
    """Two programs of the published one that register over and over; ours stays listed for who looks our way."""
    from onbox.wire import registry

    again = """
from pathlib import Path
from MODULE import ipc_range
while not Path("stop").exists():
    for step in ipc_range(1, label="short"):
        pass
"""
    one = folder.turning(OURS)
    others = [folder.program(THEIRS, again) for _ in range(2)]
    pids = []  # of each look; None where a writer got no turn for 50 ms: that is said, and not taken for "nobody"

    def look():
        try:
            pids.append({entry.pid for entry in registry.entries(folder.ipc)})
        except registry.Torn:
            pids.append(None)
        return pids[-1]

    wait_until(lambda: len(look() or ()) > 1, WITHIN_S, "an entry of theirs")
    pids.clear()
    while sum(found is not None for found in pids) < 300:
        assert one.pid in (look() or {one.pid})
    # One that is held up for long is torn at each look meanwhile.
    assert sum(found is None for found, _ in groupby(pids, key=lambda found: found and True)) < 30
    assert [stops(other) for other in others] == [0, 0]
    assert one.registered() is not None
    assert stops(one) == 0


@both
def test_a_line_that_straddles_the_4096th_byte(folder, module):
    """What is applied is what was sent."""
    one = folder.turning(module)
    last = "set lr=0.001"
    with held(one):
        one.old("x" * (4096 - len(last) - 1 + 2) + "\n" + last)
        one.begun("set lr = ")
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith({THEIRS: "behind the loop 0.0\n", OURS: "behind the loop 0.001\n"}[module])


@both
def test_a_value_that_is_too_long_for_one_read(folder, module):
    """Neither takes it; the published one says nothing to who asked, ours refuses before anything is sent."""
    one = folder.turning(module)
    long = f"lr={list(range(1500))}"
    assert folder.asked(OURS, "set", one.pid, long, "--json").returncode == 2
    assert one.out() == ""
    assert folder.asked(THEIRS, "set", one.pid, long).returncode == 0
    one.begun("'set' failed: ")
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith("behind the loop 0.1\n")


def test_a_killed_program_is_said_to_be_dead(folder):
    """The published tail goes on with its last numbers; clean leaves its files. Ours ends with 23, and takes them."""
    one = folder.turning(THEIRS)
    theirs = folder.started(THEIRS, "tail", one.pid, "--interval", "0.02")
    theirs.stdout.readline()  # it looks at a living one first
    # Not while it writes its state: a state that death tore is none, and then it does say so.
    with held(one):
        one.process.send_signal(signal.SIGKILL)
        one.end()
    lines = [theirs.stdout.readline() for _ in range(60)]
    assert not any("no longer running" in line for line in lines)
    assert theirs.poll() is None
    theirs.close()
    assert folder.asked(OURS, "notify", one.pid, "loss < -1").returncode == 3
    assert folder.asked(THEIRS, "clean").returncode == 0
    assert [name for name in one.left_behind() if name.endswith((".fifo", ".state.json"))] != []
    assert folder.asked(OURS, "clean").returncode == 0
    assert one.left_behind() == []


HALF = """
from pathlib import Path
import time
from MODULE import ipc_range
for step in ipc_range(40, label="half"):
    try:
        with open("saved", "w", buffering=1) as file:
            for line in range(10):
                print(line, file=file)
                if step.index == 1 and line == 4:
                    print("half", flush=True)
                    while not Path("go").exists():
                        time.sleep(0.005)
    except SWALLOWED:
        pass
print("behind the loop", flush=True)
"""


@both
def test_break_in_the_middle_of_a_write(folder, module):
    one = folder.program(module, HALF.replace("SWALLOWED", "ZeroDivisionError")).begun("half")
    folder.asked(THEIRS, "break", one.pid)
    if module == THEIRS:
        assert one.end() == 0  # as if all had gone well
        assert (one.home / "saved").read_text().splitlines() == list("01234")
    else:
        (one.home / "go").touch()
        assert one.end() == 88
        assert (one.home / "saved").read_text().splitlines() == list("0123456789")
        assert "behind the loop" not in one.out()


@both
def test_break_that_the_program_would_swallow(folder, module):
    one = folder.program(module, HALF.replace("SWALLOWED", "BaseException")).begun("half")
    folder.asked(THEIRS, "break", one.pid)
    if module == THEIRS:
        one.begun("behind the loop")
        assert one.end() == 0
    else:
        (one.home / "go").touch()
        assert one.end() == 88
        assert "behind the loop" not in one.out()


@both
def test_continue_takes_nothing_more_from_the_source(folder, module):
    text = """
from pathlib import Path
import time
from MODULE import ipc_range
taken = []
def source():
    for number in range(1000):
        taken.append(number)
        yield number
for step in ipc_range(source(), label="source"):
    print("begun", flush=True)
    while not Path("go").exists():
        time.sleep(0.005)
print("taken", taken, flush=True)
"""
    one = folder.program(module, text).begun()
    folder.asked(THEIRS, "continue", one.pid)
    one.begun("'continue' received")
    (one.home / "go").touch()
    assert one.end() == 0
    assert one.out().endswith({THEIRS: "taken [0, 1]\n", OURS: "taken [0]\n"}[module])


@both
def test_a_forked_child_takes_nothing_from_its_parent(folder, module):
    text = TURNING.replace(
        "    lr = step.get", "    if step.index == 0: child = fork()\n    lr = step.get"
    ).replace("for step", FORK + "for step", 1)
    one = folder.turning(module, text + "os.kill(child, 9); os.waitpid(child, 0)\n")
    wait_until((one.home / "child").exists, WITHIN_S, "the child")
    (child,) = processes.children(one.pid)
    with held(one):
        one.write(b"set lr=0.25\n")
        os.kill(child, signal.SIGUSR1)
        wait_until(lambda: "set lr = 0.25" in one.out() or not processes.lives(child), WITHIN_S, one.out())
        if module == OURS:
            assert processes.lives(child)
        os.kill(one.pid, signal.SIGUSR1)
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith({THEIRS: "behind the loop 0.1\n", OURS: "behind the loop 0.25\n"}[module])


FORK = """
import os
def fork():
    child = os.fork()
    if child == 0:
        Path("child").touch()
        while True:
            time.sleep(0.01)
    return child
"""

_ESCAPE = (
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['system']('touch escaped')"
)


@both
def test_a_condition_runs_no_command(folder, module):  # S30
    one = folder.turning(module)
    said = folder.asked(OURS, "notify", one.pid, _ESCAPE, "--interval", "0.05", "--for", "5")
    assert said.returncode == 2
    assert not (folder.home / "escaped").exists()
    if module == THEIRS:
        with held(one):
            theirs = folder.started(THEIRS, "notify", one.pid, _ESCAPE, "--interval", "0.05")
            wait_until((folder.home / "escaped").exists, WITHIN_S, "the published one ran it")
            theirs.close()
    assert stops(one) == 0


def test_a_condition_on_what_is_not_tracked_yet(folder):
    """The published watch is over at once, with 0; ours waits, and knows `max`."""
    one = folder.turning(
        OURS, TURNING.replace("lr=lr", "lr=lr, **({'late': 1} if Path('go').exists() else {})")
    )
    for words in ("late == 1", "max(loss, 0) > 0"):
        said = folder.asked(THEIRS, "notify", one.pid, words, "--interval", "0.05")
        assert said.returncode == 0
        assert "Condition error" in said.stdout
    watch = folder.started(OURS, "notify", one.pid, "max(late, 0) == 1", "--interval", "0.05")
    assert "not met yet" in watch.stderr.readline()
    (one.home / "go").touch()
    watch.communicate(timeout=WITHIN_S)
    assert watch.returncode == 0
    assert stops(one) == 0


SLEEPER = """
import ctypes, itertools
from pathlib import Path
from MODULE import ipc_range
usleep = ctypes.CDLL(None).usleep
cut = 0
for step in ipc_range(itertools.count(), label="sleeper"):
    step.track(cut=cut)
    cut += usleep(100_000) != 0
    if Path("stop").exists():
        break
print("cut", cut, flush=True)
"""


@both
def test_a_question_cuts_no_call_of_c_short(folder, module):
    """Their question comes with a signal; ours with none."""
    one = folder.turning(module, SLEEPER)
    for _ in range(3):
        assert folder.asked(module, "peek", one.pid).returncode == 0

    def cut():
        assert folder.asked(module, "peek", one.pid).returncode == 0
        return (state(one) or {"tracked": {"cut": 0}})["tracked"]["cut"]

    if module == THEIRS:
        wait_until(cut, WITHIN_S, "a call cut")
    assert stops(one) == 0
    assert (one.out().splitlines()[-1] == "cut 0") is (module == OURS)


def test_a_number_that_another_process_has_now(folder):  # S40
    """The published one calls it alive, and would stop it."""
    stranger = subprocess.Popen(["sleep", "900"])
    try:
        entry = {
            "pid": stranger.pid,
            "label": "old",
            "script": "old.py",
            "language": "python",
            "start_time": "2020-01-01T00:00:00.000000+00:00",
            "ppid": 1,
        }
        (folder.ipc / "registry.json").write_text(json.dumps({str(stranger.pid): entry}, indent=2))
        assert re.search(r"\byes\b", folder.asked(THEIRS, "list").stdout)
        assert re.search(r"\bno\b", folder.asked(OURS, "list").stdout)
        assert folder.asked(OURS, "pause", "all").returncode == 3
        assert folder.asked(OURS, "pause", stranger.pid).returncode == 3
        assert processes.stat(stranger.pid)[0] != "T"
        assert folder.asked(THEIRS, "pause", "all").returncode == 0
        wait_until(lambda: processes.stat(stranger.pid)[0] == "T", WITHIN_S, "the published one stopped it")
        assert folder.asked(OURS, "clean").returncode == 0
        assert json.loads((folder.ipc / "registry.json").read_text()) == {}
    finally:
        stranger.kill()
        stranger.wait()
