"""Whose a run's name is on its box: the run that is to be armed, or one that stands in its way."""

import threading
from typing import NamedTuple

import msgspec

from babysit.acts.adopt import run_of
from babysit.acts.settle import finished
from babysit.acts.starting import CALL_S
from babysit.acts.visit import ask
from fleet import clock
from fleet.arming.chain import digest_of
from fleet.arming.changes import job_changes
from fleet.arming.preflight import BoxReport
from fleet.arming.read_run import FoundRun, read_run
from fleet.errors import BabysitError, NotFound, ProbeUnreadable, StillAlive, Superseded, UsageError
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.probe import Locks, Reachable, RunFacts
from fleet.model.reading import Known
from fleet.model.run import Run
from fleet.model.spec import DEFAULT_STATE_DIR, BoxSpec, RunSpec
from fleet.text.quote import sh

_LOOKS = 5


class At(NamedTuple):
    """One arming under way: over which link, into which ledger, what on which box.

    `typed` are the words after BOX and RUN with which its owner would ask for this job again. Without `keep`
    nothing is written down here.
    """

    link: Link
    ledger: Ledger
    box: BoxSpec
    spec: RunSpec
    report: BoxReport
    typed: str = ""
    keep: bool = True


def one_folder(ledger: Ledger, box: BoxSpec) -> None:
    """That no run of `box` lies in another folder than its `state_dir` names: there its name would be free.

    Else it is started there a second time, and the first one is taken for gone. Raises UsageError.
    """
    before = ledger.ticks.verdicts()
    for run in ledger.runs.all():
        here = run.box.name == box.name and run.disarmed_at is None and not finished(before.get(run.run_id))
        if here and _folder(run.box) != _folder(box):
            raise UsageError(
                f"{run.name} keeps its records in {run.box.state_dir or DEFAULT_STATE_DIR}",
                where=f"{box.name}: state_dir {box.state_dir or DEFAULT_STATE_DIR}",
                hint="all runs of a box lie in one folder: leave it until that one is over or disarmed",
                next=(f"babysit status {box.name} {run.name}", f"babysit disarm {box.name} {run.name}"),
            )


def _folder(box: BoxSpec) -> str:
    return (box.state_dir or DEFAULT_STATE_DIR).removeprefix("~/").rstrip("/")


def found_at(at: At, owner: str | None) -> FoundRun | None:
    """The run that has the name on the box, as its folder describes it; None when there is none."""
    if owner is None:
        return None
    try:
        return read_run(at.link, state_dir=at.report.state_dir, run_name_or_id=owner, limit_s=CALL_S)
    except NotFound:
        return None


def same_job(at: At, found: FoundRun) -> Run:
    """`found` as a run of this ledger, when it is the very job that is to be armed.

    Thresholds may change without a new run; the command may not, and which stages are watched stays as it was
    armed. Raises UsageError, or Superseded when this job was armed from here and lost its name since.
    """
    if digest_of(found.spec) != digest_of(at.spec):
        raise _another(at, found)
    known = at.ledger.runs.find(found.run_id)
    run = run_of(found, at.box, armed_at=known.armed_at if known else clock.now())
    spec = msgspec.structs.replace(at.spec, box=at.box.name, stages=found.spec.stages)
    return msgspec.structs.replace(run, spec=spec)


def keep_as_owner(ledger: Ledger, run: Run) -> None:
    """Keep `run`, and that it superseded every older run of its name and box."""
    ledger.runs.put(run)
    for old in ledger.runs.all(current=False):
        same_name = (old.name, old.box.name) == (run.name, run.box.name) and old.run_id != run.run_id
        # One that is younger came after what we read on the box.
        if same_name and old.superseded_by is None and old.armed_at <= run.armed_at:
            ledger.runs.put(msgspec.structs.replace(old, superseded_by=run.run_id))


def nothing_lives(at: At, owner: str | None) -> None:
    """Nothing comes back when the run that has the name is proven to be over, or never was there.

    Raises StillAlive, ProbeUnreadable when that cannot be told, LinkError.
    """
    found = found_at(at, owner)
    if found is None:
        return
    run = run_of(found, at.box, armed_at=clock.now())
    name, box = run.name, at.box.name
    says = ""
    for _ in range(_LOOKS):
        seen = ask(at.link, box, (run,), {})
        match seen.runs.get(run.run_id) if isinstance(seen, Reachable) else None:
            case RunFacts(exists=Known(value=False)):
                return
            case RunFacts(locks=Known(value=Locks(False, False)), alive=Known(value=())):
                return
            case RunFacts(locks=Known(), alive=Known(value=alive)):
                if at.keep and at.ledger.runs.find(run.run_id) is None:
                    at.ledger.runs.put(run)  # so that `stop` knows it here
                pids = ", ".join(str(process.pid) for process in alive)
                raise StillAlive(
                    f"{run.run_id} lives on {box}{f' (pid {pids})' if pids else ''}: "
                    f"two runs of one name would work side by side",
                    where=name,
                    next=(f"babysit stop {box} {name}", f"babysit arm {box} {name} --again{at.typed}"),
                )
            case _:
                says = "" if isinstance(seen, Reachable) else seen.says
        threading.Event().wait(0.5)  # the look met its chain in mid-change
    raise ProbeUnreadable(
        f"whether anything of {run.run_id} lives on {box} cannot be told{f': {says}' if says else ''}",
        where=name,
        hint="nothing was started",
        next=("babysit patrol --once",),
    )


def _another(at: At, found: FoundRun) -> BabysitError:
    """Why `found` stands in the way, with what is different."""
    name, box = at.spec.name, at.box.name
    again = f"babysit arm {box} {name} --again{at.typed}"
    mine = _mine(at, found)
    if mine is None:
        error: BabysitError = UsageError(
            f"{name} was armed on {box} with another command or folder (run {found.run_id})",
            where=name,
            hint=f"a new command makes a new run (--again), which supersedes {found.run_id}. Different:",
            next=(f"babysit handbook {box} {name}", again),
        )
    else:
        if at.keep:
            keep_as_owner(at.ledger, run_of(found, at.box, armed_at=clock.now()))
        error = Superseded(
            f"{mine.run_id} lost its name on {box}: {found.run_id} superseded it, with another command",
            where=name,
            hint=f"nothing was started; from now on {name} is {found.run_id} here. Its command and this one:",
            next=(f"babysit watch {box} {name}", again),
        )
    # What was armed from here is known here; only of a stranger's run the box has to be believed.
    known = at.ledger.runs.find(found.run_id)
    error.untrusted = job_changes(known.spec if known and mine is None else found.spec, at.spec)
    return error


def _mine(at: At, found: FoundRun) -> Run | None:
    """The run of this very job that was launched from here before another took its name."""
    wanted = at.spec.name, at.box.name
    return next(
        (
            run
            for run in reversed(at.ledger.runs.all(current=False))
            if run.launched and run.run_id != found.run_id and (run.name, run.box.name) == wanted
            if digest_of(run.spec) == digest_of(at.spec)
        ),
        None,
    )


def typed_again(spec: RunSpec, *, in_file: bool) -> str:
    """The words after BOX and RUN that ask for `spec` again: none where a file or the ledger has it."""
    return "" if in_file or len(spec.stages) != 1 else f" -- {sh(spec.stages[0].command)}"
