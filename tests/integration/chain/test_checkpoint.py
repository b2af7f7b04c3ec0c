"""Saving before a stop, in every shell: by a command with a limit, or by a signal to those who listen to it."""

import os

import msgspec
import pytest
from integration.chain.rig import PYTHON
from processes import lives, of, pids
from small_box import SHELLS, small_path
from waiting import wait_until

from fleet.arming.chain import checkpoint_file
from fleet.arming.start import stop
from fleet.link.local import LocalLink

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
        file.write(open(folder + "/model.ckpt").read() if os.path.exists(folder + "/model.ckpt") else "nothing")
    sys.exit(1)

if "deaf" not in sys.argv:
    signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, end)
open(folder + "/old.ckpt", "w").close()
with open(folder + "/launches", "a") as file:
    file.write("train %d\\n" % os.getpid())
while True:
    time.sleep(0.05)
"""
_SAVED = "first half\nsecond half\n"


@pytest.fixture
def trained(make_run, tmp_path):
    """`trained(checkpoint, words, limit_s)`: a run under way whose trainer saves on USR1, in a pipe."""

    def make(checkpoint, words="", limit_s=30):
        (tmp_path / "trainer.py").write_text(_TRAINER)
        run = make_run(train=f"{PYTHON} {tmp_path}/trainer.py $W {words} | cat; true")
        run.run = msgspec.structs.replace(
            run.run,
            spec=msgspec.structs.replace(
                run.run.spec,
                checkpoint=checkpoint,
                checkpoint_limit_s=limit_s,
                artifacts=(f"{run.work}/*.ckpt",),
            ),
        )
        content = checkpoint_file(run.run.spec)
        if content is not None:
            (run.dir / "checkpoint.sh").write_bytes(content)
        run.start("0")
        run.up()
        run.pids.add(run.trainer())
        return run

    return make


def _stop(run, shell=None, *, require=False, tmp_path=None):
    env = {**os.environ, "HOME": str(run.home)}
    if shell is not None:
        env["PATH"] = small_path(tmp_path / "tools", shell=shell)
    return stop(
        LocalLink(env),
        state_dir=str(run.state),
        run_id=run.run_id,
        attempt=1,
        grace_s=5,
        limit_s=60,
        spec=run.run.spec,
        require_checkpoint=require,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_a_signal_goes_to_those_who_listen_and_a_whole_artifact_is_waited_for(trained, tmp_path, shell):
    run = trained("signal:USR1")
    stopped = _stop(run, shell, tmp_path=tmp_path)
    assert stopped.word == "stopped" and stopped.checkpoint.saved, stopped
    # The shell and the pipe around the trainer do not listen: a USR1 would have ended them, and then the run.
    assert (run.work / "ended").read_text() == _SAVED
    assert run.record("end")["state"] == "stopped"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_that_hangs_has_its_limit_and_leaves_nothing_behind(trained, tmp_path, shell):
    run = trained("echo $BABYSIT_PIDS >pids; exec sleep 54321", limit_s=1)
    stopped = _stop(run, shell, tmp_path=tmp_path)
    assert (stopped.word, stopped.checkpoint.saved) == ("stopped", False)
    assert stopped.checkpoint.why == "it took longer than 1 s" and 1 <= stopped.checkpoint.took_s < 30
    wait_until(lambda: not _sleepers(), 10, "the command is gone")
    # TERM came after it, to the same processes.
    # What the trainer itself had started for a moment may have left before.
    asked = (run.home / "pids").read_text().split()
    assert str(run.trainer()) in set(asked) & {line.split()[0] for line in stopped.ended}


def _sleepers():
    return [pid for pid in pids() if of(pid, "cmdline") == b"sleep\x0054321\x00" and lives(pid)]


CASES = {
    # What is asked for -> why it fails.
    "nothing listens": ("signal:USR1", "deaf", "nothing of it listens to USR1"),
    "a signal of the box's own": ("signal:KILL", "", "no such signal"),
    "it fails": ("exit 7", "", "with 7"),
    "it cannot be run": ("no-such-program-here", "", "with 127"),
    "its file is gone": ("true", "", "its command is not on the box"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_required_and_fails_leaves_the_run_as_it_was(trained, case):
    checkpoint, words, why = CASES[case]
    run = trained(checkpoint, words)
    if case == "its file is gone":
        (run.dir / "checkpoint.sh").unlink()
    kept = _stop(run, require=True)
    assert (kept.word, kept.text, kept.ended) == ("kept", why, ())
    assert kept.checkpoint.why == why and not kept.checkpoint.saved
    assert not run.record("stopping") and not (run.work / "ended").exists()
    assert run.verdict() == "running"


def test_a_trainer_that_saves_and_leaves_at_once_has_saved(trained):
    run = trained("kill -TERM $BABYSIT_PID && while [ ! -e $(dirname $0)/end ]; do sleep 0.1; done")
    stopped = _stop(run, require=True)
    # The job's own pid is what the command was given: not the shell's around it, and not the pipe's.
    assert (run.work / "ended").read_text() == "nothing"
    assert stopped.word in ("stopped", "already-so") and stopped.checkpoint.saved
    assert run.record("end")["state"] == "stopped" and not run.stamped()


def test_what_is_over_has_nothing_to_save(make_run):
    run = make_run(train="true")
    run.run = msgspec.structs.replace(run.run, spec=msgspec.structs.replace(run.run.spec, checkpoint="false"))
    assert _result(run) == 0
    assert _stop(run, require=True).checkpoint is None


def _result(run):
    process = run.start("0")
    return process.wait(30)
