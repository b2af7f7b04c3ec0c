"""The published `ipc` of loopmonitor 0.1.2 drives a loop of ours as it drives one of its own."""

import json
import os
import re
import signal
from ast import literal_eval

import processes
import pytest
from peers import BOTH, OURS, THEIRS, WITHIN_S, held, moves, state, stops
from waiting import wait_until

pytestmark = [pytest.mark.parametrize("module", BOTH), pytest.mark.timeout(400)]
BLOCK = r"\[loopmonitor\] PID {pid}  iter \d+\n         elapsed [\d:]+  ETA \?\n         loss=\S+  lr=\S+\n"


def in_output(program, text):
    wait_until(lambda: text in program.out(), WITHIN_S, f"{text!r} in {program.out()!r}; {program.err()!r}")


def test_list_names_it(folder, module):
    one = folder.turning(module)
    said = folder.asked(THEIRS, "list")
    assert said.returncode == 0
    head, rule, row = said.stdout.splitlines()
    assert head.split() == ["PID", "PPID", "ALIVE", "LANG", "LABEL", "STARTED"]
    assert rule == "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 85
    assert row.split()[:5] == [str(one.pid), str(os.getpid()), "yes", "Py", "turning"]
    assert folder.asked(THEIRS, "list", "--group", os.getpid()).stdout == said.stdout
    assert folder.asked(THEIRS, "list", "--group", 1).stdout == "No processes with PPID 1.\n"
    assert stops(one) == 0
    assert folder.asked(THEIRS, "list").stdout == "No registered processes.\n"


def test_peek_shows_it_here_and_there(folder, module):
    one = folder.turning(module)
    with held(one):
        said = folder.asked(THEIRS, "peek", one.pid)
        assert said.returncode == 0
        assert re.fullmatch(BLOCK.format(pid=one.pid), said.stdout)
        in_output(one, "lr=0.1\n")
    assert re.fullmatch(BLOCK.format(pid=one.pid), one.out())
    assert stops(one) == 0


@pytest.mark.parametrize("words", [(), ("--last", "5")])
def test_plot_leaves_it_running(folder, module, words):
    one = folder.turning(module)
    with held(one):
        said = folder.asked(THEIRS, "plot", one.pid, *words)
    assert (said.returncode, said.stdout) == (0, "")
    moves(one)
    if module == OURS:
        in_output(one, "[loopmonitor] No window is opened from inside the loop")
    assert stops(one) == 0


def test_continue_goes_on_behind_the_loop(folder, module):  # R156
    one = folder.turning(module)
    said = folder.asked(THEIRS, "continue", one.pid)
    assert said.returncode == 0
    assert said.stdout == f"[loopmonitor] 'continue' sent to PID {one.pid} (turning).\n"
    assert one.end() == 0
    dash = "\N{EM DASH}"
    assert one.out() == (
        f"[loopmonitor] 'continue' received {dash} loop will exit after this iteration.\nbehind the loop 0.1\n"
    )
    assert one.registered() is None
    assert one.left_behind() == []


def test_break_saves_and_ends_it(folder, module):  # R156
    one = folder.turning(module)
    with held(one):
        said = folder.asked(THEIRS, "break", one.pid)
    assert said.returncode == 0
    assert said.stdout == f"[loopmonitor] 'break' sent to PID {one.pid} (turning).\n"
    assert one.end() == {OURS: 88, THEIRS: 0}[module]
    stop = "\\[loopmonitor\\] Stopping \N{EM DASH} state saved.\n\\[loopmonitor\\] State written to (.*)\n"
    saved = re.fullmatch(BLOCK.format(pid=one.pid) + stop, one.out())
    assert re.fullmatch(rf"loopmonitor_break_{one.pid}_\d{{8}}T\d{{6}}\.json", saved[1])
    assert list(json.loads((one.home / saved[1]).read_text())) == [
        "pid", "iteration", "total", "elapsed_sec", "eta_sec", "tracked", "updated",
    ]  # fmt: skip
    assert one.left_behind() == []


def test_set_reaches_the_loop(folder, module):  # R156
    one = folder.turning(module)
    for text in ("0.001", "'warm'", "[1, 2]", "{'a': None}", "  7 "):
        said = folder.asked(THEIRS, "set", one.pid, f"lr={text}")
        assert (said.returncode, said.stdout) == (0, "")
        in_output(one, f"[loopmonitor] set lr = {literal_eval(text.strip())!r}\n")
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith("behind the loop 7\n")


def test_a_set_that_is_refused_says_so_in_the_program(folder, module):
    one = folder.turning(module)
    wrong = ("2x=1", "lr=__import__('os')", "lr=", "lr")
    for assignment in wrong:
        assert folder.asked(THEIRS, "set", one.pid, assignment).returncode == 0
    wait_until(lambda: one.out().count("[loopmonitor] 'set' failed: ") == len(wrong), WITHIN_S, one.out())
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith("behind the loop 0.1\n")


def test_pause_and_resume(folder, module):
    one = folder.turning(module)
    said = folder.asked(THEIRS, "pause", one.pid)
    assert said.stdout == f"[loopmonitor] PID {one.pid} (turning) paused (SIGSTOP).\n"
    wait_until(lambda: processes.stat(one.pid)[0] == "T", WITHIN_S, "stopped")
    said = folder.asked(THEIRS, "resume", one.pid)
    assert said.stdout == f"[loopmonitor] PID {one.pid} (turning) resumed (SIGCONT).\n"
    moves(one)
    assert stops(one) == 0


def test_tail_ends_with_the_program(folder, module):
    one = folder.turning(module)
    tail = folder.started(THEIRS, "tail", one.pid, "--interval", "0.05")
    # Line by line to the end: `communicate` would drop what a `readline` before it had read ahead.
    assert (
        tail.stdout.readline()
        == f"[loopmonitor] Tailing PID {one.pid} every 0.05s \N{EM DASH} Ctrl+C to stop.\n"
    )
    first = tail.stdout.readline()
    assert stops(one) == 0
    out = first + "".join(tail.stdout)
    assert (tail.wait(WITHIN_S), tail.stderr.read()) == (0, "")
    assert re.match(BLOCK.format(pid=one.pid), out) or "No state yet" in first
    assert out.endswith(f"[loopmonitor] PID {one.pid} is no longer running.\n")


def test_notify_sees_the_condition(folder, module):
    one = folder.turning(module)
    wait_until(lambda: (state(one) or {"iteration": 0})["iteration"] > 3, WITHIN_S, "four iterations")
    with held(one):
        said = folder.asked(THEIRS, "notify", one.pid, "iteration > 3 and loss < 1", "--interval", "0.05")
    assert said.returncode == 0
    assert said.stdout.endswith("[loopmonitor] Condition met \N{EM DASH} notification sent.\n")
    assert stops(one) == 0


def test_checkpoint_leaves_a_snapshot(folder, module):
    one = folder.turning(module)
    with held(one):
        said = folder.asked(THEIRS, "checkpoint", one.pid)
        assert said.stdout == f"[loopmonitor] 'checkpoint' sent to PID {one.pid} (turning).\n"
        in_output(one, "[loopmonitor] Checkpoint saved to loopmonitor_checkpoint_")
    (saved,) = one.snapshots("checkpoint")
    assert (saved["pid"], saved["total"]) == (one.pid, None)
    moves(one)
    assert stops(one) == 0


def test_stack_and_memory_appear_in_the_program(folder, module):
    one = folder.turning(module)
    for verb in ("stack", "memory"):
        said = folder.asked(THEIRS, verb, one.pid)
        assert said.returncode == 0
        assert said.stdout == (
            f"[loopmonitor] '{verb}' sent to PID {one.pid} (turning) \N{EM DASH} output appears in the process terminal.\n"
        )
    in_output(one, " MB\n")
    in_output(one, "[loopmonitor] Stack trace")
    assert f"[loopmonitor] Stack trace for PID {one.pid}:\n  File " in one.out()
    assert re.search(rf'File "{one.home}/script.py", line \d+, in <module>\n', one.out())
    assert re.search(rf"\[loopmonitor\] PID {one.pid} memory \N{{EM DASH}} RSS: \d+\.\d MB\n", one.out())
    assert stops(one) == 0


def test_clean_takes_the_entry_of_a_killed_one(folder, module):
    one = folder.turning(module)
    assert folder.asked(THEIRS, "clean").stdout == "Registry is clean.\n"
    one.process.send_signal(signal.SIGKILL)
    one.end()
    assert folder.asked(THEIRS, "clean").stdout == f"Removed stale entries: [{one.pid}]\n"
    assert one.registered() is None


@pytest.mark.parametrize("target", ["all", "turn*", "parent"])
def test_several_at_once(folder, module, target):
    """Two of one kind in one folder, by every way that means both."""
    loops = [folder.turning(module), folder.turning(module)]
    target = os.getpid() if target == "parent" else target
    with held(loops[0]), held(loops[1]):
        said = folder.asked(THEIRS, "peek", target)
    assert said.returncode == 0
    for one in loops:
        assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 2 + f" turning  PID {one.pid} " in said.stdout
    said = folder.asked(THEIRS, "continue", target)
    assert said.stdout.count("'continue' sent to PID") == 2
    assert [one.end() for one in loops] == [0, 0]


def test_nobody_is_there(folder, module):
    one = folder.turning(module)
    assert stops(one) == 0
    for verb in ("peek", "continue", "memory"):
        said = folder.asked(THEIRS, verb, one.pid)
        assert (said.returncode, said.stdout) == (1, "")
        assert said.stderr == f"[loopmonitor] No alive processes matching '{one.pid}'.\n"
    assert state(one) is None
