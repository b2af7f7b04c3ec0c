"""A run that its owner breaks off: what the patrol says of it, and where the command stands afterwards."""

import pytest
from waiting import wait_until

pytestmark = pytest.mark.timeout(600)

SCRIPT = """
import sys, time
from onbox import ipc_range
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
for step in ipc_range(1_000_000, label="training"):
    step.track(loss=1.0 / (1 + step.index))
    time.sleep(0.02)
"""


LAUNCHER = """
import subprocess, sys
sys.exit(1 if subprocess.call([sys.executable, "breakable.py"]) else 0)
"""


def armed(desk, gpu, name, *words, script="breakable.py"):
    """A run of one stage that runs the script, in the home folder of the box."""
    for file, text in (("breakable.py", SCRIPT), ("launcher.py", LAUNCHER)):
        path = gpu.home / file
        path.write_text(text)
        path.chmod(0o644)
    done = desk.run("arm", "gpu1", name, "--", " ".join(["python3", script, *words]))
    assert "attempt 1" in done.said, done.said


def seen_as(desk, name, what, fits):
    """What the patrol tells of the run in the first look that fits: one that ran out of its time tells less."""
    found = []

    def look():
        runs = desk.run("patrol", "--once", "--now", "--json").json["runs"]
        found[:] = [run for run in runs if run["run"] == name]
        return fits(found[0])

    wait_until(look, 150, f"{name}: {what}")
    return found[0]


def ended_as(desk, name, health):
    return seen_as(desk, name, health, lambda run: run["health"] == health)


def with_loops(desk, name):
    return seen_as(desk, name, "a loop with a state", lambda run: run["loops"])


def told(desk, words):
    """What a look prints, and its exit code, as soon as these words are in it."""
    found = []

    def look():
        found[:] = [desk.run("patrol", "--once", "--now")]
        return words in " ".join(found[0].stdout.split())

    wait_until(look, 150, words)
    return found[0]


def test_what_its_owner_broke_off_is_stopped_and_the_command_stands_in_its_story(gpu, desk):  # R34 R155
    armed(desk, gpu, "train")
    with_loops(desk, "train")
    assert desk.run("ipc", "gpu1", "set", "lr=0.5", "--run", "train").returncode == 0
    # The page is written anew at the next look, though nothing of the run has changed.
    seen_as(desk, "train", "it runs", lambda run: run["health"] in ("running", "starting"))
    assert ", command: ipc set lr=0.5 on gpu1: `box| training" in desk.run("handbook", "train").stdout
    done = desk.run("ipc", "gpu1", "break", "--run", "train", "--yes")
    assert done.returncode == 0, done.said
    found = ended_as(desk, "train", "stopped")
    assert (found["row"], found["health"], found["severity"]) == ("R-BREAK-1", "stopped", "note"), found
    assert found["next"][0] == "babysit resume gpu1 train --yes"
    broken = found["broken_off"]
    assert broken["iteration"] > 0 and "/loopmonitor_break_" in broken["untrusted_saved"]
    looked = told(desk, "stopped on request by break after")
    assert looked.returncode == 0, looked.said
    said = " ".join(looked.stdout.split())
    assert "its meter runs" in said and "snapshot loopmonitor_break_" in said and 'snapshot "/' in said
    shown = desk.run("status", "train")
    story = shown.stdout.partition("What happened, newest last\n")[2]
    at = [
        story.index(word)
        for word in ("command  ipc set", "command  ipc break", "patrol   train on gpu1: stopped")
    ]
    assert at == sorted(at) and all(len(line) <= 80 for line in shown.stdout.splitlines()), shown.said
    page = desk.run("handbook", "train").stdout
    assert "## What happened" in page and "command: ipc break on gpu1" in page
    # The chain on the box says failed: the line to start it by hand has to quote that.
    assert "1:failed'" in page and "1:stopped'" not in page
    (gpu.home / "breakable.py").write_text("print('went on')")
    again = desk.run("resume", "train", "--yes")
    assert "attempt 2" in again.said, again.said
    ended_as(desk, "train", "finished")


def test_the_same_status_without_a_loop_that_was_broken_off_is_a_failure(gpu, desk):  # R34
    armed(desk, gpu, "plain", "88")
    found = ended_as(desk, "plain", "failed")
    assert (found["row"], found["severity"], found["broken_off"]) == ("R-FAIL-1", "page", None)


def test_a_break_under_a_launcher_that_ends_with_1_is_a_stop_with_its_snapshot(gpu, desk):  # R34
    armed(desk, gpu, "launched", script="launcher.py")
    with_loops(desk, "launched")
    done = desk.run("ipc", "gpu1", "break", "--run", "launched", "--yes")
    assert done.returncode == 0, done.said
    found = ended_as(desk, "launched", "stopped")
    assert (found["row"], found["severity"]) == ("R-BREAK-1", "note"), found
    assert found["next"][0] == "babysit resume gpu1 launched --yes"
    told(desk, "of stage launched, whose launcher made 1 of 88")
    assert "/loopmonitor_break_" in found["broken_off"]["untrusted_saved"]


def test_loops_in_a_folder_of_their_boxs_own_are_asked_watched_and_judged_there(gpu, desk):  # R34
    desk.spec("""
        [box.gpu1]
        host = "gpu1"
        loops = "~/my $(touch canary) 'loops/.ipc"
    """)
    armed(desk, gpu, "moved")
    with_loops(desk, "moved")
    place = gpu.home / "my $(touch canary) 'loops/.ipc"
    assert len(list(place.glob("onbox/[0-9]*.json"))) == 1
    assert desk.run("ipc", "gpu1", "peek").returncode == 0
    listed = gpu.run(".local/share/babysit/ipc list")
    assert listed.returncode == 0 and "training" in listed.stdout, listed
    desk.spec('[box.gpu1]\nhost = "gpu1"\nloops = "~/elsewhere"\n')
    again = desk.run("arm", "gpu1", "moved")
    assert "as this run was armed, not in ~/elsewhere; --again" in " ".join(again.stdout.split()), again.said
    # From the ledger alone: nobody's file says where the loops are any more.
    desk.spec("")
    with_loops(desk, "moved")
    assert desk.run("ipc", "gpu1", "break", "--run", "moved", "--yes").returncode == 0
    assert ended_as(desk, "moved", "stopped")["row"] == "R-BREAK-1"
    assert not list(gpu.home.rglob("canary"))
