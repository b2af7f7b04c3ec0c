"""Confirm a box's host key: show what is known and what is offered, pin only what a person confirmed."""

from msgspec import Struct
from msgspec.structs import replace

from babysit.acts.visit import Ask, look, no_such_box
from fleet import clock
from fleet.errors import HostKeyChanged, LinkError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.link.hostkeys import HostKey, fingerprint
from fleet.model.probe import Cause, Reachable, Unreachable
from fleet.model.reading import Known
from fleet.model.spec import BoxSpec

_LIMIT_S = 20.0


class Offer(Struct, frozen=True):
    """A box's key as it stands and as it is offered now; `known` None: none was confirmed so far.

    `address` is where it is offered, `HOST:PORT`.
    """

    box: str
    known: Pin | None
    offered: HostKey
    address: str

    @property
    def known_fingerprint(self) -> str | None:
        """`SHA256:…` of the pinned key."""
        return fingerprint(self.known.key_b64) if self.known else None

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the offered key."""
        return fingerprint(self.offered.b64)

    @property
    def same(self) -> bool:
        """Whether the offered key is the pinned one."""
        return self.known is not None and self.known.key_b64 == self.offered.b64

    @property
    def other_type(self) -> str | None:
        """The type of the pinned key, when that was asked for first and the box offered none of it."""
        known = self.known.key_type if self.known else None
        return known if known != self.offered.type else None

    @property
    def moved_from(self) -> str | None:
        """Where the pinned key was confirmed, when it is offered somewhere else; None: it did not move."""
        known = self.known.address if self.known else None
        return known if self.same and known not in (None, self.address) else None


class Likeness(Struct, frozen=True):
    """Whether a box that moved is the one that its runs are on, by the random id that it keeps in its home.

    `same` None: that cannot be told; `says` has the reason, or what was seen.
    """

    same: bool | None
    says: str


def offer(ledger: Ledger, box: BoxSpec, *, like_known: bool = True) -> Offer:
    """What the box shows now, without logging in: a key of the pinned type, unless it has none.

    Without `like_known` it shows what it shows to anybody. Raises LinkError, NotFound.
    """
    from fleet.link.address import resolve  # noqa: PLC0415 - fabric and paramiko are slow to import
    from fleet.link.ssh import offered_key  # noqa: PLC0415 - as above

    address = resolve(box)
    known = ledger.pins.find(box.name)
    first = HostKey(known.key_type, known.key_b64) if known and like_known else None
    try:
        shown = offered_key(address, limit_s=_LIMIT_S, box_name=box.name, first=first)
    except LinkError as error:
        raise (no_such_box(box, error) or error) from None
    return Offer(box.name, known, shown, address.place)


def likeness(ledger: Ledger, box: BoxSpec, shown: Offer) -> Likeness:
    """Log in with the pinned key and compare the box's id with the one that its runs hold."""
    runs = tuple(run for run in ledger.runs.all() if run.box.name == box.name)
    held = {run.box_id for run in runs} - {None}
    if shown.known is None or not held:
        return Likeness(None, "no run here holds a box id to compare with")
    seen = look(Ask(box, runs[:1], {}, replace(shown.known, address=None))).probe
    match seen:
        case Unreachable(says=says):
            return Likeness(None, f"its box id was not read: {says}")
        case Reachable() if isinstance(seen.box.box_id, Known) and seen.box.box_id.value in held:
            return Likeness(True, "the same box id")
    return Likeness(False, "not the box id that its runs hold")


def pin(ledger: Ledger, offered: Offer, source: str) -> None:
    """From now on the box must show the offered key, at this address; it is asked again at once."""
    key = offered.offered
    ledger.pins.put(Pin(offered.box, key.type, key.b64, clock.now(), source, offered.address))
    ledger.away.answered(offered.box)


def confirm(ledger: Ledger, box: BoxSpec, wanted: str) -> HostKey:
    """The box's key, pinned, if its fingerprint is `wanted`. Raises HostKeyChanged when it is another."""
    shown = offer(ledger, box)
    if shown.fingerprint != wanted and shown.known is not None:
        # A box has keys of several types, and a console may show any of them.
        shown = offer(ledger, box, like_known=False)
    if shown.fingerprint != wanted:
        raise not_it(shown, wanted)
    pin(ledger, shown, "fingerprint")
    return shown.offered


def not_it(shown: Offer, wanted: str) -> HostKeyChanged:
    """The refusal of a key that is not the one that somebody expects."""
    says = f"the box offers {shown.fingerprint}, not {wanted}; nothing was pinned or sent"
    away = Unreachable(
        Cause.HOSTKEY_CHANGED,
        says,
        transient=False,
        at=clock.now(),
        took_s=0.0,
        known=wanted,
        offered=shown.fingerprint,
    )
    return HostKeyChanged(away, where=shown.box, next=(f"babysit trust {shown.box}",))
