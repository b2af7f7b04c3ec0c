"""Runs, facts and probes built by hand; every argument left out is a healthy running job."""

from fleet.model.probe import (
    Alive,
    Artifact,
    Attempt,
    BoxFacts,
    Broken,
    Cause,
    Disk,
    End,
    Gpu,
    Locks,
    LogSlice,
    Marker,
    Memory,
    Reachable,
    RunFacts,
    Unreachable,
)
from fleet.model.reading import Known, Missing
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage
from patrol.case import Case
from patrol.history import History, fold

NOW = 1_800_000_000.0  # host time
SKEW = 5.0
BOX_NOW = NOW + SKEW
NONCE = "0123456789abcdef" * 2
BOX_ID = "b" * 32
BOOT = "11111111-2222-3333-4444-555555555555"
CHAIN_PID = 4100
MISSING = Missing("it could not be read")


def known(value):
    return Known(value, BOX_NOW, "test")


def run(name="train", *, launched=True, armed_ago_s=7200.0, box=None, **spec):
    return Run(
        run_id=f"{name}-k3f9",
        spec=RunSpec(name=name, stages=(Stage("prepare", "true"), Stage("train", "python train.py")), **spec),
        box=box or BoxSpec("gpu1", "gpu1.example"),
        nonce=NONCE,
        tag=f"{name}-k3f9-0011223344556677",
        chain="chain-00000000.sh",
        spec_digest="0" * 8,
        armed_at=NOW - armed_ago_s,
        box_id=BOX_ID,
        launched=launched,
    )


def attempt(number=1, *, ago_s=3600.0, pid=CHAIN_PID, boot=BOOT):
    return Attempt(number, pid, 77, boot, BOX_NOW - ago_s)


def end(state="done", *, number=1, stage=None, rc=0, signal=None, why="-", ago_s=300.0, leftovers=()):
    return End(state, number, stage, rc, signal, why, BOX_NOW - 3600, BOX_NOW - ago_s, leftovers)


def broken(stage="02-train", *, ago_s=301.0, exit_code=88, began_s=3500.0, **more):
    return Broken(stage, 3421, exit_code, BOX_NOW - ago_s, started_at=BOX_NOW - began_s, **more)


def log(text=b"Epoch 3/9 - loss: 0.5\n", *, ago_s=10.0, start=0, size=None, file_id="1:2"):
    return known(LogSlice(file_id, start + len(text) if size is None else size, BOX_NOW - ago_s, start, text))


def alive(*pids):
    return known(tuple(Alive(pid, "tag", "python") for pid in pids))


def artifact(*, ago_s=10.0, path="last.pt"):
    return Artifact(path, 10, BOX_NOW - ago_s)


def marker(stage="01-prepare", *, ago_s=3000.0, number=1):
    return Marker(stage, number, BOX_NOW - ago_s - 60, BOX_NOW - ago_s)


def facts(**changed):
    values = {
        "exists": known(True),
        "attempt": known(attempt()),
        "end": known(None),
        "markers": known(()),
        "locks": known(Locks(chain_held=True, stage_held=True)),
        "alive": alive(CHAIN_PID, 4200),
        "log": log(),
        "artifacts": known(()),
    }
    return RunFacts(**{**values, **changed})


FREE = known(Locks(chain_held=False, stage_held=False))
GONE = {"locks": FREE, "alive": alive()}


def disk(used_pct=40.0, inodes=3.0, path="-"):
    return Disk(path, "/", used_pct, 10**9, inodes)


def box(**changed):
    values = {
        "now": BOX_NOW,
        "boot_id": known(BOOT),
        "box_id": known(BOX_ID),
        "uptime_s": known(7200.0),
        "disks": known((disk(),)),
        "memory": known(Memory(10**9, 4 * 10**9, 0)),
        "gpus": known((Gpu(0, "H100", 94.0, 10**9, 8 * 10**9),)),
    }
    return BoxFacts(**{**values, **changed})


def probe(of=None, box_facts=None, *, runs=None):
    found = runs if runs is not None else {run().run_id: of or facts()}
    return Reachable(box_facts or box(), found, NOW, 0.4, SKEW)


def away(cause=Cause.REFUSED, **more):
    return Unreachable(cause, "it did not answer", transient=True, at=NOW, took_s=1.0, **more)


def folded(of_run, seen, history=None):
    return fold(history or History(), of_run, seen, NOW)


def case(of_run=None, seen=None, history=None):
    """A case whose history has this very look folded in, as a tick has it."""
    of_run = of_run or run()
    seen = seen or probe()
    return Case(of_run, seen, folded(of_run, seen, history), NOW)
