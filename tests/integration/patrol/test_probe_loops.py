"""Loops in a real probe: none, one, more than it sends, and cards that nobody honest wrote."""

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest
from integration.patrol.hand_box import SHELLS, HandBox, boot_id, born, probed
from waiting import wait_until

from fleet.link.base import PROBE_MAX_BYTES
from fleet.model.reading import Known, Missing

every_shell = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture
def box(tmp_path):
    return HandBox(tmp_path)


@pytest.fixture
def sleepers():
    """Living processes that a card can name."""
    running = []

    def start(count):
        running.extend(
            subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(count)
        )
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
    assert abs(found.moved_at - time.time()) < 60 and not found.paused
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

    wait_until(whole, 45, "a look at all loops")
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
    assert loops(box, hand, interpreter=shell) == Missing("the loops is not a plain file")
