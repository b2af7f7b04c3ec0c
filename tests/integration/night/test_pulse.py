"""A training that hangs under a living heartbeat, and one that says nothing: both detached, both flagged, both alive."""

import time

import pytest
from laptop import SOON_S, Job, end_all
from waiting import wait_until

TRAINING = """
import os, sys, time
from onbox.pulse import progress, report
print("pid", os.getpid())
for n in progress(range(20), heartbeat_s=0.3):
    progress.track(loss=1 / (n + 1))
    while n == 7 and not os.path.exists(sys.argv[1] + "/go"):
        time.sleep(0.05)
report(1, 1, train_loss=0.5, file=sys.argv[1] + "/PROGRESS.txt")
"""
SPEC = """
    [box.gpu1]
    host = "gpu1"
    [run.train]
    stall_after_s = 3
    start_grace_s = 1
    [[run.train.stages]]
    name = "train"
    command = '''{train}'''
    [run.silent]
    stall_after_s = 3
    start_grace_s = 1
    [[run.silent.stages]]
    name = "silent"
    command = '''{silent}'''
"""


def test_a_hang_under_a_heartbeat_and_a_silent_job_are_stalled_and_live_on(
    laptop, job
):  # R145 R146 R150 D9 D16 R98
    silent = Job(job.box, "silent", "silent")
    (job.folder / "train.py").write_text(TRAINING)
    quiet = "while [ ! -e $W/go ]; do sleep 0.1; done"
    laptop.spec(SPEC.format(train=job.command("python3 $W/train.py $W"), silent=silent.command(quiet)))
    for each in (job, silent):
        child = laptop.start("arm", "gpu1", each.run)
        each.up()
        child.kill()
        child.communicate()
    end_all(job.box.session_pids())
    log = job.run_folder() / "run.log"
    stands = "batch 7/20, "
    wait_until(lambda: stands in log.read_text(), SOON_S, "a heartbeat in the hang")
    assert "\nBatch 5/20 - loss: 0.2" in log.read_text()
    found, until = {}, time.monotonic() + 2 * SOON_S
    # Its loop and its log agree, and say what a heartbeat is.
    rows = {"train": "R-STALL-2", "silent": "R-STALL-1"}
    while {name: run["row"] for name, run in found.items()} != rows:
        assert time.monotonic() < until, found
        found = {run["run"]: run for run in laptop.patrol()["runs"]}
    assert {run["health"] for run in found.values()} == {"stalled"}
    assert found["train"]["progress"]["index"] == 7, found["train"]
    said = [each["says"] for each in found["train"]["evidence"] if each["source"] == "heartbeat"]
    assert "a process, but no progress; its counter moved" in said[0]
    for each in (job, silent):
        each.release()
        each.ended()
        assert (each.record("end")["state"], each.launches()) == ("done", 1)
    written = (job.folder / "PROGRESS.txt").read_text()
    assert written in log.read_text() and written.startswith("[PROGRESS] Epoch 1/1 - train_loss: 0.5 - ")
    assert laptop.health("train") == "finished"


@pytest.mark.fault  # the words that are found, and that it is a remark, are unit tests
def test_arming_warns_of_a_python_that_will_hold_back_its_output(laptop, job):  # R148
    done = laptop.run("arm", "gpu1", "train", "--", job.waiting("env -i python3 -c 'print(1)'"))
    assert done.returncode == 0
    assert "train (env -i) takes PYTHONUNBUFFERED away" in " ".join(done.said.split())
    job.release()
    job.ended()
