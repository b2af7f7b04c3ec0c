"""What an arm would put on a box and start there. Looks at the box; writes nothing there and nothing here."""

from msgspec import Struct

from babysit.acts.arm import looked_at, new_run, plan_of
from babysit.acts.here import Here
from babysit.acts.owner import At, found_at, nothing_lives, one_folder, same_job, typed_again
from babysit.acts.visit import opened
from fleet.arming.chain import render
from fleet.arming.preflight import BoxReport
from fleet.arming.preflight_rules import warnings
from fleet.arming.ship import build_pyz, onbox_name
from fleet.link.base import COMMAND
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec
from fleet.text.quote import sh

_NONCE = b"(32 random hex digits, drawn when the run is armed)\n"


class Rehearsal(Struct, frozen=True):
    """`files` maps a path in `folder` to its bytes; empty when the name has this very job already.

    A new run's id, and so its folder and the name of its chain, is drawn anew each time. `remote_command` is
    what sshd would be asked to run, each time; `start` the command that would begin the chain there.
    `sends` None: the tool `tool` is on the box already, else its size in bytes.
    """

    run: Run
    report: BoxReport
    folder: str
    files: dict[str, bytes]
    tool: str
    sends: int | None
    remote_command: str
    start: str
    warnings: tuple[str, ...]


def rehearse(place: Here, box: BoxSpec, spec: RunSpec, *, again: bool = False) -> Rehearsal:
    """What `arm` would do now. Raises what `arm` raises before it writes anything."""
    with place.ledger(write=False) as ledger, opened(ledger, box, keep=False) as link:
        one_folder(ledger, box)
        pyz, digest = build_pyz()
        name = onbox_name(digest)
        report = looked_at(link, box, spec, name, dry=True)
        typed = typed_again(spec, in_file=spec.name in place.spec.runs)
        at = At(link, ledger, box, spec, report, typed, keep=False)
        if again:
            nothing_lives(at, report.owner)
        found = None if again else found_at(at, report.owner)
        run = new_run(box, spec, report) if found is None else same_job(at, found)
    tool = f"{report.home}/.local/share/babysit/{name}"
    rendered = render(run, plan_of(box, report, tool))
    folder = f"{report.state_dir}/runs/{run.run_id}"
    chain = rendered.chain_name if found is None else found.chain
    return Rehearsal(
        run=run,
        report=report,
        folder=folder,
        files={**rendered.files, "nonce": _NONCE} if found is None else {},
        tool=tool,
        sends=None if report.onbox_sum is not None else len(pyz),
        remote_command=COMMAND,
        start=f"sh {sh(f'{folder}/{chain}')} 0",
        warnings=warnings(report, spec, box),
    )
