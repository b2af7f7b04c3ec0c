"""Arm a run: look at the box, put everything there, start it, see it live, write it down.

Safe to repeat at every moment: the name is claimed on the box, and the chain's own locks and fence decide
whether anything starts (P1). What was begun here and not finished is adopted by the next call.
"""

import contextlib
import secrets
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from babysit.acts import handing
from babysit.acts.here import Here
from babysit.acts.owner import At, found_at, keep_as_owner, nothing_lives, one_folder, same_job, typed_again
from babysit.acts.settle import Settled, hand_on, settle
from babysit.acts.starting import CALL_S, refusal, start, verified, with_code
from babysit.acts.visit import opened
from fleet import clock
from fleet.arming.chain import BoxPlan, digest_of, render, tag_of
from fleet.arming.code import CodeNews, compared
from fleet.arming.place import IPC, Linked, claim, link_ipc, ship, ship_anyway
from fleet.arming.preflight import BoxReport, preflight
from fleet.arming.preflight_rules import refusals, warnings
from fleet.arming.ship import build_pyz
from fleet.arming.start import Launched
from fleet.errors import BabysitError, BoxRefused, Busy
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec
from fleet.model.verdict import Verdict

# What an arm does, in this order; a caller is told when each begins.
STEPS = ("preflight", "intent", "ship", "place", "launch", "verify", "record", "ipc", "handbook")
_SUFFIX = "abcdefghjkmnpqrstuvwxyz23456789"


class Armed(Struct, frozen=True):
    """What arming led to. `launched` None: nothing was started, because it was so already.

    `news` is what became of the code since a run that was there already began; None for a new one.
    `unwatched` are stages that shall be watched now, but are not in that run; `unlisted` is the folder in
    which its loops shall be listed now, but are not ("" for the usual one), None where they are.
    """

    run: Run
    verdict: Verdict
    report: BoxReport
    launched: Launched | None
    news: CodeNews | None = None
    unwatched: tuple[str, ...] = ()
    unlisted: str | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """The stages that are watched; none on a box without python."""
        return tuple(stage.name for stage in self.run.spec.stages if stage.monitor and self.report.python)


def arm(
    place: Here,
    box: BoxSpec,
    spec: RunSpec,
    *,
    again: bool = False,
    step: Callable[[str, object], None] = lambda _name, _facts: None,
) -> Armed:
    """Make sure that `spec` runs on `box`, started at most once.

    `again` makes a new run although the name has one, which must be over. `step(name, facts)` is called when
    each of STEPS begins, with what is known by then. Raises BoxRefused with all reasons, UsageError when the
    name belongs to another command, Superseded, StillAlive, LinkError.
    """
    began = clock.now()
    with place.ledger() as ledger, opened(ledger, box) as link:
        one_folder(ledger, box)
        step("preflight", None)
        pyz, digest = build_pyz()
        tool = f"onbox-{digest}.pyz"
        report = looked_at(link, box, spec, tool)
        step("intent", (report, warnings(report, spec, box)))
        ledger.boxes.put(box)
        at = At(link, ledger, box, spec, report, typed_again(spec, in_file=spec.name in place.spec.runs))
        if again:
            nothing_lives(at, report.owner)
        run = None if again else _adopted(at, report.owner)
        news = None if run is None else compared(run.code, report.code)
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
        run = with_code(link, ledger, run, report.code, launched)
        settled = settle(place, ledger, ((run, seen),), origin="arm", began=began)
        _ipc_linked(link, box, report, (pyz, tool), step)
        step("handbook", run)
        handing.rewrite(place, ledger, (run,), _as_changed(settled), reached=set(), limit_s=CALL_S, link=link)
        hand_on(place, ledger)
    verdict = settled.verdicts[0]
    # "Alive" or "busy" and seen to run is what an arm wants; beside a run that is not, they are errors.
    not_started = refusal(launched, run)
    if not_started is not None and verdict.exit_code != 0:
        raise not_started
    pairs = zip(spec.stages, run.spec.stages, strict=True)
    unwatched = tuple(wanted.name for wanted, armed in pairs if wanted.monitor and not armed.monitor)
    unlisted = None if box.loops == run.box.loops else box.loops or ""
    fresh = launched if launched.word == "started" else None
    return Armed(run, verdict, report, fresh, news, unwatched, unlisted)


def _ipc_linked(
    link: Link, box: BoxSpec, report: BoxReport, tool: tuple[bytes, str], step: Callable[[str, object], None]
) -> None:
    """The command for loops, where it is and where its owner agreed to a link. No reason to fail an arm."""
    if report.python is None:
        return
    linked = Linked("", f"{report.home}/.local/share/babysit/{IPC}")
    with contextlib.suppress(BabysitError):
        if box.ipc_link is not None:
            linked = link_ipc(link, folder=box.ipc_link, where=box.name)
            if linked.word == "missing":
                ship_anyway(link, *tool, where=box.name)
                linked = link_ipc(link, folder=box.ipc_link, where=box.name)
    step("ipc", linked)


def looked_at(link: Link, box: BoxSpec, spec: RunSpec, tool: str, *, dry: bool = False) -> BoxReport:
    """The box as it is, when it can carry `spec`. Raises BoxRefused with every reason why it cannot."""
    report = preflight(
        link,
        box=box,
        run_name=spec.name,
        onbox_name=tool,
        limit_s=CALL_S,
        cwd=spec.cwd,
        spec=spec,
        dry=dry,
    )
    refused = refusals(report, spec, box)
    if refused:
        raise _all_of(refused, box.name)
    return report


def plan_of(box: BoxSpec, report: BoxReport, onbox: str) -> BoxPlan:
    """What the box of `report` offers a run, with the shipped tool at `onbox`."""
    return BoxPlan(
        state_dir=report.state_dir,
        lockdir=report.lock_dir if box.lock_dir else "-",
        python=report.python,
        onbox=onbox if report.python else None,
    )


def _placed(at: At, tool: tuple[bytes, str], step: Callable[[str, object], None]) -> Run:
    """A new run, whole on the box and owner of its name; or the one that was quicker to take it."""
    link, ledger, box, spec, report = at[:5]
    run = new_run(box, spec, report)
    intent = ledger.intents.begin(run.run_id, "arm", f"arm {spec.name} on {box.name}", clock.now())
    step("ship", run)
    shipped = ship(link, report, *tool)
    files = render(run, plan_of(box, report, shipped.path))
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
        loops=box.loops,
    )
    ledger.intents.done(intent, f"the name belongs to {taken.owner}", clock.now())
    if taken.owner != run.run_id:
        ledger.runs.put(msgspec.structs.replace(run, superseded_by=taken.owner))
        quicker = _adopted(at, taken.owner)
        if quicker is None:
            raise Busy(f"{spec.name} on {box.name} changed hands while it was armed", where=spec.name)
        return quicker
    keep_as_owner(ledger, run)
    return run


def _adopted(at: At, owner: str | None) -> Run | None:
    """The run that has the name on the box, now in this ledger too; None when there is none."""
    found = found_at(at, owner)
    if found is None:
        return None
    run = same_job(at, found)
    keep_as_owner(at.ledger, run)
    return run


def new_run(box: BoxSpec, spec: RunSpec, report: BoxReport) -> Run:
    """A run with an id and a nonce that no other has."""
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
        code=report.code,
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
