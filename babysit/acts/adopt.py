"""Take a run over from its box alone: an address, a key and a fingerprint are enough."""

import re

import msgspec

from babysit.acts.here import Here
from babysit.acts.trust import confirm
from babysit.acts.visit import Accepted, keep_pin, pinned_key
from fleet import clock
from fleet.arming.read_run import FoundRun, read_run
from fleet.errors import HostKeyChanged, HostKeyUnknown, NotFound, UsageError
from fleet.ledger.ledger import Ledger
from fleet.link.hostkeys import HostKey
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.text.by_hand import by_hand
from fleet.text.quote import sh

_LIMIT_S = 40.0
_AT = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?"
)


def box_at(at: str, *, name: str, identity: str | None, state_dir: str | None) -> BoxSpec:
    """The box behind `USER@HOST:PORT`. Raises UsageError for anything else."""
    match = _AT.fullmatch(at)
    if (
        match is None
        or match["host"].startswith("-")
        or (match["port"] and not 0 < int(match["port"]) < 65536)
    ):
        raise UsageError(f"not an address: {at!r}", where="--at", hint="write it as USER@HOST:PORT")
    port = int(match["port"]) if match["port"] else None
    return BoxSpec(
        name=name,
        host=match["host"].strip("[]"),
        user=match["user"],
        port=port,
        identity=identity,
        state_dir=state_dir,
    )


def adopt(place: Here, box: BoxSpec, name: str, fingerprint: str | None) -> Run:
    """The run of that name as the box keeps it, now in this ledger too. Nothing on the box is changed.

    With `fingerprint` the box's key is confirmed by it first. Raises NotFound, HostKeyUnknown,
    HostKeyChanged, LinkError.
    """
    from fleet.link.open import connect  # noqa: PLC0415 - the ways to a box are slow to import

    with place.ledger() as ledger:
        try:
            pinned = confirm(ledger, box, fingerprint) if fingerprint else None
            link = connect(box, pinned=pinned, limit_s=_LIMIT_S)
        except (HostKeyUnknown, HostKeyChanged) as error:
            raise _said_again(error, box, name) from None
        with link:
            found = read_run(link, state_dir=box.state_dir or "-", run_name_or_id=name, limit_s=_LIMIT_S)
            if found is None:
                raise NotFound(f"no run {name!r} on {box.host}", where=name, next=(by_hand(box),))
            run = run_of(found, box, armed_at=clock.now())
            box = _named(place, ledger, box, run, link.host_key)
            run = msgspec.structs.replace(run, box=box)
            if link.host_key is not None:
                source = "fingerprint" if fingerprint else "known_hosts"
                keep_pin(ledger, box.name, Accepted(link.host_key), source)
            ledger.boxes.put(box)
            ledger.runs.put(run)
    return run


def _named(place: Here, ledger: Ledger, box: BoxSpec, run: Run, shown: HostKey | None) -> BoxSpec:
    """`box` by the name its owner gave it, unless another box here has that name already."""
    name = run.spec.box or box.name
    known = place.spec.boxes.get(name) or ledger.boxes.find(name)
    if known is None:
        return msgspec.structs.replace(box, name=name)
    if shown is not None and pinned_key(ledger, name) == shown:
        return known  # the very machine, as it is called here
    return msgspec.structs.replace(box, name=f"{name[:40]}-{run.run_id[-5:]}")


def _said_again(
    error: HostKeyUnknown | HostKeyChanged, box: BoxSpec, name: str
) -> HostKeyUnknown | HostKeyChanged:
    """The same refusal, with the command that fits an adoption: there is no box of a name to trust yet."""
    user, port = f"{box.user}@" if box.user else "", f":{box.port}" if box.port else ""
    command = f"babysit resume {name} --at {sh(f'{user}{box.host}{port}')} --fingerprint {error.away.offered}"
    again = type(error)(error.away, where=box.host, next=(command,))
    again.hint = "compare the key with the provider's console first; this may be another machine"
    return again


def run_of(found: FoundRun, box: BoxSpec, *, armed_at: float) -> Run:
    """A run as its folder on the box describes it, as this ledger keeps runs."""
    return Run(
        run_id=found.run_id,
        spec=found.spec,
        box=box,
        nonce=found.nonce,
        tag=found.tag,
        chain=found.chain,
        spec_digest=found.spec_digest,
        armed_at=armed_at,
        launched=True,
        superseded_by=None if found.owner == found.run_id else found.owner,
        code=found.code,
    )
