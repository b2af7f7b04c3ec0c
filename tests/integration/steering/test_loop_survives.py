"""What was seen to kill or mislead a program of loopmonitor 0.1.x: ours lives through each of it."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loops import SLOW, WITHIN_S
from waiting import wait_until

from onbox.wire import card, identity, state

pytestmark = pytest.mark.timeout(180)


def settled(run):
    """Itself, when all that was written into its FIFO before has had its effect."""
    assert run.last("peek")["ok"]
    return run


def test_the_reader_of_standard_output_may_go(program, edge_python):  # R152
    reading, writing = os.pipe()
    run = program(SLOW.replace("print", "0 and print"), python=edge_python, stdout=writing)
    os.close(writing)
    wait_until(lambda: run.card() and run.state(), WITHIN_S, "a state")
    os.close(reading)
    for line in ("peek", "memory", "stack", "set x=1", "checkpoint"):
        run.old(line)
    faults = settled(run).last("peek")["state"]["faults"]
    assert faults == 5
    assert run.last("continue")["ok"]
    assert run.end() == 0, run.err()
    assert run.err() == ""


def test_a_full_pipe_on_standard_output_holds_up_nobody(program):  # R152
    reading, writing = os.pipe()
    run = program(SLOW.replace("print", "0 and print"), stdout=writing)
    try:
        wait_until(lambda: run.card() and run.state(), WITHIN_S, "a state")
        os.set_blocking(writing, False)
        wait_until(
            lambda: not select.select([], [writing], [], 0)[1] or not os.write(writing, b"x" * 4096),
            WITHIN_S,
            "full",
        )
        os.set_blocking(writing, True)  # the program shares this descriptor: it would be held up
        for _ in range(20):
            run.old("stack")
        before = settled(run).last("peek")["iteration"]
        wait_until(lambda: run.last("peek")["iteration"] > before + 3, WITHIN_S, "the loop goes on")
        assert run.last("continue")["ok"]
        assert run.end() == 0, run.err()
    finally:
        os.close(reading)
        os.close(writing)


def test_plain_commands_have_the_words_of_loopmonitor(program):  # R152
    run = program(SLOW).begun()
    wait_until(run.state, WITHIN_S, "a state")
    for line in (
        "peek",
        "set lr=0.5",
        "set lr=x",
        "memory",
        "stack",
        "checkpoint",
        "plot",
        "nothing of ours",
        "PEEK",
    ):
        run.old(line)
        settled(run)
    run.old("continue")
    assert run.end() == 0, run.err()
    out = run.out()
    for text in (
        f"[loopmonitor] PID {run.pid}  iter ",
        "[loopmonitor] set lr = 0.5\n",
        "[loopmonitor] 'set' failed: ",
        f"[loopmonitor] PID {run.pid} memory \u2014 RSS: ",
        f'[loopmonitor] Stack trace for PID {run.pid}:\n  File "{run.home}/script.py", line ',
        f"[loopmonitor] Checkpoint saved to loopmonitor_checkpoint_{run.pid}_",
        "[loopmonitor] 'continue' received \u2014 loop will exit after this iteration.\n",
    ):
        assert out.count(text) == 1, (text, out)
    assert re.search(
        r'/script\.py", line [4-8], in <module>\n', out
    )  # mostly at its sleep, but anywhere in its loop
    assert "nothing of ours" not in out
    assert run.err() == ""


def test_a_plain_break_saves_says_so_and_ends_with_our_code(program):  # R152
    run = program(SLOW).begun()
    wait_until(run.state, WITHIN_S, "a state")
    run.old("break")
    assert run.end() == 88
    saved = run.snapshots("break")[0]
    assert f"[loopmonitor] PID {run.pid}  iter {saved['iteration']}/1000000" in run.out()
    assert (
        "[loopmonitor] Stopping \u2014 state saved.\n[loopmonitor] State written to loopmonitor_break_"
        in run.out()
    )
    assert run.ends()[1]["ended"] == "broken"


def test_an_ascii_standard_output_takes_the_words_it_can(program):  # R152
    run = program(SLOW, env={"PYTHONIOENCODING": "ascii"}).begun()
    run.old("continue")
    assert run.end() == 0, run.err()
    assert "'continue' received ? loop will exit" in run.out()


@pytest.mark.parametrize(
    "line", ["plot abc", "plot -1 x", "set", "set =", "set a", "hold 1 2 3", "\ud800", "\x00"]
)
def test_a_bad_line_is_no_reason_to_end(program, line):  # R152
    run = program(SLOW).begun()
    run.write(line.encode("utf-8", "surrogatepass") + b"\n")
    os.kill(run.pid, signal.SIGUSR1)
    assert settled(run).last("continue")["ok"]
    assert run.end() == 0, run.err()
    assert run.err() == ""


def test_two_commands_in_one_write_are_both_done(program):  # R152
    run = program(SLOW).begun()
    run.write(b"set a=1\nset b=2\n")
    os.kill(run.pid, signal.SIGUSR1)
    settled(run)
    assert "set a = 1\n" in run.out()
    assert "set b = 2\n" in run.out()


def test_a_long_flood_is_taken_line_by_line(program):  # R152
    """Lines that lie across every 4096th byte: none is cut, none is lost."""
    run = program(SLOW).begun()
    run.write(b"".join(b"set lr=%d\n" % n for n in range(100_000, 107_000)))
    os.kill(run.pid, signal.SIGUSR1)
    settled(run)
    said = [line for line in run.out().splitlines() if "set lr" in line]
    assert said == [f"[loopmonitor] set lr = {n}" for n in range(100_000, 107_000)]
    assert "'set' failed" not in run.out()


def test_a_line_that_is_too_long_is_refused_as_a_whole(program):  # R152
    run = program(SLOW).begun()
    run.write(b"set lr=[" + b"1, " * 3000 + b"1]\n")
    os.kill(run.pid, signal.SIGUSR1)
    settled(run)
    assert "[loopmonitor] 'set' failed: longer than 4095 bytes\n" in run.out()
    long = run.last("set lr=[" + "1, " * 3000 + "1]")
    assert long["error"] == {"code": "refused", "what": "longer than 4095 bytes"}
    assert run.last("set lr='" + "x" * 4000 + "'")["ok"]


def test_half_a_line_does_not_swallow_the_next_for_ever(program):  # R152
    run = program(SLOW).begun()
    run.write(b"set lr=0.0")
    wait_until(lambda: not unanswered(run), WITHIN_S, "a question is heard again")
    assert run.last("continue")["ok"]
    assert run.end() == 0, run.err()


def unanswered(run):
    """Whether a question got no answer within a second; what is left of it is taken away."""
    try:
        return not run.last("peek", within_s=1.0)
    except AssertionError:
        return True


SHORT = """
import signal, sys, time
from onbox import ipc_range
deadline = time.monotonic() + 1.5
print("begun", flush=True)
while time.monotonic() < deadline:
    for step in ipc_range(3): pass
print("through", flush=True)
time.sleep(0.2)
"""

FLOOD = """
import os, signal, sys
path, pid = sys.argv[1], int(sys.argv[2])
sent = 0
try:
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            os.kill(pid, 0)
            continue
        try:
            os.write(fd, b"peek\\n")
        except OSError:
            continue
        finally:
            os.close(fd)
        os.kill(pid, signal.SIGUSR1)
        sent += 1
except ProcessLookupError:
    print(sent)
"""


def test_a_flood_of_signals_round_the_ends_of_many_short_loops_kills_nothing(program):  # R152
    run = program(SHORT).begun()
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(run.ipc / f"{run.pid}.fifo"), str(run.pid)], stdout=subprocess.PIPE
    )
    try:
        assert run.end() == 0, run.err()
        assert "through" in run.out()
        assert run.err() == ""
    finally:
        flood.kill()
        flood.communicate()


def test_a_flood_of_signals_does_not_kill_at_the_end_of_the_interpreter(program):  # R152
    run = program("""
import signal, time
from onbox import ipc_range
for step in ipc_range(3): pass
print("begun", flush=True)
time.sleep(0.5)
""").begun()
    flood = subprocess.Popen(
        [sys.executable, "-c", "import os, sys\nwhile True: os.kill(int(sys.argv[1]), 10)", str(run.pid)],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert run.end() == 0, run.err()
    finally:
        flood.kill()
        flood.wait()


EARLIER = """
import signal, sys, time
from onbox import ipc_range
heard = []
def mine(number, frame):
    heard.append(number)
    print("heard", len(heard), flush=True)
signal.signal(signal.SIGUSR1, mine)
for step in ipc_range(1_000_000):
    if step.index == 0: print("begun", flush=True)
    time.sleep(0.002)
assert signal.getsignal(signal.SIGUSR1) is mine
print("behind the loop", flush=True)
deadline = time.monotonic() + 100
before = len(heard)
print("waiting", flush=True)
while len(heard) == before and time.monotonic() < deadline: time.sleep(0.01)
print(len(heard) > before)
"""


def test_an_earlier_handler_gets_what_is_not_ours_and_is_put_back(program, edge_python):  # R152
    run = program(EARLIER, python=edge_python).begun()
    wait_until(run.state, WITHIN_S, "a state")
    for _ in range(3):
        run.old("peek")
        settled(run)
    assert "heard" not in run.out()
    for n in (1, 2):
        # Two signals of ours may have come as one; what is left of them covers one more for a second.
        wait_until(lambda n=n: foreign(run, n), WITHIN_S, f"heard {n}")
    assert run.last("continue")["ok"]
    run.begun("waiting")
    os.kill(run.pid, signal.SIGUSR1)
    assert run.end() == 0, run.err()
    assert run.out().splitlines()[-1] == "True"


def foreign(run, n):
    """Whether the handler heard `n` signals: one is sent, and given the time to arrive."""
    os.kill(run.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and f"heard {n}\n" not in run.out():
        time.sleep(0.01)
    return f"heard {n}\n" in run.out()


# Its own thread only: with all_threads faulthandler reads frames that move, and now and then dies of it (CPython, docs/steering.md).
DUMPING = """
import faulthandler, os, signal, time
from onbox import ipc_range
dump = open("dump", "w")
def mine(number, frame): pass
def order(words):
    if "mine" in words: signal.signal(signal.SIGUSR1, mine)
    if "dump" in words: faulthandler.register(
        signal.SIGUSR1, file=dump, all_threads=False, chain="chain" in words)
order(BEFORE)
for step in ipc_range(1_000_000):
    if step.index == 3:
        order(INSIDE)
        print("begun", flush=True)
    time.sleep(0.002)
deadline, size = time.monotonic() + 100, os.stat("dump").st_size
print("behind", flush=True)
while time.monotonic() < deadline and os.stat("dump").st_size == size: time.sleep(0.01)
for step in ipc_range(3): pass
"""


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("dump", ""),
        ("", "dump"),
        ("", "dump chain"),
        ("mine dump", ""),
        ("mine dump chain", ""),
        ("mine", "dump"),
    ],
)
def test_the_stacks_that_faulthandler_shall_write_are_not_lost(program, edge_python, before, inside):  # R152
    run = program(
        DUMPING.replace("BEFORE", repr(before)).replace("INSIDE", repr(inside)), python=edge_python
    ).begun()
    dump = run.cwd / "dump"
    os.kill(run.pid, signal.SIGUSR1)
    wait_until(lambda: "script.py" in dump.read_text(), WITHIN_S, "the stacks of a running loop")
    run.old("set x=1")
    settled(run)
    assert run.out().count("set x = 1\n") == 1
    assert run.last("continue")["ok"]
    run.begun("behind")
    written = dump.stat().st_size
    os.kill(run.pid, signal.SIGUSR1)
    wait_until(lambda: dump.stat().st_size > written, WITHIN_S, "the stacks behind the loop")
    assert run.end() == 0, run.err()
    assert run.err() == ""


def test_a_signal_that_would_end_the_program_behind_a_dump_is_asked_for_by_nobody(program):  # R152
    """The program wants to be ended by it: who sends one of loopmonitor's finds no FIFO, and is told why."""
    run = program(DUMPING.replace("BEFORE", "'dump chain'").replace("INSIDE", "''")).begun()
    wait_until(run.card, WITHIN_S, "a card")
    assert "chain=True" in run.card()["why"]
    assert not (run.ipc / f"{run.pid}.fifo").exists()
    assert run.process.poll() is None


def test_a_signal_of_nobody_never_kills_from_the_first_loop_on(program):  # R152
    run = program(SLOW + "\nprint('waiting', flush=True)\nimport time\ntime.sleep(1)\n").begun()
    os.kill(run.pid, signal.SIGUSR1)
    assert run.last("continue")["ok"]
    run.begun("waiting")
    os.kill(run.pid, signal.SIGUSR1)
    assert run.end() == 0


def test_a_loop_in_a_thread_can_be_asked_and_is_not_killed(program, edge_python):  # R152
    run = program(
        "import threading\ndef work():\n"
        + "".join(f"    {line}\n" for line in SLOW.splitlines())
        + "one = threading.Thread(target=work)\none.start()\none.join()\n",
        python=edge_python,
    ).begun()
    wait_until(run.state, WITHIN_S, "a state")
    for _ in range(3):
        run.old("peek")
    assert settled(run).last("continue")["ok"]
    assert run.end() == 0, run.err()
    assert run.ends()[1]["ended"] == "continued"
    assert "[loopmonitor] PID" in run.out()


FORKING = """
import os, sys, time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="parent"):
    if step.index == 0:
        child = os.fork()
        if child == 0:
            signalled = [s.index for s in ipc_range(3, label="child")]
            print("child", os.getpid(), signalled, flush=True)
            time.sleep(60)
            os._exit(0)
        print("begun", child, flush=True)
    time.sleep(0.002)
os.kill(child, 9)
os.waitpid(child, 0)
print("parent ends", flush=True)
"""


def test_a_forked_child_neither_eats_commands_nor_lets_go_of_its_parent(program, edge_python):  # R152
    run = program(FORKING, python=edge_python, flags=["-W", "error"]).begun("child")
    run.begun("begun")
    child = int(run.out().split("child ")[1].split()[0])
    held = [str(link.readlink()) for link in Path(f"/proc/{child}/fd").iterdir()]
    assert not [path for path in held if "/ipc" in path], held
    for n in range(20):
        os.kill(child, signal.SIGUSR1)
        run.old(f"set n={n}")
    settled(run)
    assert [f"set n = {n}\n" in run.out() for n in range(20)] == [True] * 20
    assert run.registered()["label"] == "parent"
    assert run.last("continue")["ok"]
    assert run.end() == 0, run.err()
    assert run.err() == ""


COPIED = """
import os, threading, time
seen = []
def names(): return sorted(thread.name for thread in threading.enumerate())
os.register_at_fork(before=lambda: seen.append(names()))  # the first one there runs as the last one
from onbox import ipc_range
for step in ipc_range(20, label="parent"):
    child = os.fork()
    if child == 0: os._exit(names() != ["MainThread"])
    assert os.waitpid(child, 0)[1] == 0
    seen.append(names())
    time.sleep(0.01)
# Under load it may be waited for in vain once, not each time.
print(["MainThread"] in seen, ["MainThread", "onbox-listener"] in seen)
"""


def test_no_thread_of_ours_runs_while_a_fork_copies_it(program, edge_python):  # R152
    run = program(COPIED, python=edge_python)
    assert run.end() == 0, run.err()
    assert run.out() == "True True\n"


def test_multiprocessing_children_end_as_ever(program):  # R152
    run = program("""
import multiprocessing, os, time
from onbox import ipc_range
def work(n): return sum(step.index for step in ipc_range(n, label="child"))
for step in ipc_range(2, label="parent"):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, [3, 4]), flush=True)
assert os.path.exists(os.path.join(os.environ["LOOPCTL_DIR"], "registry.json"))
""")
    assert run.end() == 0, run.err()
    assert run.out() == "[3, 6]\n" * 2
    assert run.left_behind() == []
    assert run.registered() is None


def test_a_torn_state_is_never_seen(program):  # R152
    """A reader that polls flat out while the loop writes as often as it does, and is asked besides."""
    run = program(SLOW.replace("loss=", "long=list(range(1000)), loss=")).begun()
    wait_until(run.state, WITHIN_S, "a state")
    began, reads, seen = time.monotonic(), 0, set()

    def read():
        nonlocal reads
        seen.add(json.loads((run.ipc / f"{run.pid}.state.json").read_bytes())["iteration"])
        json.loads((run.ipc / "registry.json").read_bytes())
        reads += 1
        return reads > 50 and len(seen) >= 6

    while not read():
        assert time.monotonic() < began + WITHIN_S, (reads, seen)
    most = 4 * (time.monotonic() - began) + 3
    assert len(seen) <= most, "a state is written every quarter of a second at most"


def test_killed_it_leaves_what_a_reader_can_judge(program):  # R152 S40
    run = program(SLOW).begun()
    wait_until(run.state, WITHIN_S, "a state")
    run.process.send_signal(signal.SIGKILL)
    assert run.end() == -9
    read = card.read(run.ipc, run.pid)
    assert not identity.same(read.identity)
    assert state.live(run.ipc, run.pid)["iteration"] >= 1
    assert run.ends() == {}


def test_what_a_dead_process_of_our_number_left_is_replaced(program):  # R152
    run = program(
        """
import os, time
from pathlib import Path
ipc, pid = Path(os.environ["LOOPCTL_DIR"]), os.getpid()
(ipc / "onbox").mkdir(parents=True, mode=0o700)
ipc.chmod(0o700)
os.mkfifo(ipc / ("%d.fifo" % pid))
for name in ("%d.state.json", "onbox/%d.json"):
    (ipc / (name % pid)).write_text("stale")
"""
        + SLOW
    ).begun()
    wait_until(run.state, WITHIN_S, "a state of ours")
    assert card.read(run.ipc, run.pid).identity == identity.of(run.pid)
    assert run.last("continue")["ok"]
    assert run.end() == 0
    assert run.left_behind() == []


def test_what_is_no_fifo_under_our_name_is_never_removed(program):  # R152 S38
    run = program("""
import os
from pathlib import Path
ipc = Path(os.environ["LOOPCTL_DIR"])
ipc.mkdir(mode=0o700)
(ipc / ("%d.fifo" % os.getpid())).write_text("precious")
from onbox import ipc_range
for step in ipc_range(3):
    print(step.index, flush=True)
    if step.index == 1:
        import json
        print(json.loads((ipc / "onbox" / ("%d.json" % os.getpid())).read_text())["why"])
""")
    assert run.end() == 0, run.err()
    assert "exists but is not a FIFO" in run.out()
    assert (run.ipc / f"{run.pid}.fifo").read_text() == "precious"


@pytest.mark.parametrize("trouble", ["others", "file", "owner", "unwritable"])
def test_without_a_folder_the_loop_just_runs(program, tmp_path, trouble):  # R152 S38
    ipc = tmp_path / "ipc"
    if trouble == "file":
        ipc.write_text("")
    else:
        ipc.mkdir(mode=0o700)
    if trouble == "others":
        ipc.chmod(0o777)
    if trouble == "owner":
        os.chown(ipc, 12345, 12345)
    where = "/proc/nothing/here" if trouble == "unwritable" else str(ipc)
    run = program(
        "from onbox import ipc_range\nfor step in ipc_range(3): step.track(a=1); print(step.index)\n",
        env={"LOOPCTL_DIR": where},
    )
    assert run.end() == 0, run.err()
    assert run.out() == "0\n1\n2\n"
    assert run.err() == ""
    assert trouble in {"file", "unwritable"} or list(ipc.iterdir()) == []


def test_a_full_disk_ends_nothing(program, tmp_path):  # R152
    ipc = tmp_path / "small"
    ipc.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", ipc], check=True)
    try:
        run = program(
            SLOW.replace("loss=", "a=list(range(900)), loss="), env={"LOOPCTL_DIR": str(ipc)}, ipc=ipc
        ).begun()
        wait_until(lambda: run.state() or run.last("peek")["iteration"] > 5, WITHIN_S, "a state")
        with (ipc / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 512)
            except OSError:
                pass
        before = run.last("peek")
        wait_until(
            lambda: run.last("peek")["state"]["faults"] > before["state"]["faults"], WITHIN_S, "it is counted"
        )
        assert "No space left" in run.last("peek")["state"]["fault"]
        assert run.last("continue")["ok"]
        assert run.end() == 0, run.err()
        assert run.err() == ""
        assert run.out().splitlines()[-1].startswith("behind the loop at")
    finally:
        subprocess.run(["umount", "-l", ipc], check=True)


def test_our_questions_interrupt_no_call_of_a_c_library(program):  # R152
    run = program("""
import ctypes, os
from onbox import ipc_range
libc, room = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(1)
os.mkfifo("word")
word = os.open("word", os.O_RDWR)
for step in ipc_range(3):
    if step.index == 1:
        print("begun", flush=True); print("read", libc.read(word, room, 1), ctypes.get_errno(), flush=True)
""").begun()
    for words in ("peek", "set x=1", "memory", "stack", "checkpoint"):
        assert run.last(words)["ok"]
    assert "read" not in run.out(), "all of it was answered while the main thread was in C"
    assert "libc.read" in run.last("stack")["threads"][0]["frames"][-1]["code"]
    (run.cwd / "word").write_bytes(b"w")
    assert run.end() == 0, run.err()
    assert "read 1 0" in run.out()


def test_an_asker_that_does_not_read_or_is_none_is_not_waited_for(program, tmp_path):  # R152 S38
    run = program(SLOW.replace("loss=", "long=list(range(999)), x=['y' * 200] * 900, loss=")).begun()
    slow = run.question("peek")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (run.ipc / "onbox" / ("a" * 16 + ".fifo")).symlink_to(victim)
    run.write(b"@" + b"a" * 16 + b" peek\n")
    run.write(b"@" + b"b" * 16 + b" peek\n")
    assert run.last("memory")["ok"]
    assert victim.read_text() == "mine"
    assert run.last("continue")["ok"]
    assert run.end() == 0, run.err()
    os.close(slow[1])


TOGETHER = """
import os, sys, time
from onbox import ipc_range
for step in ipc_range(1_000_000, label="train"):
    if step.index == 0: print("begun", flush=True)
    while step.index == 100 and not os.path.exists("go"): time.sleep(0.01)  # nobody is past what is held meanwhile
    time.sleep(0.002 + 0.001 * int(os.environ["RANK"]))
print("left", step.index + 1)
"""


@pytest.mark.parametrize("word", ["go", "void", None])
def test_ranks_leave_together_or_not_at_all(program, tmp_path, word):  # R152
    shared = tmp_path / "shared"
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    runs = [program(TOGETHER, env={**group, "RANK": str(rank)}, ipc=shared) for rank in (0, 1)]
    for rank, run in enumerate(runs):
        said = card.read(shared, run.begun().pid)
        assert (said.group, said.rank, said.world) == ("a:1", rank, 2)
    at = 150
    for run in runs:
        assert run.last(f"hold {at} {'c' * 16} continue")["stage"] == "accepted"
    assert "held" in runs[0].last("continue")["error"]["what"]
    votes = shared / "onbox/votes"
    if word:
        votes.mkdir(mode=0o700, exist_ok=True)
        (votes / ("c" * 16)).write_text(word)
    for run in runs:
        (run.cwd / "go").touch()
    if word == "go":
        assert [run.end() for run in runs] == [0, 0]
        assert [run.out() for run in runs] == [f"begun\nleft {at}\n"] * 2
        assert [run.ends()[1]["ended"] for run in runs] == ["continued"] * 2
        return
    for run in runs:
        wait_until(lambda run=run: run.last("peek")["iteration"] > at, 60, "it goes on behind the vote")
    assert (votes / ("c" * 16)).read_text() == "void"
    late = runs[0].last(f"hold 3 {'d' * 16} break")
    assert late["error"]["what"] == "iteration 3 has passed"
    for run in runs:
        assert run.last("continue")["ok"]
        assert run.end() == 0
