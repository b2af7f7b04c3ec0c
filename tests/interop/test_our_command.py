"""Our `ipc` drives a loop of the published loopmonitor 0.1.2, with an answer and an exit code for every verb."""

import json
import os
import signal
from itertools import groupby
from pathlib import Path

import processes
import pytest
from peers import BOTH, OURS, THEIRS, WITHIN_S, held, moves, state, stops
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)


def answer(folder, *words, code=0):
    """The one answer, with the exit code that was expected."""
    said = folder.asked(OURS, *words, "--json")
    assert said.returncode == code, said
    return said.answer


def test_list_prints_what_theirs_prints(folder):
    """One loop of each kind in one folder; both commands agree on it to the letter."""
    loops = [folder.turning(THEIRS), folder.turning(OURS)]
    said = [folder.asked(kind, "list") for kind in BOTH]
    assert said[0].returncode == 0
    assert said[0].stdout == said[1].stdout
    assert len(said[0].stdout.splitlines()) == 4
    rows = json.loads(folder.asked(OURS, "list", "--json").stdout)["answers"]
    assert {row["pid"]: row["kind"] for row in rows} == {loops[0].pid: THEIRS, loops[1].pid: OURS}
    for one in loops:
        assert stops(one) == 0
    assert folder.asked(OURS, "list").stdout == folder.asked(THEIRS, "list").stdout


def test_peek_reads_it_and_writes_nothing_into_its_log(folder):  # R151 R156
    one = folder.turning(THEIRS)
    with held(one):
        said = folder.asked(OURS, "peek", one.pid)
        assert said.returncode == 0
        assert said.stdout.startswith(f"[loopmonitor] PID {one.pid}  iter ")
        found = answer(folder, "peek", one.pid)
        assert (found["kind"], found["confirmed"]) == (THEIRS, True)
        assert list(found["reply"]["state"]) == list(state(one) or {}) != []
    moves(one)
    assert stops(one) == 0
    assert one.out() == "behind the loop 0.1\n"


def test_the_state_is_never_missed_while_it_is_torn(folder):
    """The published one truncates and writes: who reads once sees nothing in one of four.

    A writer that gets no turn for 50 ms in the middle of it is not seen either: a busy machine may do that.
    """
    text = TURNS_FAST.replace("SLEEP", "0.001")
    one = folder.turning(THEIRS, text)
    from onbox.wire import state as states

    seen = [states.live(folder.ipc, one.pid) for _ in range(400)]
    assert all(found["pid"] == one.pid for found in seen if found is not None)
    # One that is held up for long is torn at each look meanwhile: each time counts once.
    assert sum(torn for torn, _ in groupby(seen, key=lambda found: found is None)) < 40
    assert stops(one) == 0


def test_plot_draws_here(folder):
    one = folder.turning(THEIRS, LISTS)
    wait_until(lambda: len(((state(one) or {}).get("tracked") or {}).get("series", ())) > 9, WITHIN_S, "ten")
    with held(one):
        found = answer(folder, "plot", one.pid, "--last", "5")
        series = found["reply"]["history"]["series"]
        assert [value for _, value in series] == [at * 2 for at in range(series[0][0] - 1, series[0][0] + 4)]
        said = folder.asked(OURS, "plot", one.pid)
        assert said.returncode == 0
        assert "series" in said.stdout
        said = folder.asked(OURS, "plot", one.pid, "--png", "there.png")
        assert said.returncode == 0
    assert (folder.home / "there.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert stops(one) == 0
    assert one.out() == ""


def test_set_is_sent_and_said_to_be_unconfirmed(folder):
    one = folder.turning(THEIRS)
    found = answer(folder, "set", one.pid, "lr=0.001")
    assert (found["confirmed"], found["reply"]) == (False, None)
    wait_until(lambda: "set lr = 0.001" in one.out(), WITHIN_S, "the value in the program")
    moves(one)
    assert stops(one) == 0
    assert one.out().endswith("behind the loop 0.001\n")


@pytest.mark.parametrize("module", BOTH)
def test_what_no_loop_could_take_is_refused_and_not_sent(folder, module):  # S38
    one = folder.turning(module)
    for assignment, code in {"2x=1": 22, "lr=os": 22, "lr='a'\nbreak": 2, "lr=" + "1" * 5000: 2}.items():
        said = folder.asked(OURS, "set", one.pid, assignment, "--json")
        assert said.returncode == code, (assignment[:20], said)
    moves(one)
    assert stops(one) == 0
    assert one.out() == "behind the loop 0.1\n"


def test_continue_is_seen_by_its_leaving(folder):
    one = folder.turning(THEIRS)
    found = answer(folder, "continue", one.pid)
    assert found["confirmed"] is True
    assert one.registered() is None
    assert one.end() == 0
    assert one.out().endswith("behind the loop 0.1\n")


def test_break_is_seen_with_its_file(folder):  # R156
    one = folder.turning(THEIRS)
    found = answer(folder, "break", one.pid)
    assert found["confirmed"] is True
    assert one.end() == 0
    assert "behind the loop" not in one.out()
    assert one.registered() is None
    (saved,) = one.home.glob(f"loopmonitor_break_{one.pid}_*.json")
    # The published one may read its own torn state and save an empty one: then there is nothing to name.
    assert found["reply"] in ({"saved": str(saved)}, None)


def test_checkpoint_names_its_file(folder):
    one = folder.turning(THEIRS)
    with held(one):
        found = answer(folder, "checkpoint", one.pid)
    assert json.loads(Path(found["reply"]["saved"]).read_bytes())["pid"] == one.pid
    moves(one)
    assert stops(one) == 0


def test_memory_and_stack_are_read_from_outside(folder):
    one = folder.turning(THEIRS)
    found = answer(folder, "memory", one.pid)
    assert 0 < found["reply"]["rss_bytes"] <= found["reply"]["peak_bytes"]
    found = answer(folder, "stack", one.pid)
    assert any(thread["main"] for thread in found["reply"]["threads"])
    moves(one)
    assert stops(one) == 0
    assert one.out() == "behind the loop 0.1\n"


@pytest.mark.parametrize("module", BOTH)
def test_pause_and_resume(folder, module):
    one = folder.turning(module)
    assert answer(folder, "pause", one.pid)["confirmed"] is True
    assert processes.stat(one.pid)[0] == "T"
    assert answer(folder, "resume", one.pid)["confirmed"] is True
    moves(one)
    assert stops(one) == 0


@pytest.mark.parametrize("module", BOTH)
def test_tail_ends_with_the_loop(folder, module):
    one = folder.turning(module)
    with held(one):
        tail = folder.started(OURS, "tail", one.pid, "--interval", "0.05")
        assert tail.stdout.readline().startswith(f"[loopmonitor] Tailing PID {one.pid} every 0.05s")
        assert "iter " in tail.stdout.readline()
    assert stops(one) == 0
    tail.communicate(timeout=WITHIN_S)
    assert tail.returncode == 0


@pytest.mark.parametrize("module", BOTH)
@pytest.mark.parametrize("verb", ["tail", "notify"])
def test_a_killed_loop_ends_the_watch_with_23(folder, module, verb):
    one = folder.turning(module)
    words = ["loss < -1"] if verb == "notify" else []
    watch = folder.started(OURS, verb, one.pid, *words, "--interval", "0.05")
    watch.stdout.readline()
    one.process.send_signal(signal.SIGKILL)
    one.end()
    watch.communicate(timeout=WITHIN_S)
    assert watch.returncode == 23


@pytest.mark.parametrize("module", BOTH)
def test_notify_meets_it(folder, module):
    one = folder.turning(module)
    for words in ("iteration > 3", "max(loss, 0) < 1 and not isnan(loss)", "abs(-lr) == 0.1"):
        found = answer(folder, "notify", one.pid, words, "--interval", "0.05", "--for", "60")
        assert found["reply"]["met"] is True
    assert stops(one) == 0


def test_clean_takes_all_of_a_killed_one(folder):
    one = folder.turning(THEIRS)
    assert folder.asked(OURS, "clean").stdout == "Registry is clean.\n"
    assert one.registered() is not None
    one.process.send_signal(signal.SIGKILL)
    one.end()
    assert folder.asked(OURS, "clean").stdout == f"Removed stale entries: [{one.pid}]\n"
    assert one.registered() is None
    assert one.left_behind() == []


@pytest.mark.parametrize("target", ["all", "turn*", "parent"])
def test_both_kinds_at_once(folder, target):
    loops = {folder.turning(module).pid: module for module in BOTH}
    target = os.getpid() if target == "parent" else target
    said = folder.asked(OURS, "peek", target, "--json")
    assert said.returncode == 0
    assert {one["pid"]: one["kind"] for one in json.loads(said.stdout)["answers"]} == loops
    said = folder.asked(OURS, "continue", target, "--json")
    assert said.returncode == 0
    assert all(one["confirmed"] for one in json.loads(said.stdout)["answers"])
    assert folder.asked(THEIRS, "list").stdout == "No registered processes.\n"


def test_nobody_is_there(folder):
    one = folder.turning(THEIRS)
    assert stops(one) == 0
    for verb in ("peek", "plot", "continue", "break", "checkpoint", "stack", "memory", "pause", "resume"):
        said = folder.asked(OURS, verb, one.pid)
        assert (said.returncode, said.stdout) == (3, ""), verb


def test_a_loop_that_nobody_can_stop_in_time_is_124(folder):
    """Stopped by SIGSTOP it reads nothing; what was sent is not taken for done."""
    one = folder.turning(THEIRS)
    one.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: processes.stat(one.pid)[0] == "T", WITHIN_S, "stopped")
    found = answer(folder, "continue", one.pid, "--wait", "0.5", code=124)
    assert found["confirmed"] is False
    one.process.send_signal(signal.SIGCONT)
    one.close()


TURNS_FAST = """
import itertools, time
from pathlib import Path
from MODULE import ipc_range
values = list(range(2000))
for step in ipc_range(itertools.count(), label="fast"):
    step.track(values=values)
    if step.index % 50 == 0 and Path("stop").exists():
        break
    time.sleep(SLEEP)
"""
LISTS = """
import itertools, time
from pathlib import Path
from MODULE import ipc_range
series = []
for step in ipc_range(itertools.count(), label="lists"):
    series.append(step.index * 2)
    step.track(series=series, last=step.index)
    if Path("stop").exists():
        break
    while Path("hold").exists():
        Path("held").touch()
        time.sleep(0.005)
    Path("held").unlink(missing_ok=True)
    time.sleep(0.01)
"""
