"""The heartbeat: it proves a living process, names the counter and its age, and ends with what wanted it."""

import re
import time

import pytest
from spoken import HEAD, ended
from waiting import wait_until

pytestmark = pytest.mark.timeout(180)
BEAT = re.compile(r"\[HEARTBEAT \d\d:\d\d:\d\d\](?: (?P<said>.*))?$")


def beats(one):
    """What each heartbeat says behind its clock; the last line may be on its way."""
    said = one.out().rpartition("\n")[0]
    found = [BEAT.fullmatch(line) for line in said.splitlines() if "HEARTBEAT" in line]
    assert all(found), said
    return [beat["said"] for beat in found]


def ages(one, stands):
    """How many seconds ago it stood there, as its heartbeats say."""
    found = [said.removeprefix(stands) for said in beats(one) if (said or "").startswith(stands)]
    return [int(said.removesuffix(" s ago")) for said in found]


def test_a_hang_is_seen_in_the_age_of_the_counter(program, python):  # R146 D9 R145
    one = program(
        HEAD
        + """
for epoch in progress(range(3), label="epoch", heartbeat_s=0.05):
    for n in progress(iter(range(20)), heartbeat_s=0.05):
        if n == 4: heard("GO")
        if n == 6: time.sleep(600)
""",
        python=python,
    )
    stands, moved = "epoch 0/3, batch 4, ", "epoch 0/3, batch 6, "
    wait_until(lambda: max(ages(one, stands), default=0) >= 2, 45, f"two seconds of hanging; {one.out()}")
    wait_until(lambda: len(beats(one)) > 20, 45, "output goes on")
    found, began = ages(one, stands), time.monotonic()
    assert found == sorted(found)
    with one.out_path.open("a") as out:
        out.write("GO\n")
    wait_until(lambda: ages(one, moved), 45, "it hangs elsewhere")
    assert ages(one, moved)[0] <= time.monotonic() - began, "its age begins anew"
    assert one.out().splitlines()[-1].count("Batch") == 0


def test_every_item_slower_than_a_heartbeat_has_its_line(program):  # R145
    one = ended(
        program,
        "for n in progress(range(9), every=1000, heartbeat_s=0.05): time.sleep(0.06 if n in (3, 4, 5) else 0)",
    )
    said = [line.split()[1] for line in one.out().splitlines() if line.startswith("Batch")]
    assert {"1/9", "4/9", "5/9", "6/9", "9/9"} <= set(said)


def test_it_goes_on_between_loops_and_names_the_newest_report(program, python):  # R146
    one = program(
        HEAD
        + """
with heartbeat(0.02):
    heard("[HEARTBEAT")
    for n in progress(range(2)): pass
    report(1, 9)
    heard("] epoch 1/9, ")
print("over", flush=True)
time.sleep(0.3)
import threading
print(threading.active_count())
""",
        python=python,
    )
    assert one.end(60) == 0, one.err()
    assert beats(one)[0] is None
    assert beats(one)[-1].startswith("epoch 1/9, ")
    assert one.out().splitlines()[-2:] == ["over", "1"], "none came behind its end"


def test_no_heartbeat_where_none_is_wanted(program):
    text = """
import threading
for every_s in (None, 0, -1, "x", float("nan"), []):
    with heartbeat(every_s):
        for n in progress(range(1), heartbeat_s=every_s): print(threading.active_count())
"""
    one = ended(program, text)
    assert beats(one) == []
    assert one.out().splitlines()[::2] == ["2"] * 6, "the listener's and the main one"


def test_the_shortest_wish_counts_and_one_thread_serves_all(program):
    one = ended(
        program,
        """
import threading
def names(): return [t.name for t in threading.enumerate()].count("onbox-heartbeat")
with heartbeat(600):
    for n in progress(range(2), heartbeat_s=600):
        for m in progress(range(2), heartbeat_s=0.02):
            print(names()); time.sleep(0.1)
    print(names())
print(names())
""",
    )
    assert beats(one)
    numbers = [line for line in one.out().splitlines() if line.isdigit()]
    assert numbers == ["1"] * 5 + ["0"]


FORKS = """
import os
def loader(count):
    for n in range(count):
        if n % 10 == 0:
            child = os.fork()
            if not child:  # a worker that has loops and figures of its own
                with heartbeat(0.01):
                    for m in progress(range(7), label="worker", heartbeat_s=0.01): time.sleep(0.005)
                    report(99, file="worker.txt")
                os._exit(0)
            os.waitpid(child, 0)
        yield n
for n in progress(loader(100), total=100, heartbeat_s=0.01, every=50): pass
child = os.fork()
if not child:
    for m in progress(range(2), label="later"): pass
    os._exit(0)
os.waitpid(child, 0)
print("over")
"""


def test_the_workers_of_a_loop_say_nothing_and_hold_nothing_up(program, each_python):  # R146
    one = ended(program, FORKS, python=each_python)
    said = [line.split()[0] for line in one.out().splitlines() if "HEARTBEAT" not in line]
    assert set(said) == {"Batch", "Later", "over"}, "forked behind the loop it speaks"
    assert beats(one) and not any("worker" in (beat or "") for beat in beats(one))
    assert not (one.cwd / "worker.txt").exists()


def test_a_child_that_goes_on_with_its_parents_loop_is_silent(program, python):
    one = ended(
        program,
        """
import os
child = 0
for n in progress(range(50), heartbeat_s=0.01):
    time.sleep(0.002)
    if n == 20:
        child = os.fork()
        if child: break
if not child:
    open("child", "w").write(str(n))
    os._exit(0)
os.waitpid(child, 0)
""",
        python=python,
    )
    assert (one.cwd / "child").read_text() == "49"
    said = [int(line.split()[1][:-3]) for line in one.out().splitlines() if line.startswith("Batch")]
    assert {1, 5, 10, 15, 20} <= set(said) and max(said) == 20


ENDS = {
    "the end of the script": "",
    "an exit": "sys.exit(0)",
    "in the middle of a loop": "steps = iter(progress(range(9), heartbeat_s=0.01)); next(steps); time.sleep(0.05)",
    "in a loop of another thread": (
        "import threading\n"
        "def work():\n    for n in progress(range(30), heartbeat_s=0.01): time.sleep(0.01)\n"
        "threading.Thread(target=work).start()"
    ),
    "in a daemon's": (
        "import threading\n"
        "def work():\n    for n in progress(range(30), heartbeat_s=0.01): time.sleep(0.01)\n"
        "threading.Thread(target=work, daemon=True).start(); time.sleep(0.05)"
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_may_end_while_it_beats(how, program, each_python):  # R146
    text = f"forever = heartbeat(0.01)\nforever.__enter__()\nheard('HEARTBEAT')\n{ENDS[how]}"
    running = [program(HEAD + text, python=each_python) for _ in range(2)]
    for one in running:
        assert (one.end(60), one.err()) == (0, "")
        assert beats(one)


SLOW = """
import io
class Slow(io.RawIOBase):
    def writable(self): return True
    def write(self, content):
        time.sleep(0.2)
        return sys.__stdout__.buffer.raw.write(content)
sys.stdout = io.TextIOWrapper(io.BufferedWriter(Slow()), write_through=True)
forever = heartbeat(0.01)
forever.__enter__()
heard("HEARTBEAT")
time.sleep(0.1)  # within the next one
"""


def test_the_interpreter_may_end_in_the_middle_of_a_beat(program, each_python):  # R146
    one = program(HEAD + SLOW, python=each_python, env={"PYTHONUNBUFFERED": ""})
    assert (one.end(60), one.err()) == (0, "")
    assert beats(one)


FORKED_IN_A_BEAT = """
import os
for n in range(3):
    child = os.fork()
    if not child:
        print("from a child", flush=True)
        os._exit(0)
    deadline = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            sys.exit("a child hangs in its own output")
        time.sleep(0.01)
"""


def test_a_child_that_was_forked_in_the_middle_of_a_beat_can_print(program, each_python):  # R146
    one = program(
        HEAD + SLOW + FORKED_IN_A_BEAT,
        python=each_python,
        flags=("-W", "ignore"),
        env={"PYTHONUNBUFFERED": ""},
    )
    assert (one.end(120), one.err()) == (0, "")
    assert one.out().count("from a child") == 3


def test_a_line_of_the_program_and_a_heartbeat_do_not_cut_each_other_with_buffers_of_lines(program, python):
    one = ended(
        program,
        """
with heartbeat(0.01):
    unbuffered()
    for n in range(20000):
        sys.stdout.write("x" * 50 + "\\n")
""",
        python=python,
        env={"PYTHONUNBUFFERED": ""},
    )
    whole = [line for line in one.out().splitlines() if "HEARTBEAT" not in line]
    assert whole == ["x" * 50] * 20000
    assert beats(one) is not None
