"""stop with a checkpoint: what must be saved is saved before TERM, in its own time; and a stop that was cut short."""

import json
import signal

from laptop import SOON_S, end_all
from processes import lives
from waiting import wait_until

_TRAINER = """
import os, signal, sys, time
folder = sys.argv[1]

def save(number, frame):
    for part in ("first half\\n", "second half\\n"):
        with open(folder + "/model.ckpt", "a") as file:
            file.write(part)
        time.sleep(0.5)

def end(number, frame):
    with open(folder + "/ended", "w") as file:
        file.write(str(len(open(folder + "/model.ckpt").read())) if os.path.exists(folder + "/model.ckpt") else "0")
    sys.exit(1)

if "deaf" not in sys.argv:
    signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, end)
open(folder + "/model.old", "w").close()
with open(folder + "/launches", "a") as file:
    file.write(str(os.getpid()) + "\\n")
while not os.path.exists(folder + "/go"):
    time.sleep(0.05)
"""


def _armed(laptop, job, checkpoint=None, *, stage=None, words="", limit_s=30):
    """A run of two stages with a trainer of its own in the first; `checkpoint` as in babysit.toml."""
    (job.folder / "trainer.py").write_text(_TRAINER)
    stage = stage or f"cd {job.here}; python3 trainer.py {job.here} {words} | cat; true"
    hook = f"checkpoint = {json.dumps(checkpoint)}\ncheckpoint_limit_s = {limit_s}\n" if checkpoint else ""
    laptop.spec(
        f'[run.{job.run}]\nbox = "gpu1"\ncwd = "~/{job.folder.name}"\nartifacts = ["*.ckpt"]\n{hook}'
        f'[[run.{job.run}.stages]]\nname = "train"\ncommand = {json.dumps(stage)}\n'
        f'[[run.{job.run}.stages]]\nname = "after"\ncommand = "echo after"\n'
    )
    done = laptop.run("arm", "gpu1", job.run)
    assert done.returncode == 0, done.said
    job.up()


def _log(job):
    return (job.run_folder() / "run.log").read_text()


def test_the_command_runs_before_term_in_the_runs_folder_and_knows_its_job(night):
    laptop, job = night
    asks = (
        'echo "$BABYSIT_RUN $BABYSIT_PID ${BABYSIT_TAG-none} $(pwd) $(cat /proc/$BABYSIT_PID/comm)" >asked\n'
        "echo \"it's\" 'as  written' $(($(cat launches) - BABYSIT_PID)); echo x >model.ckpt"
    )
    _armed(laptop, job, asks)
    assert (job.run_folder() / "checkpoint.sh").read_text() == asks + "\n"
    assert (job.run_folder() / "checkpoint.sh").stat().st_mode & 0o777 == 0o600
    done = laptop.run("stop", job.run, "--yes")
    assert done.returncode == 0 and "checkpoint: saved in " in done.stdout, done.said
    pid, name = job.pid(), job.folder.name
    comm = "python3"
    assert (job.folder / "asked").read_text().split() == [
        job.run,
        str(pid),
        "none",
        f"{job.box.inside_home}/{name}",
        comm,
    ]
    assert "it's as  written 0" in _log(job)
    assert (job.folder / "ended").read_text() == "2", "TERM came before the checkpoint had ended"
    assert job.record("end")["state"] == "stopped" and not job.record("markers/01-train")


def test_a_checkpoint_that_fails_stops_anyway_unless_it_is_required(night):
    laptop, job = night
    _armed(laptop, job, "echo no room; exit 7")
    kept = laptop.run("stop", job.run, "--yes", "--require-checkpoint")
    assert kept.returncode == 10 and "was not stopped" in kept.stderr and "with 7" in kept.stderr, kept.said
    assert "no room" in _log(job)
    # Nothing of the wish is left: the run goes on, and ends like one that nobody ever asked to stop.
    assert not job.record("stopping") and not (job.folder / "ended").exists()
    assert laptop.patrol()["runs"][0]["row"] in ("R-RUN-1", "R-START-1")
    # What babysit.toml says today is what counts, once the run was armed with it.
    spec = laptop.home / "babysit.toml"
    spec.write_text(spec.read_text().replace("exit 7", "exit 8"))
    assert laptop.run("arm", "gpu1", job.run).returncode == 0
    done = laptop.run("stop", job.run, "--yes")
    assert done.returncode == 0 and "checkpoint: failed: with 8; stopping anyway" in done.stdout, done.said
    assert job.record("end")["state"] == "stopped" and job.launches() == 1


def _cut_short(laptop, job):
    """A stop whose link and script die in its grace, then the chain by -9, so that nobody writes an end."""
    deaf = job.command("trap '' TERM HUP; echo up; while [ ! -e $W/go ]; do sleep 0.1; done")
    assert laptop.run("arm", "gpu1", job.run, "--", deaf).returncode == 0
    job.up()
    child = laptop.start("stop", job.run, "--yes", "--grace", "600")
    wait_until(lambda: job.record("stopping"), SOON_S, "the wish to stop")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    scripts = [pid for pid, line in job.box.processes().items() if "dd ibs=1" in line]
    end_all((*job.box.session_pids(), *scripts))
    wait_until(lambda: not any(lives(pid) for pid in scripts), SOON_S, "the stop is gone")
    job.box.run(f"kill -9 {job.record('attempt')['pid']}")
    wait_until(lambda: not job.held("chain"), SOON_S, "its chain is gone")


def test_a_stop_that_was_cut_short_is_told_and_finished_by_the_same_command(night):
    laptop, job = night
    _cut_short(laptop, job)
    assert "checkpoint" not in (job.run_folder() / "spec.json").read_text()
    _told(laptop, job, "R-STOP-2")
    job.release()
    name = job.run_folder().name
    wait_until(lambda: name not in str(job.box.processes()), SOON_S, "the job has ended")
    _told(laptop, job, "R-STOP-3")
    required = laptop.run("stop", job.run, "--yes", "--require-checkpoint")
    assert required.returncode == 2 and "names no checkpoint" in required.stderr, required.said
    done = laptop.run("stop", job.run, "--yes")
    assert done.returncode == 0 and "checkpoint" not in done.stdout, done.said
    assert job.record("end")["state"] == "stopped"
    assert laptop.health(job.run) == "stopped"


def _told(laptop, job, row):
    (found,) = laptop.patrol()["runs"]
    assert found["row"] == row and found["next"] == [f"babysit stop gpu1 {job.run}"], found
