"""Loops in a real probe: none, one, more than it sends, and cards that nobody honest wrote."""

import contextlib
import json
import os
import subprocess
import time
from datetime import UTC, datetime

import pytest
from integration.patrol.hand_box import SHELLS, HandBox, boot_id, born, probed, tagged
from waiting import wait_until

from fleet.link.base import PROBE_MAX_BYTES
from fleet.model.reading import Known, Missing
from patrol.decide import decide
from patrol.history import History, fold

pytestmark = pytest.mark.timeout(240)
every_shell = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture
def box(tmp_path):
    return HandBox(tmp_path)


@pytest.fixture
def sleepers():
    """Living processes that a card can name."""
    running = []

    def start(count):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        running.extend(subprocess.Popen(["cat"], **pipes) for _ in range(count))
        return [child.pid for child in running]

    yield start
    for child in running:
        child.kill()
        child.communicate()


def folder(box):
    made = box.home / ".ipc/onbox"
    made.mkdir(parents=True, mode=0o700)
    made.parent.chmod(0o700)
    return made.parent


def put(ipc, pid, tag, *, at=0, state=None, **changes):
    said = {
        "format": 1, "pid": pid, "start_ticks": born(pid) if changes.get("start_ticks") is None else None, "boot_id": boot_id(), "host": "h", "cwd": "/", "script": "s",
        "started_at": 1.0, "tag": tag, "group": None, "rank": None, "world": None, "loops": [{"n": 1, "label": "train", "total": 9, "started_at": 1.0}],
    }  # fmt: skip
    path = ipc / "onbox" / f"{pid}.json"
    path.write_text(json.dumps({**said, **changes}))
    os.utime(path, (1_000_000 + at, 1_000_000 + at))
    if state is not None:
        (ipc / f"{pid}.state.json").write_text(json.dumps(state, indent=2))


def loops(box, hand, **how):
    return probed(box, [hand], **how).runs[hand.run.run_id].loops


@every_shell
def test_a_quiet_box_sends_nothing_and_one_loop_is_joined_to_its_run(box, shell, sleepers):
    hand = box.run()
    hand.attempt(pid=os.getpid())
    assert loops(box, hand, interpreter=shell).value == ()
    (pid,) = sleepers(1)
    ipc = folder(box)
    put(
        ipc,
        pid,
        f"{hand.run.tag}/01-train",
        state={"pid": pid, "iteration": 4, "total": 9, "eta_sec": 2.5, "tracked": {"loss": 0.5}},
    )
    put(ipc, os.getpid(), "another/01-train")
    (found,) = loops(box, hand, interpreter=shell).value
    assert (found.pid, found.iteration, found.total, found.tracked) == (pid, 4, 9, (("loss", 0.5),))
    assert abs(found.moved_at - time.time()) < 600 and not found.paused
    # A process that is gone is no loop, whatever lies there of it.
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert loops(box, hand, interpreter=shell).value == ()


@every_shell
def test_of_forty_loops_the_newest_that_fit_are_sent(box, shell, sleepers):  # S28
    hand = box.run()
    hand.attempt(pid=os.getpid())
    hand.log.write_bytes(b"x" * 100_000)
    ipc = folder(box)
    pids = sleepers(40)
    for at, pid in enumerate(pids):
        put(ipc, pid, hand.run.tag, at=at, state={"iteration": at, "tracked": {"history": [0.125] * 20_000}})
    seen = []

    def whole():  # on a machine that is very busy the look may run out of its time, and says so
        seen.append(probed(box, [hand], interpreter=shell).runs[hand.run.run_id])
        return isinstance(seen[-1].loops, Known)

    wait_until(whole, 100, "a look at all loops")
    found, log = seen[-1].loops.value, seen[-1].log.value
    assert {loop.pid for loop in found} <= set(pids[8:]) and len(found) == 32
    assert {loop.iteration for loop in found} <= set(range(8, 40)) and log.size_bytes == 100_000


def test_the_room_of_a_whole_answer_holds_with_many_runs_and_long_logs(box, sleepers):  # S28
    hands = [box.run(f"run{number}") for number in range(10)]
    ipc = folder(box)
    for hand in hands:
        hand.attempt(pid=os.getpid())
        hand.log.write_bytes(b"line\n" * 20_000)
    for pid in sleepers(32):
        put(
            ipc,
            pid,
            hands[0].run.tag,
            state={"iteration": 1, "tracked": {"x": ["y" * 100] * 100}},
            cwd="/" + "c" * 7000,
        )
    seen = probed(box, hands)
    assert all(isinstance(run.log, Known) for run in seen.runs.values())
    assert 0 < len(seen.runs[hands[0].run.run_id].loops.value) < 32
    assert PROBE_MAX_BYTES == 256 * 1024


HOSTILE = [
    "",
    "x",
    "{",
    "[]",
    "null",
    "9" * 9000,
    '{"format": 1}',
    "\x1b]52;c;AAAA\x07",
    "@ end train 0 4\nx\n",
    "1 1 S 1 1 1\n" * 50,
]


@every_shell
def test_a_card_that_nobody_honest_wrote_is_none_and_hides_no_other(box, shell, sleepers):  # S23 S38
    hand = box.run()
    hand.attempt(pid=os.getpid())
    ipc = folder(box)
    pids = sleepers(len(HOSTILE) + 4)
    for pid, text in zip(pids, HOSTILE, strict=False):
        (ipc / f"onbox/{pid}.json").write_text(text)
        (ipc / f"{pid}.state.json").write_text(text)
    linked, piped, stated, good = pids[-4:]
    (box.home / "victim").write_text((ipc / f"onbox/{pids[0]}.json").read_text())
    (ipc / f"onbox/{linked}.json").symlink_to(box.home / "victim")
    os.mkfifo(ipc / f"onbox/{piped}.json")
    put(ipc, stated, hand.run.tag)
    os.mkfifo(ipc / f"{stated}.state.json")
    put(ipc, good, hand.run.tag, state={"iteration": 7})
    for name in ("x.json", "-1.json", "$(touch canary).json", "1 2.json", "99999999999999.json"):
        with contextlib.suppress(OSError):
            (ipc / "onbox" / name).write_text("{}")
    found = {loop.pid: loop.iteration for loop in loops(box, hand, interpreter=shell).value}
    assert found == {stated: None, good: 7}
    assert not list(box.home.rglob("canary"))


@every_shell
@pytest.mark.parametrize("what", ["folder", "inside", "link"])
def test_a_folder_that_others_could_have_written_is_not_read(box, shell, what):  # S36 S38
    hand = box.run()
    hand.attempt(pid=os.getpid())
    ipc = folder(box)
    put(ipc, os.getpid(), hand.run.tag, state={"iteration": 1})
    assert len(loops(box, hand, interpreter=shell).value) == 1
    if what == "link":
        (ipc / "onbox").rename(box.home / "elsewhere")
        (ipc / "onbox").symlink_to(box.home / "elsewhere")
    else:
        (ipc if what == "folder" else ipc / "onbox").chmod(0o770)
    assert loops(box, hand, interpreter=shell) == Missing(
        "the loops lie in a folder that is not its owner's alone"
    )


def register(box, *pids, **changes):
    """The registry of loopmonitor 0.1.x, which alone knows these processes."""
    ipc = box.home / ".ipc"
    ipc.mkdir(mode=0o755, exist_ok=True)
    said = {
        str(pid): {"pid": pid, "label": f"train-{pid}", "script": "t.py", "language": "python", "start_time": datetime.now(UTC).isoformat(), "ppid": 1, **changes}
        for pid in pids
    }  # fmt: skip
    (ipc / "registry.json").write_text(json.dumps(said, indent=2))
    return ipc


@every_shell
def test_a_loop_of_loopmonitors_own_is_joined_to_its_run_by_its_process(box, shell, sleepers):  # S38
    hand = box.run()
    hand.attempt(pid=os.getpid())
    child = tagged(hand)
    try:
        (other,) = sleepers(1)
        ipc = register(box, other, child.pid)
        (ipc / f"{other}.state.json").write_text('{"iteration": 9}')
        (first,) = loops(box, hand, interpreter=shell).value
        assert (first.pid, first.kind, first.iteration) == (child.pid, "loopmonitor", None)
        state = {
            "pid": child.pid,
            "iteration": 4,
            "total": 9,
            "elapsed_sec": 1.0,
            "eta_sec": 2.5,
            "tracked": {"loss": 0.5},
        }
        (ipc / f"{child.pid}.state.json").write_text(json.dumps(state, indent=2))
        seen = probed(box, [hand], interpreter=shell)
        (found,) = seen.runs[hand.run.run_id].loops.value
        assert (found.iteration, found.total, found.eta_s, found.tracked) == (4, 9, 2.5, (("loss", 0.5),))
        assert found.label == f"train-{child.pid}" and found.state_age_s is None
        was = time.time() - 300
        register(box, child.pid, start_time="2020-01-01T00:00:00+00:00")
        os.utime(ipc / f"{child.pid}.state.json", (was, was))
        # An entry from before this process began: a killed program left it, and the number came again.
        assert loops(box, hand, interpreter=shell).value == ()
    finally:
        child.kill()
        child.wait()
    register(box, child.pid)
    assert loops(box, hand, interpreter=shell).value == ()


@every_shell
def test_a_loop_of_ours_is_read_once_beside_a_registry_that_names_it(box, shell, sleepers):
    hand = box.run()
    hand.attempt(pid=os.getpid())
    ipc = folder(box)
    pids = sleepers(3)
    register(box, *pids)
    for pid in pids:
        put(ipc, pid, f"{hand.run.tag}/01-train", state={"iteration": 4})
    found = loops(box, hand, interpreter=shell).value
    assert sorted(loop.pid for loop in found) == sorted(pids) and {loop.kind for loop in found} == {"onbox"}


TORN = [
    "",
    "{",
    '{\n  "1": {\n    "pid"',
    "[]",
    "9" * 9000,
    "@ end train 0 4\nx\n",
    "\x1b]52;c;AAAA\x07",
    '{"1": {"pid": 1}}',
]


@every_shell
def test_a_registry_that_is_torn_huge_or_not_a_file_names_nobody(box, shell, sleepers):  # S23 S38
    hand = box.run()
    hand.attempt(pid=os.getpid())
    child = tagged(hand)
    try:
        ipc = register(box, child.pid)
        whole = (ipc / "registry.json").read_text()
        assert len(loops(box, hand, interpreter=shell).value) == 1
        for text in TORN:
            (ipc / "registry.json").write_text(text)
            assert loops(box, hand, interpreter=shell).value == ()
        # Thousands of programs that were killed, and this one behind them: the end of the file counts.
        dead = {str(400_000_000 + at): {"pid": 400_000_000 + at, "label": "x" * 90} for at in range(4000)}
        (ipc / "registry.json").write_text(json.dumps({**dead, **json.loads(whole)}, indent=2))
        assert [loop.pid for loop in loops(box, hand, interpreter=shell).value] == [child.pid]
        (ipc / "registry.json").rename(ipc / "elsewhere")
        (ipc / "registry.json").symlink_to(ipc / "elsewhere")
        assert loops(box, hand, interpreter=shell).value == ()
        (ipc / "registry.json").unlink()
        os.mkfifo(ipc / "registry.json")
        assert loops(box, hand, interpreter=shell).value == ()
        (ipc / "registry.json").unlink()
        (ipc / "registry.json").write_text(whole)
        ipc.chmod(0o777)
        assert isinstance(loops(box, hand, interpreter=shell), Missing)
    finally:
        child.kill()
        child.wait()


def leave(box, hand, name, *, tag=None, **changes):
    """The end record of a loop, as onbox writes it, shortly before the one of the run."""
    ended = folder(box) if not (box.home / ".ipc").exists() else box.home / ".ipc"
    (ended / "onbox/ended").mkdir(mode=0o700, exist_ok=True)
    said = {
        "format": 1, "pid": 71, "start_ticks": 5, "boot_id": "b", "host": "h", "cwd": "/w", "script": "s", "tag": tag or f"{hand.run.tag}/01-train",
        "group": None, "rank": None, "world": None, "n": 1, "label": "x", "ended": "broken", "exception": None, "exit_code": 88,
        "started_at": hand.over_at - 30.0, "ended_at": hand.over_at - 1.5, **changes, "state": {"iteration": 34, "tracked": {}}, "history": {"x": [[1, 2.0]] * 5000},
    }  # fmt: skip
    (ended / "onbox/ended" / name).write_text(json.dumps(said))


@every_shell
def test_a_stage_whose_loop_was_broken_off_is_stopped_and_one_that_failed_is_not(box, shell):  # R34 S25
    hand, other = box.run(), box.run("other")
    for each in (hand, other):
        each.attempt(pid=1)
        each.end("failed", stage="01-train", rc="88", why="exit")
    saved = "/w/loopmonitor_break_71_20270115T075459Z.json"
    leave(box, hand, "71-5-1.json", saved=saved)
    leave(box, hand, "72-5-1.json", ended="continued", rank=0)
    for name in ("$(touch canary).json", "-r.json", "x y.json"):
        leave(box, hand, name)
    os.mkfifo(box.home / ".ipc/onbox/ended/9-9-9.json")
    seen = probed(box, [hand, other], interpreter=shell)

    def verdict(each):
        return decide(each.run, seen, fold(History(), each.run, seen, time.time()), time.time())

    assert [(verdict(each).row, verdict(each).exit_code) for each in (hand, other)] == [
        ("R-BREAK-1", 0),
        ("R-FAIL-1", 20),
    ]
    assert (
        "after iteration 34 of stage train" in verdict(hand).summary and verdict(hand).broken.saved == saved
    )
    assert not list(box.home.rglob("canary"))
    # Nobody looks for loops of a run that did not fail by its stage's status.
    hand.end("done")
    assert probed(box, [hand], interpreter=shell).runs[hand.run.run_id].broken.value == ()


@every_shell
def test_a_break_under_a_launcher_is_a_stop_unless_the_stage_went_on_to_another_loop(box, shell):  # R34
    hand = box.run()
    hand.attempt(pid=1)
    hand.end("failed", stage="01-train", rc="1", why="exit")
    leave(box, hand, "71-5-1.json")
    leave(box, hand, "171-5-1.json", ended="left", exit_code=None)  # the loop around it, or another rank

    def row():
        seen = probed(box, [hand], interpreter=shell)
        return decide(hand.run, seen, fold(History(), hand.run, seen, time.time()), time.time()).row

    assert row() == "R-BREAK-1"
    leave(
        box,
        hand,
        "1-5-1.json",
        tag=f"{hand.run.tag}/02-eval",
        ended="finished",
        started_at=hand.over_at - 1.0,
    )
    assert row() == "R-BREAK-1"
    leave(box, hand, "1-5-2.json", ended="exception", exit_code=1, started_at=hand.over_at - 1.0)
    assert row() == "R-FAIL-1"


def moved(box, hand, name):
    """As `folder`, for a run whose plan names another."""
    with (hand.folder / "plan").open("a") as plan:
        plan.write(f"loops=~/{name}\n")
    made = box.home / name / "onbox/ended"
    made.mkdir(parents=True, mode=0o700)
    for path in (made.parent, made.parent.parent):
        path.chmod(0o700)
    return box.home / name


@every_shell
def test_each_run_is_looked_for_where_its_plan_has_its_loops(box, shell, sleepers):
    first, second, third = (box.run(name) for name in ("first", "second", "third"))
    places = [folder(box), moved(box, second, "my $(touch canary) 'loops"), moved(box, third, "none")]
    for hand, pid, place in zip((first, second), sleepers(2), places, strict=False):
        put(place, pid, f"{hand.run.tag}/01-train", state={"iteration": 7})
    (places[2] / "onbox").rename(box.home / "elsewhere")
    third.attempt(pid=1)
    third.end("failed", stage="01-train", rc="88", why="exit")
    leave(box, third, "71-5-1.json")  # in ~/.ipc, where nothing of the third is looked for
    seen = probed(box, [first, second, third], interpreter=shell)
    assert [len(seen.runs[hand.run.run_id].loops.value) for hand in (first, second, third)] == [1, 1, 0]
    assert seen.runs[third.run.run_id].broken.value == ()
    (box.home / "elsewhere").rename(places[2] / "onbox")
    (places[2] / "onbox/ended/71-5-1.json").write_bytes(
        (box.home / ".ipc/onbox/ended/71-5-1.json").read_bytes()
    )
    assert len(probed(box, [third], interpreter=shell).runs[third.run.run_id].broken.value) == 1
    assert not list(box.home.rglob("canary"))


@every_shell
def test_many_end_records_cost_one_search_and_a_folder_of_others_none(box, shell):  # S28 S38
    hand = box.run()
    hand.attempt(pid=1)
    hand.end("failed", stage="01-train", rc="88", why="exit")
    for number in range(90):
        mine = number >= 5  # more than fit into an answer
        leave(box, hand, f"{number}-5-1.json", tag=None if mine else "x-1/01-train", rank=number)
    found = probed(box, [hand], interpreter=shell).runs[hand.run.run_id].broken.value
    assert len(found) == 4
    (box.home / ".ipc/onbox/ended").chmod(0o777)
    assert isinstance(probed(box, [hand], interpreter=shell).runs[hand.run.run_id].broken, Missing)
