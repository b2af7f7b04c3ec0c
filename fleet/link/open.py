"""The one door to a box: a link over the transport that its spec names."""

from collections.abc import Callable
from typing import Protocol

from fleet.link.address import Address, resolve
from fleet.link.base import Link
from fleet.link.hostkeys import HostKey
from fleet.link.light import load_paramiko
from fleet.model.spec import BoxSpec


class OpenLink(Link, Protocol):
    """A link to a box that proved who it is, and let us in."""

    @property
    def host_key(self) -> HostKey | None:
        """The key it proved to have, for the caller to pin; None where a certificate authority vouched."""

    @property
    def strict_kex(self) -> bool | None:
        """Whether both sides kept the strict order of the key exchange; None: it was not told."""


def connect(
    box: BoxSpec,
    *,
    pinned: HostKey | None,
    limit_s: float,
    address: Address | None = None,
    probe: bool = False,
) -> OpenLink:
    """A link to `box`, logged in, within `limit_s`. `address` is `resolve(box)`, where that is known already.

    `probe` says that one question is asked of many boxes: what only a longer stay may need is left out.
    The box must prove to have `pinned`, or with None a key that the user's known_hosts files know; nothing
    is ever written there. Raises UsageError, or LinkError: HostKeyUnknown, HostKeyChanged, AuthRefused,
    LinkTimeout or itself, with the cause in `away`; then no process, thread or descriptor is left.
    """
    links = _PROBES if probe else _LINKS
    return links[box.link](box, address or resolve(box), pinned, limit_s)


def _fabric(box: BoxSpec, address: Address, pinned: HostKey | None, limit_s: float) -> OpenLink:
    load_paramiko()
    from fleet.link import ssh  # noqa: PLC0415 - fabric and paramiko are slow to import

    return ssh.connect(address, box_name=box.name, pinned=pinned, limit_s=limit_s)


def _bare(box: BoxSpec, address: Address, pinned: HostKey | None, limit_s: float) -> OpenLink:
    load_paramiko()
    from fleet.link import ssh  # noqa: PLC0415 - as above

    return ssh.connect(address, box_name=box.name, pinned=pinned, limit_s=limit_s, probe=True)


def _ssh(box: BoxSpec, address: Address, pinned: HostKey | None, limit_s: float) -> OpenLink:
    from fleet.link import openssh  # noqa: PLC0415 - most boxes never need it

    return openssh.connect(box, address, pinned=pinned, limit_s=limit_s)


_LINKS: dict[str, Callable[[BoxSpec, Address, HostKey | None, float], OpenLink]] = {
    "fabric": _fabric,
    "ssh": _ssh,
}
_PROBES = {**_LINKS, "fabric": _bare}
