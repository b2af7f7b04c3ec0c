"""Confirm a box's host key: show what is known and what is offered, pin only what a person confirmed."""

from msgspec import Struct

from fleet import clock
from fleet.errors import HostKeyChanged
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.link.hostkeys import HostKey, fingerprint
from fleet.model.probe import Cause, Unreachable
from fleet.model.spec import BoxSpec

_LIMIT_S = 20.0


class Offer(Struct, frozen=True):
    """A box's key as it stands and as it is offered now; `known` None: none was confirmed so far."""

    box: str
    known: Pin | None
    offered: HostKey

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


def offer(ledger: Ledger, box: BoxSpec) -> Offer:
    """What the box shows now, without logging in. Raises LinkError."""
    from fleet.link.address import resolve  # noqa: PLC0415 - fabric and paramiko are slow to import
    from fleet.link.ssh import offered_key  # noqa: PLC0415 - as above

    return Offer(box.name, ledger.pins.find(box.name), offered_key(resolve(box), limit_s=_LIMIT_S))


def pin(ledger: Ledger, offered: Offer, source: str) -> None:
    """From now on the box must show the offered key."""
    ledger.pins.put(Pin(offered.box, offered.offered.type, offered.offered.b64, clock.now(), source))


def confirm(ledger: Ledger, box: BoxSpec, wanted: str) -> HostKey:
    """The box's key, pinned, if its fingerprint is `wanted`. Raises HostKeyChanged when it is another."""
    shown = offer(ledger, box)
    if shown.fingerprint != wanted:
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
        raise HostKeyChanged(away, where=box.name, next=(f"babysit trust {box.name}",))
    pin(ledger, shown, "fingerprint")
    return shown.offered
