"""Arm a run: look at the box, put everything there, start it, see it live, write it down.

Safe to repeat at every moment: the name is claimed on the box, and the chain's own locks and fence decide
whether anything starts (P1). What was begun here and not finished is adopted by the next call.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from babysit.acts import handing
from babysit.acts.adopt import run_of
from babysit.acts.here import Here
from babysit.acts.settle import Settled, hand_on, settle
from babysit.acts.starting import CALL_S, refusal, start, verified
from babysit.acts.visit import opened
from fleet import clock
from fleet.arming.chain import BoxPlan, render, tag_of
from fleet.arming.place import claim, ship
from fleet.arming.preflight import BoxReport, preflight
from fleet.arming.preflight_rules import refusals, warnings
from fleet.arming.read_run import read_run
from fleet.arming.ship import build_pyz
from fleet.arming.start import Launched
from fleet.errors import BoxRefused, Busy, NotFound, UsageError
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec
from fleet.model.verdict import Verdict

# What an arm does, in this order; a caller is told when each begins.
STEPS = ("preflight", "intent", "ship", "place", "launch", "verify", "record", "handbook")
_SUFFIX = "abcdefghjkmnpqrstuvwxyz23456789"


class Armed(Struct, frozen=True):
    """What arming led to. `launched` None: nothing was started, because it was so already."""

    run: Run
    verdict: Verdict
    report: BoxReport
    launched: Launched | None


def digest_of(spec: RunSpec) -> str:
    """What makes two jobs of one name the same job: stages and folder, not thresholds. 16 hex digits."""
    return hashlib.sha256(msgspec.json.encode((spec.stages, spec.cwd))).hexdigest()[:16]


def arm(
    place: Here,
    box: BoxSpec,
    spec: RunSpec,
    *,
    again: bool = False,
    step: Callable[[str, object], None] = lambda _name, _facts: None,
) -> Armed:
    """Make sure that `spec` runs on `box`, started at most once.

    `step(name, facts)` is called when each of STEPS begins, with what is known by then. Raises
    BoxRefused with all reasons, UsageError when the name belongs to another command, LinkError.
    """
    began = clock.now()
    with place.ledger() as ledger, opened(ledger, box) as link:
        step("preflight", None)
        pyz, digest = build_pyz()
        tool = f"onbox-{digest}.pyz"
        report = preflight(link, box=box, run_name=spec.name, onbox_name=tool, limit_s=CALL_S, cwd=spec.cwd)
        refused = refusals(report, spec, box)
        if refused:
            raise _all_of(refused, box.name)
        step("intent", (report, warnings(report, spec, box)))
        ledger.boxes.put(box)
        at = _At(link, ledger, box, spec, report)
        run = None if again else _adopted(at, report.owner)
        if run is None:
            run = _placed(at, (pyz, tool), step)
        step("launch", run)
        detach = "tmux" if report.tmux else "setsid"
        launched = start(link, ledger, run, expect="0", state_dir=report.state_dir, detach=detach)
        step("verify", launched)
        seen = verified(link, ledger, run, launched)
        step("record", seen)
        run = msgspec.structs.replace(run, launched=True, box_id=report.box_id)
        ledger.runs.put(run)
        settled = settle(place, ledger, ((run, seen),), origin="arm", began=began)
        step("handbook", run)
        handing.rewrite(place, ledger, (run,), _as_changed(settled), reached=set(), limit_s=CALL_S, link=link)
        hand_on(place, ledger)
    verdict = settled.verdicts[0]
    # "Alive" or "busy" and seen to run is what an arm wants; beside a run that is not, they are errors.
    not_started = refusal(launched, run)
    if not_started is not None and verdict.exit_code != 0:
        raise not_started
    return Armed(run, verdict, report, launched if launched.word == "started" else None)


class _At(NamedTuple):
    """One arming under way: over which link, into which ledger, what on which box."""

    link: Link
    ledger: Ledger
    box: BoxSpec
    spec: RunSpec
    report: BoxReport


def _placed(at: _At, tool: tuple[bytes, str], step: Callable[[str, object], None]) -> Run:
    """A new run, whole on the box and owner of its name; or the one that was quicker to take it."""
    link, ledger, box, spec, report = at
    run = _new_run(box, spec, report)
    intent = ledger.intents.begin(run.run_id, "arm", f"arm {spec.name} on {box.name}", clock.now())
    step("ship", run)
    shipped = ship(link, report, *tool)
    plan = BoxPlan(
        state_dir=report.state_dir,
        lockdir=report.lock_dir if box.lock_dir else "-",
        python=report.python,
        onbox=shipped.path if report.python else None,
    )
    files = render(run, plan)
    run = msgspec.structs.replace(run, chain=files.chain_name)
    step("place", (run, len(tool[0]), shipped.wrote))
    # Written down before the name is taken: whatever ends us now, the ledger knows the nonce.
    ledger.runs.put(run)
    taken = claim(
        link,
        state_dir=report.state_dir,
        run_name=spec.name,
        run_id=run.run_id,
        files=files.files,
        expect_owner=report.owner,
        limit_s=CALL_S,
    )
    ledger.intents.done(intent, f"the name belongs to {taken.owner}", clock.now())
    if taken.owner != run.run_id:
        ledger.runs.put(msgspec.structs.replace(run, superseded_by=taken.owner))
        quicker = _adopted(at, taken.owner)
        if quicker is None:
            raise Busy(f"{spec.name} on {box.name} changed hands while it was armed", where=spec.name)
        return quicker
    for old in ledger.runs.all():
        if (old.name, old.box.name) == (run.name, run.box.name) and old.run_id != run.run_id:
            ledger.runs.put(msgspec.structs.replace(old, superseded_by=run.run_id))
    return run


def _adopted(at: _At, owner: str | None) -> Run | None:
    """The run that has the name on the box, now in this ledger too; None when there is none."""
    link, ledger, box, spec, report = at
    if owner is None:
        return None
    try:
        found = read_run(link, state_dir=report.state_dir, run_name_or_id=owner, limit_s=CALL_S)
    except NotFound:
        return None
    if found is None:
        return None
    if found.spec_digest != digest_of(spec):
        raise UsageError(
            f"{spec.name} was armed on {box.name} with another command or folder (run {owner})",
            where=spec.name,
            hint="a new command makes a new run, which supersedes the old one",
            next=(f"babysit handbook {spec.name}", f"babysit arm {box.name} {spec.name} --again"),
        )
    known = ledger.runs.find(owner)
    run = run_of(found, box, armed_at=known.armed_at if known else clock.now())
    # Thresholds may change without a new run; the command may not.
    run = msgspec.structs.replace(run, spec=msgspec.structs.replace(spec, box=box.name))
    ledger.runs.put(run)
    return run


def _new_run(box: BoxSpec, spec: RunSpec, report: BoxReport) -> Run:
    run_id = f"{spec.name[:58]}-{''.join(secrets.choice(_SUFFIX) for _ in range(5))}"
    nonce = secrets.token_hex(16)
    return Run(
        run_id=run_id,
        spec=msgspec.structs.replace(spec, box=box.name),
        box=box,
        nonce=nonce,
        tag=tag_of(run_id, nonce),
        chain="",
        spec_digest=digest_of(spec),
        armed_at=clock.now(),
        box_id=report.box_id,
    )


def _as_changed(settled: Settled) -> Settled:
    every = frozenset(verdict.run_id for verdict in settled.verdicts)
    return msgspec.structs.replace(settled, changed=every)


def _all_of(refused: Sequence[BoxRefused], box: str) -> BoxRefused:
    """One error with every reason, so that the next try is the last."""
    if len(refused) == 1:
        return refused[0]
    hint = "\n".join(f"  {error.what}{f' ({error.hint})' if error.hint else ''}" for error in refused)
    following = tuple(dict.fromkeys(command for error in refused for command in error.next))
    return BoxRefused(f"{len(refused)} things stand in the way", where=box, hint=hint, next=following)
