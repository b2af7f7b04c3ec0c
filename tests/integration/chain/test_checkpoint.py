"""Saving before a stop, in every shell: by a command with a limit, or by a signal to those who listen to it."""

import os
import shutil

import msgspec
import pytest
from integration.chain.rig import BOUND_S, PYTHON
from processes import lives, of, pids
from small_box import SHELLS, small_path
from waiting import wait_until

from fleet.arming.chain import checkpoint_file
from fleet.arming.start import stop
from fleet.link.local import LocalLink

pytestmark = pytest.mark.timeout(300)
_TRAINER = """
import os, signal, sys, time
folder, kept = sys.argv[1], []

def save(number, frame):
    if "lazy" in sys.argv:
        return
    if "slow" in sys.argv or "keeps" in sys.argv:
        file = open(folder + "/model.ckpt", "w")
        file.write("first half\\n")
        file.flush()
        while "slow" in sys.argv and not os.path.exists(folder + "/go on"):
            time.sleep(0.05)
        file.write("second half\\n")
        file.flush()
        return file.close() if "slow" in sys.argv else kept.append(file)
    for part in ("first half\\n", "second half\\n"):
        with open(folder + "/model.ckpt", "a") as file:
            file.write(part)
        while not os.path.exists(folder + "/go on"):
            time.sleep(0.05)

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
# A second of the script's: in its first the trainer writes one half, in its second the other, however slow it is.
_SECOND = """#!/bin/sh
if [ "$1" = 1 ]; then
  half=first; [ ! -e {work}/begun ] || {{ half=second; : >{work}/"go on"; }}
  : >{work}/begun
  until case $(cat {work}/model.ckpt) in *$half*) ;; *) false ;; esac; do {sleep} 0.05; done 2>/dev/null
fi
exec {sleep} "$@"
"""
# As many seconds of the script's pass with one half written, as `beats` has lines then; its writer goes on after five.
_FIVE_SECONDS = """#!/bin/sh
if [ "$1" = 1 ]; then
  until [ -s {work}/model.ckpt ]; do {sleep} 0.05; done
  echo >>{work}/beats
  [ "$(wc -l <{work}/beats)" -lt 5 ] || : >{work}/"go on"
  [ ! -e {work}/"go on" ] || until case $(cat {work}/model.ckpt) in *second*) ;; *) false ;; esac; do {sleep} 0.05; done
fi
exec {sleep} 0.05
"""


@pytest.fixture
def trained(make_run, tmp_path):
    """`trained(checkpoint, words, limit_s, into)`: a run under way whose trainer saves on USR1, in a pipe."""

    def make(checkpoint, words="", limit_s=90, into="{} | cat"):
        (tmp_path / "trainer.py").write_text(_TRAINER)
        run = make_run(train=into.format(f"{PYTHON} {tmp_path}/trainer.py $W {words}") + "; true")
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


def _stop(run, shell=None, *, require=False, tmp_path=None, second=None, programs=None):
    env = {**os.environ, "HOME": str(run.home)}
    if shell is not None:
        env["PATH"] = small_path(tmp_path / "tools", shell=shell)
    programs = dict(programs or {})
    if second is not None:
        programs["sleep"] = second.format(work=run.work, sleep=shutil.which("sleep"))
    for name, text in programs.items():
        program = tmp_path / "tools" / name
        program.unlink()
        program.write_text(text)
        program.chmod(0o755)
    return stop(
        LocalLink(env),
        state_dir=str(run.state),
        run_id=run.run_id,
        attempt=1,
        grace_s=40,
        limit_s=200,
        spec=run.run.spec,
        require_checkpoint=require,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_a_signal_goes_to_those_who_listen_and_a_whole_artifact_is_waited_for(trained, tmp_path, shell):
    run = trained("signal:USR1")
    stopped = _stop(run, shell, tmp_path=tmp_path, second=_SECOND)
    assert stopped.word == "stopped" and stopped.checkpoint.saved, stopped
    # The shell and the pipe around the trainer do not listen: a USR1 would have ended them, and then the run.
    assert (run.work / "ended").read_text() == _SAVED
    assert run.record("end")["state"] == "stopped"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_that_is_still_written_is_not_whole_however_long_it_stands_still(trained, tmp_path, shell):
    run = trained("signal:USR1", "slow")
    stopped = _stop(run, shell, tmp_path=tmp_path, second=_FIVE_SECONDS)
    assert stopped.word == "stopped" and stopped.checkpoint.saved, stopped
    assert (run.work / "ended").read_text() == _SAVED


def test_a_file_that_is_kept_open_for_good_is_whole_after_thirty_seconds(trained, tmp_path):
    run = trained("signal:USR1", "keeps")
    stopped = _stop(run, "dash", tmp_path=tmp_path, second=_FIVE_SECONDS)
    assert stopped.word == "stopped" and stopped.checkpoint.saved, stopped
    assert (run.work / "beats").read_text().count("\n") >= 30
    assert (run.work / "ended").read_text() == _SAVED


def test_among_many_files_on_a_slow_disk_the_new_one_is_seen(trained, tmp_path):
    """One look at them all is asked for at once: one by one they would take longer than a look may."""
    run = trained("signal:USR1", limit_s=30)
    for number in range(99):
        (run.work / f"{number}.ckpt").touch()
    slow = f'#!/bin/sh\nsleep 0.1\nexec {shutil.which("stat")} "$@"\n'
    stopped = _stop(run, "busybox", tmp_path=tmp_path, second=_SECOND, programs={"stat": slow})
    assert stopped.word == "stopped" and stopped.checkpoint.saved, stopped
    assert (run.work / "ended").read_text() == _SAVED


def test_what_could_not_be_looked_at_before_the_signal_is_not_saved_after_it(trained, tmp_path):
    run = trained("signal:USR1", "lazy", limit_s=5)
    late = f"""#!/bin/sh
case "$*" in *cksum*) echo >>{run.work}/looks; [ "$(wc -l <{run.work}/looks)" -gt 2 ] || exit 137 ;; esac
exec {shutil.which("timeout")} "$@"
"""
    kept = _stop(run, "dash", require=True, tmp_path=tmp_path, programs={"timeout": late})
    assert (kept.word, kept.checkpoint.saved) == ("kept", False)
    assert kept.checkpoint.why == "the artifacts could not be looked at in time"
    assert run.verdict() == "running"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_that_hangs_has_its_limit_and_leaves_nothing_behind(trained, tmp_path, shell):
    long = str(10**6 + os.getpid())  # nobody else's
    run = trained(f"exec sleep {long}", limit_s=1)
    stopped = _stop(run, shell, tmp_path=tmp_path)
    assert (stopped.word, stopped.checkpoint.saved) == ("stopped", False)
    assert stopped.checkpoint.why == "it took longer than 1 s" and 1 <= stopped.checkpoint.took_s < 60
    wait_until(lambda: not _sleepers(long), 60, "the command is gone")
    assert run.trainer() in _told(stopped)


def _sleepers(long):
    return [pid for pid in pids() if of(pid, "cmdline") == b"sleep\0%s\0" % long.encode() and lives(pid)]


def _told(stopped):
    return {int(line.split()[0]) for line in stopped.ended}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_knows_the_processes_that_term_comes_to_after_it(trained, tmp_path, shell):
    run = trained("echo $BABYSIT_PIDS >pids")
    stopped = _stop(run, shell, tmp_path=tmp_path)
    assert (stopped.word, stopped.checkpoint.saved) == ("stopped", True)
    # What the trainer itself had started for a moment may have left before.
    assert run.trainer() in {int(pid) for pid in (run.home / "pids").read_text().split()} & _told(stopped)


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


@pytest.mark.parametrize("into", ["{} | cat", "mkfifo $W/pipe; cat <$W/pipe & {} >$W/pipe"])
def test_a_trainer_that_saves_and_leaves_at_once_has_saved(trained, into):
    saves = "kill -TERM $BABYSIT_PID && while [ ! -e $(dirname $0)/end ]; do sleep 0.1; done"
    run = trained(saves, into=into)
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
    return process.wait(BOUND_S)
