"""A loop that is asked: each verb's answer, on every Python of this machine, and what a loop is."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from loops import SLOW, WITHIN_S
from waiting import wait_until

from onbox.wire import card

pytestmark = pytest.mark.timeout(180)


def test_every_verb_has_its_answer(program, any_python):  # R152
    run = program(SLOW, python=any_python).begun()
    peek = run.last("peek")
    assert (peek["ok"], peek["stage"], peek["pid"], peek["n"]) == (True, "done", run.pid, 1)
    assert peek["state"]["total"] == 1_000_000
    assert peek["state"]["faults"] == 0, peek
    wait_until(lambda: run.last("plot 0")["history"].get("loss", [])[2:], WITHIN_S, "points")
    assert run.last("plot 0")["history"]["loss"][:2] == [[1, 1.0], [2, 0.5]]
    assert len(run.last("plot 2")["history"]["loss"]) == 2
    said = run.last("set lr=0.5")
    assert (said["key"], said["value"]) == ("lr", "0.5")
    assert said["iteration"] > peek["iteration"]
    assert run.last("set lr=open('x')")["error"]["code"] == "refused"
    assert run.last("set 1x=3")["error"]["what"] == "invalid identifier: '1x'"
    assert run.last("memory")["peak_bytes"] >= 1 << 20
    threads = run.last("stack")["threads"]
    assert threads[0]["main"]
    assert threads[0]["frames"][0]["file"].endswith("script.py")
    assert [one["name"] for one in threads] == ["MainThread"]
    made = run.last("checkpoint")
    assert json.loads(Path(made["saved"]).read_bytes()) == run.snapshots("checkpoint")[0]
    assert made["hook"] is None
    assert run.last("dance")["error"] == {"code": "refused", "what": "no such verb: dance"}
    assert run.last("peek", n=7)["error"]["code"] == "refused"
    first, last = run.ask("continue")
    assert (first["stage"], first["final"]) == ("accepted", False)
    assert (last["stage"], last["final"]) == ("done", True)
    assert run.end() == 0, run.err()
    assert run.out() == f"begun\nbehind the loop at {last['iteration'] - 1}\n"
    assert run.err() == ""
    assert run.left_behind() == []
    assert run.registered() is None
    record = run.ends()[1]
    assert (record["ended"], record["exit_code"]) == ("continued", None)
    assert record["state"]["iteration"] == last["iteration"]


def test_card_registry_and_state_say_who_it_is(program):  # R152
    run = program(SLOW, env={"BABYSIT_TAG": "run-1/10-train"}).begun()
    wait_until(run.state, WITHIN_S, "a state")
    read = card.read(run.ipc, run.pid)
    assert read.identity.pid == run.pid
    assert (read.tag, read.why, read.group) == ("run-1/10-train", None, None)
    assert [(loop.n, loop.label, loop.total) for loop in read.loops] == [(1, "slow", 1_000_000)]
    assert list(run.registered()) == ["pid", "label", "script", "language", "start_time", "ppid"]
    assert run.registered()["ppid"] == os.getpid()
    assert list(run.state()) == ["pid", "iteration", "total", "elapsed_sec", "eta_sec", "tracked", "updated"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (run.ipc, *run.ipc.glob("[!.]*"))}
    assert {modes.pop("ipc"), modes.pop("onbox")} == {0o700}
    assert set(modes.values()) == {0o600}


FORMS = """
import itertools, json, threading
from onbox import ipc_range, IPCStep

class Odd(list):
    def __len__(self):
        raise RuntimeError("no length")

def letters():
    yield from "abc"

said = {
    "number": [(s.index, s.item) for s in ipc_range(3)],
    "none": [s.index for s in ipc_range(0)],
    "text": [(s.index, s.item) for s in ipc_range("ab")],
    "generator": [(s.index, s.item) for s in ipc_range(letters())],
    "range": [(s.index, s.item) for s in ipc_range(range(5, 9, 2))],
    "odd": [s.item for s in ipc_range(Odd("ab"))],
    "initial": [(s.index, s.item) for s in ipc_range(5, initial=3)],
    "count": [],
    "get": [],
}
for step in ipc_range(itertools.count()):
    said["count"].append(step.index)
    if step.index == 2:
        break
again = ipc_range(2)
said["twice"] = [s.index for s in again] + [s.index for s in again]
kept, seen = [], []
for step in ipc_range(6):
    if step.index == 1:
        kept.append(step)
    seen.append((step.index, step.item, step.get("x", "d"), step.should_stop, isinstance(step, IPCStep)))
said["kept"] = [s.index for s in kept]
said["seen"] = seen[-1]
for outer in ipc_range(2, label="outer"):
    for inner in ipc_range(2, label="inner"):
        said["get"].append((outer.index, inner.index))
try:
    for step in ipc_range(letters()):
        raise KeyError("mine")
except KeyError as error:
    said["raised"] = str(error)
def bad():
    yield 1
    raise ZeroDivisionError("source")
try:
    for step in ipc_range(bad(), label="source"):
        pass
except ZeroDivisionError as error:
    said["source"] = str(error)
print(json.dumps(said))
"""


def test_a_loop_is_any_loop(program, any_python):  # R152
    run = program(FORMS, python=any_python)
    assert run.end() == 0, run.err()
    assert json.loads(run.out()) == {
        "number": [[0, 0], [1, 1], [2, 2]],
        "none": [],
        "text": [[0, "a"], [1, "b"]],
        "generator": [[0, "a"], [1, "b"], [2, "c"]],
        "range": [[0, 5], [1, 7]],
        "odd": ["a", "b"],
        "initial": [[3, 3], [4, 4]],
        "count": [0, 1, 2],
        "twice": [0, 1, 0, 1],
        "kept": [1],
        "seen": [5, 5, "d", False, True],
        "get": [[0, 0], [0, 1], [1, 0], [1, 1]],
        "raised": "'mine'",
        "source": "source",
    }
    ended = [record["ended"] for record in run.ends().values()]
    by_label = {record["label"]: record for record in run.ends().values()}
    assert ended.count("left") == 2  # the break, and the exception that was caught
    assert (by_label["source"]["ended"], by_label["source"]["exception"]) == (
        "exception",
        "ZeroDivisionError",
    )
    assert set(ended) == {"finished", "left", "exception"}
    assert run.left_behind() == []


NESTED = """
import time
from onbox import ipc_range
for epoch in ipc_range(3, label="epochs"):
    for batch in ipc_range(1_000_000, label="batches"):
        if epoch.index == 0 and batch.index == 0:
            print("begun", flush=True)
        batch.track(lr=batch.get("lr"), own=batch.get("own"), outside=epoch.get("own"))
        time.sleep(0.002)
    print("epoch", epoch.index, batch.index >= 0, flush=True)
    while epoch.index == 0 and not epoch.should_stop:
        time.sleep(0.002)
"""


def test_a_loop_inside_of_a_loop_has_its_own_number(program):  # R152
    run = program(NESTED).begun()
    wait_until(lambda: len(run.card()["loops"]) == 2, WITHIN_S, "both loops on the card")
    assert [loop["label"] for loop in run.card()["loops"]] == ["epochs", "batches"]
    assert run.registered()["label"] == "epochs"
    run.last("set lr=0.25")
    run.last("set own=1", n=2)
    wait_until(
        lambda: run.last("peek", n=2)["state"]["tracked"] == {"lr": 0.25, "own": 1, "outside": None},
        WITHIN_S,
        "a value of the outer loop is seen in the inner one, and not the other way",
    )
    assert run.last("peek")["state"]["iteration"] == 0
    assert run.last("continue", n=2)["stage"] == "done"
    run.begun("epoch 0 True")
    assert run.last("continue")["iteration"] == 1
    assert run.end() == 0
    assert {n: record["ended"] for n, record in run.ends().items()} == {1: "continued", 2: "continued"}


def test_values_that_nobody_can_write_down_cost_nothing(program, edge_python):  # R152
    run = program(
        """
import time
from onbox import ipc_range
class Evil:
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__
    def __float__(self): raise RuntimeError("no")
    def __eq__(self, other): raise RuntimeError("no")
    __hash__ = object.__hash__
class Tensor:
    ndim = 0
    def __init__(self, value): self.value = value
    def item(self): return self.value
me = []
me.append(me)
long = list(range(5000))
for step in ipc_range(1_000_000):
    long.append(step.index)
    step.track(evil=Evil(), me=me, nan=float("nan"), inf=-float("inf"), big=10**5000, tensor=Tensor(0.5),
               bytes=b"x", text="\\ud800", long=long, none=None, both={"a": Evil()}, ok=step.index)
    if step.index == 3: print("begun", flush=True)
    time.sleep(0.002)
""",
        python=edge_python,
    ).begun()
    wait_until(run.state, WITHIN_S, "a state")
    said = run.last("peek")["state"]
    assert said["faults"] == 0, said
    tracked = said["tracked"]
    assert (tracked["nan"], tracked["inf"], tracked["tensor"]) == ("NaN", "-Infinity", 0.5)
    assert tracked["text"] == "\ud800"
    assert run.state()["tracked"]["inf"] == -float("inf")
    assert "cannot be shown" in tracked["evil"]
    assert len(tracked["long"]) == 1000 - 1
    wait_until(lambda: "tensor" in run.last("plot 5")["history"], WITHIN_S, "a point of a foreign number")
    assert set(run.last("plot 5")["history"]) == {"nan", "inf", "tensor", "ok"}
    assert run.last("continue")["ok"]
    assert run.end() == 0, run.err()
    assert run.ends()[1]["ended"] == "continued"


def test_a_long_loop_keeps_a_bounded_history_of_all_of_it(program):  # R152
    run = program("""
from onbox import ipc_range
for step in ipc_range(30_000):
    step.track(**{"key%d" % n: step.index + n for n in range(70)}) if step.index % 100 == 0 else None
    step.track(loss=float(step.index))
""")
    assert run.end() == 0, run.err()
    history = run.ends()[1]["history"]
    assert len(history) == 64
    for points in history.values():
        assert points[-1][0] > 20_000
        assert points[0][0] < 10_000
        assert all(before[0] < behind[0] for before, behind in pairwise(points))
    assert len(run.ends()[1]["state"]["tracked"]) == 71


def test_the_checkpoint_hook_speaks_to_who_asked(program):  # R152
    run = program("""
import threading, time
from onbox import ipc_range
def save(state):
    assert threading.current_thread() is threading.main_thread()
    if inside: raise RuntimeError("in the middle of an iteration")
    if state["iteration"] > 1_000_000: raise OSError("disk")
    return "saved at %d" % state["iteration"]
inside = False
for step in ipc_range(1_000_000, save=save):
    inside = True
    if step.index == 0: print("begun", flush=True)
    time.sleep(0.002)
    inside = step.get("bad", False)
""").begun()
    first, last = run.ask("checkpoint")
    assert first["stage"] == "accepted"
    assert last["hook"] == f"saved at {last['iteration']}"
    assert run.snapshots("checkpoint")[0]["iteration"] == last["iteration"]
    run.last("set bad=True")
    wait_until(lambda: not run.last("checkpoint")["ok"], WITHIN_S, "the hook raises")
    failed = run.last("checkpoint")
    assert failed["error"]["code"] == "failed"
    assert "in the middle of an iteration" in failed["error"]["what"]
    run.last("set bad=False")
    wait_until(lambda: run.last("checkpoint")["ok"], WITHIN_S, "the loop goes on, and so does the hook")
    assert run.last("continue")["ok"]
    assert run.end() == 0


@pytest.mark.parametrize("threaded", [False, True], ids=["main", "thread"])
def test_break_ends_at_the_boundary_and_the_chain_does_not_go_on(program, threaded):  # R152
    run = program(f"""
import sys, threading, time
from onbox import ipc_range
def work():
    for step in ipc_range(1_000_000, save=lambda state: "hook ran", label="work"):
        try:
            with open("lines", "w") as file:
                for line in range(10):
                    file.write("line\\n")
                    file.flush()
                    time.sleep(0.0003)
            if step.index == 0: print("begun", flush=True)
        except:
            print("swallowed", flush=True)
    print("behind the loop", flush=True)
if {threaded}:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    print("the thread has ended", flush=True)
else:
    work()
""").begun()
    first, last = run.ask("break")
    assert (first["stage"], last["ok"], last["hook"]) == ("accepted", True, "hook ran")
    assert run.end() == (0 if threaded else 88)
    assert run.out() == "begun\n" + ("the thread has ended\n" if threaded else "")
    assert (run.cwd / "lines").read_text() == "line\n" * 10
    assert last["saved"].startswith(str(run.cwd / f"loopmonitor_break_{run.pid}_"))
    assert run.snapshots("break")[0]["iteration"] == last["iteration"]
    record = run.ends()[1]
    assert (record["ended"], record["exit_code"]) == ("broken", 88)
    assert run.left_behind() == []


def test_continue_does_not_fetch_one_more_item(program):  # R152
    run = program("""
import time
from onbox import ipc_range
fetched = 0
def source():
    global fetched
    while True:
        fetched += 1
        yield fetched
for step in ipc_range(source(), break_code=7):
    if step.index == 0: print("begun", flush=True)
    time.sleep(0.002)
print(fetched - step.index - 1)
""").begun()
    assert run.last("continue")["ok"]
    assert run.end() == 0
    assert run.out() == "begun\n0\n"


@pytest.mark.parametrize(
    ("body", "ended", "exception", "status"),
    [
        ("break", "left", None, 0),
        ("raise KeyError(1)", "exception", "KeyError", 1),
        ("raise KeyboardInterrupt", "signal", "KeyboardInterrupt", -2),
        ("sys.exit(3)", "left", None, 3),
        ("os._exit(4)", None, None, 4),
        ("pass", "finished", None, 0),
    ],
)
def test_how_it_ended_lies_there_afterwards(program, body, ended, exception, status):  # R152
    run = program(f"""
import os, sys
from onbox import ipc_range
def train():
    for step in ipc_range(5, label="outer"):
        step.track(loss=step.index / 2)
        if step.index == 3:
            {body}
train()
""")
    assert run.end() == status
    if ended is None:
        assert run.ends() == {}
        assert run.left_behind()
        return
    record = run.ends()[1]
    assert (record["ended"], record["exception"]) == (ended, exception)
    assert record["exit_code"] == {"exception": 1, "signal": 130}.get(ended)
    assert record["state"]["iteration"] == (5 if ended == "finished" else 3)
    assert record["history"]["loss"][0] == [1, 0.0]
    assert run.left_behind() == []
    assert list((run.ipc / "onbox/ended").glob(".*")) == []


def test_the_newest_64_ends_are_kept(program):  # R152
    run = program("from onbox import ipc_range\nfor n in range(80):\n    for step in ipc_range(1): pass\n")
    assert run.end() == 0
    assert sorted(run.ends()) == list(range(17, 81))
