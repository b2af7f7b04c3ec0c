"""Cases of the chain's proof. Each takes `make_run` and the guards to leave out, and asserts what must hold.

They stand apart from the tests so that test_guards.py can run them against a chain without its guard.
"""

import fcntl
import os
import subprocess
import sys

from integration.chain.rig import LONG, SHELLS, alive, kill, result, words
from waiting import wait_until

from fleet.model.spec import Stage

FAILS = "work train; sleep 0.3; over; exit 3"
ENDS = "work train; sleep 0.3; over"
# A clean environment that still does the work; a reset limit on top of it.
BARE = 'env -i PATH="$PATH" bash -c "$(declare -f work gate over); W=$W; {limit}work train; gate; over"'
CLEAN = BARE.format(limit="")
RELIMITED = BARE.format(limit="ulimit -S -m unlimited; ")
_SPAWN = "import subprocess,sys; subprocess.Popen(['bash','-c',sys.argv[1]]).wait()"
# A worker that wipes its own environment, as setproctitle does, and closes what it inherited.
_WIPE = """import ctypes, os
numbers = open('/proc/self/stat').read().rpartition(') ')[2].split()
work, start, end = os.environ['W'], int(numbers[47]), int(numbers[48])
ctypes.memset(start, 0, end - start)
assert b'TAG' not in open('/proc/self/environ', 'rb').read()
open(work + '/alive', 'x')
open(work + '/launches', 'a').write('train %d\\n' % os.getpid())
open(work + '/gate').read()
os.unlink(work + '/alive')
"""

# How a worker outlives its killed chain: the stage's command, and whether the locks and tags of
# `verdict` can see it at all (the mark can in every case).
ORPHANS = {
    "shell child": ("bash -c 'work train; gate; over'; true", True),
    "setsid child": ("setsid bash -c 'work train; gate; over' & wait $!", True),
    "python subprocess": (f"{sys.executable} -c \"{_SPAWN}\" 'work train; gate; over'", True),
    "closed descriptors": ("bash -c 'work train; gate; over' 3>&- 8>&- 9>&-; true", True),
    "only the lock": (f"{RELIMITED}; true", True),
    "only the mark": (f"{CLEAN} 8>&-; true", False),
    "only the tag": (
        "bash -c 'ulimit -S -m unlimited; exec bash -c \"work train; gate; over\"' 8>&-; true",
        True,
    ),
    "wiped title": (f"{sys.executable} -c \"{_SPAWN}\" 'exec {sys.executable} {{wipe}}'", False),
}


def parallel(make_run, body, *, cripple=(), homes=2, starts=20):
    """20 starts at once from each of two homes, and a late one: one launch a run, whatever the job does."""
    runs = [make_run(cripple=cripple, train=body) for _ in range(homes)]
    with (runs[0].home / "all are here").open("w") as line:
        fcntl.flock(line, fcntl.LOCK_EX)
        processes = [
            (run, run.start("0", SHELLS[index % len(SHELLS)], line.name))
            for index in range(starts)
            for run in runs
        ]
    if body == LONG:
        wait_until(
            lambda: sum(p.poll() is None for _, p in processes) <= homes, 120, "all losers have answered"
        )
        for run in runs:
            run.up()
            assert run.verdict() == "running"
            assert len(run.launches()) == 1, f"{len(run.launches())} launches beside a living one"
            run.open_gate()
    said = [result(process) for _, process in processes]
    said += [run.result("0") for run in runs]
    for run in runs:
        assert len(run.launches()) == 1, f"{len(run.launches())} launches of {starts} starts: {words(said)}"
        assert not run.collisions()
        assert run.record("attempt")["attempt"] == "1"
    assert words(said)["started"] == homes
    return words(said)


def quoting_a_live_attempt(make_run, *, cripple=()):
    """The fence lets them pass: only locks and scan are in their way."""
    run = make_run(cripple=cripple, train=LONG)
    first = run.start("0")
    run.up()
    said = [result(process) for process in [run.start("1") for _ in range(20)]]
    assert len(run.launches()) == 1, f"{len(run.launches())} launches: {words(said)}"
    assert {code for code, _ in said} <= {10, 75}, words(said)
    run.open_gate()
    assert result(first)[0] == 0
    return words(said)


def orphan(make_run, kind, *, cripple=(), starts=5):
    """The chain dies, its worker lives: seen, named, nothing launched beside it, and `stop` ends it."""
    body, visible = ORPHANS[kind]
    run = make_run(cripple=cripple, prepare="work prep; over", train="TO BE WRITTEN")
    wipe = run.home / "wipe.py"
    wipe.write_text(_WIPE)
    stage = run.dir / "stages" / "02-train.sh"
    stage.write_text(stage.read_text().replace("TO BE WRITTEN", body.replace("{wipe}", str(wipe))))
    first = run.start("0")
    run.up()
    worker = run.trainer()
    run.crash_chain(first)
    if kind != "shell child":
        # What stands between chain and worker goes too, so that only the worker itself is left to be seen.
        wait_until(lambda: not _others(run, worker), 60, "only the worker is left")
    assert alive(worker)
    seen = run.verdict()
    said = _no_second(run, starts)
    assert seen == ("orphaned" if visible else "free")
    assert not [s for s in said if s[0] not in (10, 75)], f"launched beside a living worker: {words(said)}"
    named = [text for code, text in said if code == 10]
    assert named, said
    assert all(f" {worker}" in text for text in named), f"pid {worker} is not named: {named}"
    stopped = run.stop()
    assert stopped.word == "stopped", stopped
    assert not alive(worker)
    assert run.record("end")["state"] == "stopped"
    (run.work / "alive").unlink(missing_ok=True)
    again = run.start("1:stopped")
    run.up(2)
    run.open_gate()
    assert result(again)[0] == 0, run.log()
    assert run.launches() == ["prep", "train", "train"], run.launches()
    assert not run.collisions()


def _others(run, worker):
    others = {*run.tagged(), *run.marked()} - {worker}
    for pid in others:
        kill(pid)
    return others


def _no_second(run, starts):
    """Starts that must all be refused; a launch beside the worker is noticed at once, and its pid kept."""
    processes = [run.start("1") for _ in range(starts)]
    wait_until(
        lambda: len(run.launches("train")) > 1 or all(p.poll() is not None for p in processes), 120, "answers"
    )
    second = len(run.launches("train")) > 1
    if second:
        run.trainer()
    assert not second, "launched beside a living worker"
    return [result(process) for process in processes]


def moment_of_the_chain(make_run, *, cripple=()):
    """running, orphaned and free are told apart by the two locks."""
    run = make_run(cripple=cripple, train=LONG)
    first = run.start("0")
    run.up()
    seen = [run.verdict()]
    run.crash_chain(first)
    seen.append(run.verdict())
    run.end()
    seen.append(run.verdict())
    assert seen == ["running", "orphaned", "free"], f"verdicts {seen}"


def forged_markers(make_run, *, cripple=()):
    """Another run's nonce, another stage's marker, an empty one: none of them is believed."""
    run = make_run(cripple=cripple, prepare="work prep; over", train=ENDS, eval="work eval; over")
    markers = run.dir / "markers"
    markers.mkdir()
    (markers / "01-prepare").write_text(f"nonce={'0' * 32}\nstage=01-prepare\nattempt=1\n")
    (markers / "02-train").write_text(f"nonce={run.nonce}\nstage=01-prepare\nattempt=1\n")
    (markers / "03-eval").write_text("")
    assert run.result("0")[0] == 0
    assert run.launches() == ["prep", "train", "eval"], f"believed a forged marker: {run.launches()}"


TARGETS = ("mkdir {m}", "ln -s $W {m}", "ln -s $W/launches {m}", "ln -s $W/nowhere {m}", "mkfifo {m}")


def marker_target(make_run, *, cripple=(), targets=TARGETS, early=(True, False)):
    """Where a marker is to be written lies something else: nothing is stamped, nothing is followed."""
    for command in targets:
        for before in early:
            run = make_run(cripple=cripple, train="PLACE\nwork train; over", eval="work eval")
            put = command.format(m=run.dir / "markers" / "01-train").replace("$W", str(run.work))
            stage = run.dir / "stages" / "01-train.sh"
            stage.write_text(stage.read_text().replace("PLACE", "" if before else put))
            if before:
                (run.dir / "markers").mkdir()
                subprocess.run(put, shell=True, check=True)  # noqa: S602 - the case's own text
            code, _ = run.result("0")
            where = f"{command}, {'before' if before else 'during'} the stage"
            assert run.launches() == ([] if before else ["train"]), f"{where}: launched {run.launches()}"
            assert code == 20, where
            assert run.record("end")["why"] == ("marker-target" if before else "cannot-stamp"), where
            assert {path.name for path in run.work.iterdir()} == (
                {"gate"} if before else {"gate", "launches"}
            ), where


LEFTOVERS = {
    "nohup": "nohup sleep 600 >/dev/null 2>&1 &",
    "fd 8 closed": "setsid sleep 600 8>&- &",
    "clean environment": 'env -i PATH="$PATH" sleep 600 8>&- &',
    "deaf to TERM": "trap '' TERM; setsid sleep 600 &",
}


def leftovers(make_run, how, policy, *, cripple=()):
    """A stage returned 0 and left something: it fails, or it is ended, or it is let be, as the spec says."""
    train = Stage("train", f"work train; over; {LEFTOVERS[how]}", policy)
    run = make_run(cripple=cripple, train=train, eval="work eval; over; exit 3")
    assert run.result("0")[0] == 20
    end = run.record("end")
    left = {*run.tagged(), *run.marked()}
    if policy == "fail":
        assert not run.launches("eval"), "the next stage ran beside a leftover"
        assert (end["stage"], end["why"]) == ("01-train", "leftovers")
        assert left
        assert {str(pid) for pid in left} == set(end["leftovers"].split())
        assert run.result("1:failed")[0] == 10
        return
    assert (end["stage"], end["why"], end["leftovers"]) == ("02-eval", "exit", "-"), end
    assert bool(left) == (policy == "allow")
    assert run.result("1:failed")[0] == 20
    assert run.launches() == ["train", "eval", "eval"], run.launches()


def locks_deleted(make_run, *, cripple=()):
    """A cleaner removes the lock files while the chain is between two stages: its identity is the witness."""
    run = make_run(cripple=cripple, prepare="work prep; over", train="work train; over")
    held = run.work / "held"
    folder = run.home / "bin"
    folder.mkdir()
    sync = folder / "sync"
    sync.write_text(
        f"#!/bin/sh\ncase $1 in */markers/.new.01-*) echo $$ >{held}; read -r _ <{run.work}/gate ;; esac\n"
    )
    sync.chmod(0o755)
    first = run.start("0", PATH=f"{folder}:{os.environ['PATH']}")
    wait_until(held.exists, 60, "the chain stands between two stages")
    # What holds the lock besides the chain is its sync; a deleted file has no name to find it by.
    for name in ("chain", "stage"):
        (run.dir / f"{name}.lock").unlink()
    said = [result(process) for process in [run.start("1") for _ in range(5)]]
    run.open_gate()
    out = result(first)
    assert run.launches() == ["prep", "train"], f"launches {run.launches()}, {words(said)}"
    assert {code for code, _ in said} <= {10, 75}, words(said)
    assert out[0] == 0
