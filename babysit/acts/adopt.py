"""Take a run over from its box alone: an address, a key and a fingerprint are enough."""

import re
from typing import NamedTuple

import msgspec

from babysit.acts.here import Here
from babysit.acts.trust import Likeness, confirm
from babysit.acts.visit import Accepted, ask, keep_pin, pinned_key
from fleet import clock
from fleet.arming.read_run import FoundRun, read_run
from fleet.errors import HostKeyChanged, HostKeyUnknown, NotFound, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.link.base import Link
from fleet.link.hostkeys import HostKey
from fleet.model.probe import BoxFacts, Reachable
from fleet.model.reading import Known
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.text.by_hand import by_hand
from fleet.text.quote import sh

_LIMIT_S = 40.0
_AT = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._@-]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?"
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


class Adopted(NamedTuple):
    """A run that was taken over.

    `says`: why its box is, or is not, the one that has its name here; empty where none has.
    """

    run: Run
    says: str


def adopt(place: Here, box: BoxSpec, name: str, fingerprint: str | None) -> Adopted:
    """The run of that name as the box keeps it, now in this ledger too. Nothing on the box is changed.

    With `fingerprint` the box's key is confirmed by it first. Raises NotFound, HostKeyUnknown,
    HostKeyChanged, LinkError.
    """
    from fleet.link.address import resolve  # noqa: PLC0415 - the ways to a box are slow to import
    from fleet.link.open import connect  # noqa: PLC0415 - as above

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
            address = resolve(box).place
            run = run_of(found, box, armed_at=clock.now())
            run = msgspec.structs.replace(run, box_id=_box_id(link, run))
            box, says = _named(place, ledger, run, link.host_key, address)
            run = msgspec.structs.replace(run, box=msgspec.structs.replace(box, loops=found.loops))
            if link.host_key is not None:
                source = "fingerprint" if fingerprint else "known_hosts"
                keep_pin(ledger, box.name, Accepted(link.host_key), source)
            ledger.boxes.put(box)
            ledger.runs.put(run)
    return Adopted(run, says)


def _box_id(link: Link, run: Run) -> str | None:
    """The random id that the run's box keeps in its state folder; None where it was not read."""
    match ask(link, run.box.name, (run,), {}):
        case Reachable(box=BoxFacts(box_id=Known(value=found))):
            return found
    return None


def _named(place: Here, ledger: Ledger, run: Run, shown: HostKey | None, address: str) -> tuple[BoxSpec, str]:
    """The run's box by the name its owner gave it, unless another machine has that name here; and why so."""
    box, name = run.box, run.spec.box or run.box.name
    known = place.spec.boxes.get(name) or ledger.boxes.find(name)
    if known is None:
        return msgspec.structs.replace(box, name=name), ""
    pin = ledger.pins.find(name)
    same_key = shown is not None and pinned_key(ledger, name) == shown
    runs = ledger.runs.all(current=False)
    held = frozenset(each.box_id for each in runs if each.box.name == name and each.box_id)
    alike = same_machine(name, held, run.box_id, same_key=same_key, same_place=_at(pin, known) == address)
    if alike.same:
        return known, alike.says
    return msgspec.structs.replace(box, name=f"{name[:40]}-{run.run_id[-5:]}"), alike.says


def _at(pin: Pin | None, known: BoxSpec) -> str | None:
    """Where the box of that name is: where its key was confirmed, else where it would be asked."""
    from fleet.link.address import resolve  # noqa: PLC0415 - asks ssh for the alias

    return pin.address if pin and pin.address else resolve(known).place


def same_machine(
    name: str, held: frozenset[str], found: str | None, *, same_key: bool, same_place: bool
) -> Likeness:
    """Whether a box is the one called `name` here. A key alone proves nothing: images share keys. Pure.

    `held` are the box ids that runs on `name` have, `found` is this box's; `same_place`: at the same address.
    """
    if not same_key:
        return Likeness(False, f"it is not {name}, whose host key is another")
    if found is not None and held:
        if found in held:
            return Likeness(True, f"it is {name}: the same host key and box id")
        return Likeness(
            False, f"it is not {name}: the same host key, as images share them, but another box id"
        )
    if same_place:
        return Likeness(True, f"it is taken for {name}: the same host key at the same address")
    why = "no run here holds a box id" if found is not None else "its box id was not read"
    return Likeness(
        None, f"whether it is {name} is unknown: the same host key, as images share them, and {why}"
    )


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
        box=msgspec.structs.replace(box, loops=found.loops),
        nonce=found.nonce,
        tag=found.tag,
        chain=found.chain,
        spec_digest=found.spec_digest,
        armed_at=armed_at,
        launched=True,
        superseded_by=None if found.owner == found.run_id else found.owner,
        code=found.code,
    )
