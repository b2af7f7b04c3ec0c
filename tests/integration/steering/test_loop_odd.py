"""Loops that begin, end, or stand where few do: what is left of them, and who can still ask them."""

import json
import os
import subprocess
import sys

import pytest
from asking import ROOT
from loops import SLOW, WITHIN_S
from waiting import wait_until

from onbox.wire import card

pytestmark = pytest.mark.timeout(180)


def test_a_disk_that_was_full_when_the_loop_began_hides_it_no_longer_than_that(program):  # R152
    run = program("""
import resource, time
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
from onbox import ipc_range
for step in ipc_range(1_000_000, label="late"):
    if step.index == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    time.sleep(0.002)
""")
    wait_until(run.card, WITHIN_S, "the card that could not be written at first")
    wait_until(run.registered, WITHIN_S, "its registration")
    assert "File too large" in run.last("peek")["state"]["fault"]
    assert run.last("continue")["ok"] and run.end() == 0, run.err()
    assert run.left_behind() == []


DROPPED = """
import gc, threading, time
from onbox import ipc_range
gc.disable()

class Collects:
    looks = 0  # the first is for the history, the second for the state

    def __str__(self):
        if threading.current_thread() is not threading.main_thread():
            Collects.looks += 1
            if Collects.looks == LOOK:
                gc.collect()
        return "collected"

def dropped():
    turns = iter(ipc_range(10, label="dropped"))
    next(turns).track(x=Collects())
    next(turns)
    cycle = [turns]
    cycle.append(cycle)

dropped()
until = time.monotonic() + 50
while [one for one in threading.enumerate() if one.name == "onbox-listener"] and time.monotonic() < until:
    time.sleep(0.01)
print(*[one.name for one in threading.enumerate()], flush=True)
"""


@pytest.mark.parametrize("look", [1, 2])
def test_a_loop_that_its_own_listener_collects_leaves_no_thread_and_no_file(
    program, edge_python, look
):  # R152
    run = program(DROPPED.replace("LOOK", str(look)), python=edge_python)
    assert run.end() == 0, run.err()
    assert run.out() == "MainThread\n"
    assert run.ends()[1]["ended"] == "left" and run.left_behind() == []


def test_a_loop_let_go_where_nobody_called_ends_too(program, edge_python):  # R152
    run = program(
        """
import _thread, time
from onbox import ipc_range
over = []

class Last:
    def __del__(self):
        over.append(1)

def work():
    last = Last()
    turns = iter(ipc_range(10, label="short"))
    next(turns)

_thread.start_new_thread(work, ())
while not over:
    time.sleep(0.01)
import glob, os, threading
until = time.monotonic() + 50
ended = os.environ["LOOPCTL_DIR"] + "/onbox/ended/[0-9]*"
while not glob.glob(ended) and time.monotonic() < until:
    time.sleep(0.01)
while [one for one in threading.enumerate() if one.name == "onbox-listener"] and time.monotonic() < until:
    time.sleep(0.01)
print(*[one.name for one in threading.enumerate() if one.name == "onbox-listener"], flush=True)
""",
        python=edge_python,
    )
    assert run.end() == 0, run.err()
    assert run.out() == "\n" and run.ends()[1]["ended"] == "left"


def test_a_relative_folder_is_the_one_where_the_loop_began(program):  # R152
    run = program(SLOW.replace("import sys", "import os, sys").replace("    step.track", "    os.chdir('/'); step.track"),
                  env={"LOOPCTL_DIR": "ipc"}).begun()  # fmt: skip
    wait_until(run.state, WITHIN_S, "a state")
    assert run.last("peek")["state"]["faults"] == 0
    assert run.last("continue")["ok"] and run.end() == 0, run.err()
    assert run.left_behind() == [] and run.ends()[1]["ended"] == "continued"


def test_a_label_of_any_length_hides_nobody(program):  # R152
    run = program(SLOW.replace('"slow"', '"x" * (5 << 20)')).begun()
    wait_until(run.registered, WITHIN_S, "its registration")
    assert run.registered()["label"] == run.card()["loops"][0]["label"] == "x" * 200


def test_a_rank_below_nought_is_none(program):  # R152
    run = program(SLOW.replace('label="slow"', 'label="slow", group="g", rank=-1, world=1')).begun()
    found = card.read(run.ipc, run.pid)
    assert found is not None and (found.group, found.rank, found.world) == ("g", None, 1)


def test_without_any_home_a_command_says_so(tmp_path):
    script = """
import json, os, pwd, sys, textwrap
from onbox.ipc import command
from onbox.loop import ends
command.main(["list", "--json"])  # what it brings is read while we may
os.setuid(54321)
os.environ.pop("HOME", None)
os.environ.pop("LOOPCTL_DIR", None)
raise SystemExit(command.main(["list", "--json"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOOPCTL_DIR": str(tmp_path / "ipc")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert error["code"] == "folder" and "HOME" in error["what"] and "LOOPCTL_DIR" in error["next"]


@pytest.mark.parametrize("ends", ["0/0", "pass"])
def test_an_impatient_second_interrupt_leaves_nothing_of_the_loop_behind(program, edge_python, ends):  # R152
    run = program(
        """
import signal, threading, time
from onbox import ipc_range
over = []

class Impatient:
    def __str__(self):  # the loop's own thread looks at it, and the program waits for that
        if over and threading.current_thread() is not threading.main_thread():
            over.clear()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.05)
        return "waits"

try:
    for step in ipc_range(3, label="twice"):
        step.track(x=Impatient())
        if step.index == 2:
            over.append(1)
            ENDS
except (KeyboardInterrupt, ZeroDivisionError) as error:
    print(type(error).__name__, flush=True)
""".replace("ENDS", ends),
        python=edge_python,
    )
    assert run.end() == 0, run.err()
    assert run.out() == ("KeyboardInterrupt\n" if ends == "pass" else "ZeroDivisionError\n")
    assert run.left_behind() == [] and run.registered() is None
    assert run.ends()[1]["ended"] == ("finished" if ends == "pass" else "left")
