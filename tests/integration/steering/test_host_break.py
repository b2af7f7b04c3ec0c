"""A run that its owner breaks off: what the patrol says of it, and where the command stands afterwards."""

import pytest
from waiting import wait_until

pytestmark = pytest.mark.timeout(180)

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


def verdict(desk, name):
    runs = desk.run("patrol", "--once", "--now", "--json").json["runs"]
    return next(run for run in runs if run["run"] == name)


def test_what_its_owner_broke_off_is_stopped_and_the_command_stands_in_its_story(gpu, desk):  # R34 R155
    armed(desk, gpu, "train")
    wait_until(lambda: verdict(desk, "train")["loops"], 60, "a loop with a state")
    assert desk.run("ipc", "gpu1", "set", "lr=0.5", "--run", "train").returncode == 0
    # The page is written anew at the next look, though nothing of the run has changed.
    assert verdict(desk, "train")["health"] in ("running", "starting")
    assert ", command: ipc set lr=0.5 on gpu1: `box| training" in desk.run("handbook", "train").stdout
    done = desk.run("ipc", "gpu1", "break", "--run", "train", "--yes")
    assert done.returncode == 0, done.said
    wait_until(lambda: verdict(desk, "train")["health"] == "stopped", 60, "the end of the run")
    found = verdict(desk, "train")
    assert (found["row"], found["health"], found["severity"]) == ("R-BREAK-1", "stopped", "note"), found
    assert found["next"][0] == "babysit resume gpu1 train --yes"
    told = found["broken_off"]
    assert told["iteration"] > 0 and "/loopmonitor_break_" in told["untrusted_saved"]
    looked = desk.run("patrol", "--once", "--now")
    assert looked.returncode == 0 and "stopped on request by break after" in looked.stdout, looked.said
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
    wait_until(lambda: verdict(desk, "train")["health"] == "finished", 60, "the second attempt")


def test_the_same_status_without_a_loop_that_was_broken_off_is_a_failure(gpu, desk):  # R34
    armed(desk, gpu, "plain", "88")
    wait_until(lambda: verdict(desk, "plain")["health"] == "failed", 60, "the end of the run")
    found = verdict(desk, "plain")
    assert (found["row"], found["severity"], found["broken_off"]) == ("R-FAIL-1", "page", None)


def test_a_break_under_a_launcher_that_ends_with_1_is_a_stop_with_its_snapshot(gpu, desk):  # R34
    armed(desk, gpu, "launched", script="launcher.py")
    wait_until(lambda: verdict(desk, "launched")["loops"], 60, "a loop with a state")
    done = desk.run("ipc", "gpu1", "break", "--run", "launched", "--yes")
    assert done.returncode == 0, done.said
    wait_until(lambda: verdict(desk, "launched")["health"] == "stopped", 60, "the end of the run")
    found = verdict(desk, "launched")
    assert (found["row"], found["severity"]) == ("R-BREAK-1", "note"), found
    assert found["next"][0] == "babysit resume gpu1 launched --yes"
    said = " ".join(desk.run("patrol", "--once", "--now").stdout.split())
    assert "of stage launched, whose launcher made 1 of 88" in said, said
    assert "/loopmonitor_break_" in found["broken_off"]["untrusted_saved"]


def test_loops_in_a_folder_of_their_boxs_own_are_asked_watched_and_judged_there(gpu, desk):  # R34
    desk.spec("""
        [box.gpu1]
        host = "gpu1"
        loops = "~/my $(touch canary) 'loops/.ipc"
    """)
    armed(desk, gpu, "moved")
    wait_until(lambda: verdict(desk, "moved")["loops"], 60, "a loop with a state")
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
    assert verdict(desk, "moved")["loops"]
    assert desk.run("ipc", "gpu1", "break", "--run", "moved", "--yes").returncode == 0
    wait_until(lambda: verdict(desk, "moved")["health"] == "stopped", 60, "the end of the run")
    assert verdict(desk, "moved")["row"] == "R-BREAK-1"
    assert not list(gpu.home.rglob("canary"))
