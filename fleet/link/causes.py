"""Why a box could not be asked: every foreign exception of the link becomes one LinkError here. Pure."""

import socket
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from fleet.errors import AuthRefused, HostKeyChanged, HostKeyUnknown, LinkError, LinkTimeout, WayRefused
from fleet.link.address import Address
from fleet.link.hostkeys import HostKey, Refuse, Shown
from fleet.link.way import Parting, blame
from fleet.model.probe import Cause, Unreachable
from fleet.text import quote
from fleet.text.untrusted import decode, render_untrusted


class Stage(StrEnum):
    """How far a visit had come."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    GREETING = "greeting"  # TCP stands, no SSH version yet
    HANDSHAKE = "handshake"  # version seen, keys being exchanged
    LOGIN = "login"  # the box is who it should be, we are not in yet
    COMMAND = "command"


class Scene(Struct, frozen=True):
    """What is known at the moment of failure, besides the exception.

    `ran_out`: our limit ended the visit. `hung_up`: the other side closed or reset the connection.
    `greeting` is what it had said before any SSH version. `refused_keys` were offered and not taken;
    `unusable_keys` could not be offered at all, each with the reason; `locked_keys` need a passphrase.
    `parting` is how the command on the way left, where it left before us. `no_common`: for what the two
    found no algorithm in common, and what the box offers for it ("" when that is not known).
    """

    stage: Stage
    took_s: float
    limit_s: float
    ran_out: bool = False
    hung_up: bool = False
    greeting: bytes = b""
    refused_keys: tuple[str, ...] = ()
    unusable_keys: tuple[str, ...] = ()
    locked_keys: tuple[str, ...] = ()
    parting: Parting | None = None
    no_common: tuple[str, str] | None = None


# What OpenSSH prints instead of its version when it will not have us now.
_SENT_AWAY = (b"Exceeded MaxStartups", b"Not allowed at this time")

_Test = Callable[[BaseException, Scene], bool]


def _at(*stages: Stage) -> _Test:
    return lambda _, scene: scene.stage in stages


def _silent_at(*stages: Stage) -> _Test:
    return lambda error, scene: scene.stage in stages and (scene.ran_out or isinstance(error, TimeoutError))


def _ended_at(*stages: Stage) -> _Test:
    return lambda _, scene: scene.stage in stages and scene.hung_up


def _reset_at_once(error: BaseException, scene: Scene) -> bool:
    return scene.stage == Stage.CONNECT and isinstance(error, ConnectionResetError)  # accepted, then dropped


def _sent_away(_: BaseException, scene: Scene) -> bool:
    said = scene.greeting.strip()
    return scene.stage == Stage.GREETING and scene.hung_up and (not said or said.startswith(_SENT_AWAY))


def _denied(_: BaseException, scene: Scene) -> bool:
    return scene.stage == Stage.LOGIN and (bool(scene.refused_keys) or not scene.hung_up)


# First match wins; the last row matches all.
_TABLE: tuple[tuple[_Test, Cause], ...] = (
    (lambda _, scene: scene.no_common is not None, Cause.WEAK),
    (_at(Stage.RESOLVE), Cause.RESOLVE),
    (lambda error, _: isinstance(error, ConnectionRefusedError), Cause.REFUSED),
    (_silent_at(Stage.CONNECT), Cause.TIMEOUT_CONNECT),
    (_reset_at_once, Cause.THROTTLED),
    (_at(Stage.CONNECT), Cause.NO_ROUTE),
    (_silent_at(Stage.GREETING), Cause.TIMEOUT_BANNER),
    (_silent_at(Stage.HANDSHAKE, Stage.LOGIN), Cause.TIMEOUT_HANDSHAKE),
    (_silent_at(Stage.COMMAND), Cause.TIMEOUT_COMMAND),
    (_sent_away, Cause.THROTTLED),
    (_at(Stage.GREETING), Cause.PROTOCOL),
    (_denied, Cause.AUTH),
    (_ended_at(Stage.HANDSHAKE, Stage.LOGIN, Stage.COMMAND), Cause.CUT),
    (lambda *_: True, Cause.PROTOCOL),
)

_SAYS = {
    Cause.RESOLVE: "the name {host} has no address{reason}",
    Cause.REFUSED: "nothing listens on {host} port {port}: connection refused",
    Cause.NO_ROUTE: "{host} port {port} cannot be reached{reason}",
    Cause.TIMEOUT_CONNECT: "no answer from {host} port {port} within {limit} s",
    Cause.TIMEOUT_BANNER: "{host} port {port} is open, but no SSH greeting came within {limit} s",
    Cause.TIMEOUT_HANDSHAKE: "{host} port {port} greeted, but the login was not over within {limit} s",
    Cause.TIMEOUT_COMMAND: "logged in to {host}, but the answer did not end within {limit} s",
    Cause.CUT: "the connection to {host} was cut {where} after {took} s",
    Cause.THROTTLED: "{host} port {port} hung up at the greeting: too many connections, or a gateway's limit",
    Cause.PROTOCOL: "what answers on {host} port {port} is not usable SSH{reason}",
    Cause.WEAK: "{host} port {port} speaks no {reason}; weak ones are off here",
    Cause.AUTH: "{host} did not let {user} in{reason}",
}

_CUT_WHERE = {
    Stage.HANDSHAKE: "in the key exchange",
    Stage.LOGIN: "during the login",
    Stage.COMMAND: "in the middle of an answer",
}

_LASTING = frozenset(
    {Cause.AUTH, Cause.PROTOCOL, Cause.WEAK, Cause.HOSTKEY_UNKNOWN, Cause.HOSTKEY_CHANGED}
    | {Cause.WAY_AUTH, Cause.WAY_HOSTKEY, Cause.MOVED}
)
_TIMEOUTS = frozenset(
    {Cause.TIMEOUT_CONNECT, Cause.TIMEOUT_BANNER, Cause.TIMEOUT_HANDSHAKE, Cause.TIMEOUT_COMMAND}
)


def cause_of(error: BaseException, scene: Scene) -> Cause:
    """The one word for why it failed: what the way's command says of itself, else the table's first match."""
    blamed = _blamed(scene)
    return blamed[0] if blamed else next(cause for test, cause in _TABLE if test(error, scene))


def _blamed(scene: Scene) -> tuple[Cause, str] | None:
    if scene.stage != Stage.GREETING or scene.parting is None or scene.greeting.strip():
        return None
    return blame(scene.parting)


def link_error(
    error: BaseException, scene: Scene, *, address: Address, box_name: str, at: float
) -> LinkError:
    """The LinkError for a foreign exception, with its sentence and the commands that help."""
    cause = cause_of(error, scene)
    blamed = _blamed(scene)
    through = address.way.through if address.way else ""
    words = scene.parting.last_words if scene.parting else ""
    says = (blamed[1] if blamed else _sentence(cause, through)).format(
        host=address.host,
        port=address.port,
        user=address.user,
        limit=f"{scene.limit_s:g}",
        took=f"{scene.took_s:.1f}",
        where=_CUT_WHERE.get(scene.stage, ""),
        reason=_reason(cause, error, scene),
        through=through,
        words=f", and said '{words}'" if words else ", and said nothing",
    )
    away = Unreachable(cause, says, transient=_transient(cause, error), at=at, took_s=scene.took_s)
    kind: type[LinkError] = LinkError
    if cause in _TIMEOUTS:
        kind = LinkTimeout
    elif cause == Cause.AUTH:
        kind = AuthRefused
    elif cause in {Cause.WAY_AUTH, Cause.WAY_HOSTKEY}:
        kind = WayRefused
    return kind(away, where=box_name, next=_next(cause, address, scene))


def _sentence(cause: Cause, through: str) -> str:
    if through and cause == Cause.TIMEOUT_BANNER:  # whether the port is open is not known then
        return "no SSH greeting from {host} port {port} came through {through} within {limit} s"
    return _SAYS[cause] + (" (through {through})" if through else "")


def host_key_error(
    refuse: Refuse,
    offered: HostKey | Shown,
    *,
    address: Address,
    box_name: str,
    at: float,
    took_s: float,
    skipped: tuple[str, ...] = (),
    fault: str = "",
) -> HostKeyUnknown | HostKeyChanged:
    """The error for a key that was not accepted. `skipped` names known_hosts files that were not read.

    `fault` is why a certificate for it does not count.
    """
    name, now = address.lookup_name, offered.fingerprint
    known = refuse.known.fingerprint if refuse.known else None
    if refuse.why in {"unknown", "authority"}:
        unread = f"; not read: {', '.join(skipped)}" if skipped else ""
        invalid = f"; its certificate does not count: {render_untrusted(fault, 80)}" if fault else ""
        says = (
            f"nobody has confirmed the host key of {name} yet: it offers {now} ({offered.type}); "
            f"nothing was sent{invalid}{unread}"
        )
        if refuse.why == "authority":
            says = (
                f"the host key of {name} is not in your known_hosts; a certificate authority there vouches "
                f"for it, which only the ssh program can check; nothing was sent{unread}"
            )
        away = Unreachable(Cause.HOSTKEY_UNKNOWN, says, transient=False, at=at, took_s=took_s, offered=now)
        unknown = HostKeyUnknown(away, where=box_name, next=(f"babysit trust {quote.sh(box_name)}",))
        if refuse.why == "authority":
            unknown.hint = f'set link = "ssh" in [box.{box_name}] of babysit.toml'
        return unknown
    if refuse.why == "revoked":
        says = f"{name} offers a host key that your known_hosts marks as revoked: {now}; nothing was sent"
        helps: tuple[str, ...] = ()
    else:
        says = (
            f"host key changed: {name} was known with {known}, now offers {now}; nothing was sent. "
            "Rented addresses are reused: this may be another machine. Check the provider's console"
        )
        helps = (f"babysit trust {quote.sh(box_name)} --fingerprint {now}",)
    away = Unreachable(
        Cause.HOSTKEY_CHANGED, says, transient=False, at=at, took_s=took_s, known=known, offered=now
    )
    return HostKeyChanged(away, where=box_name, next=helps)


def _transient(cause: Cause, error: BaseException) -> bool:
    if cause == Cause.RESOLVE and isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return cause not in _LASTING


def _reason(cause: Cause, error: BaseException, scene: Scene) -> str:
    """Why, as far as it is known, in our words; of a foreign text only an errno's sentence is shown."""
    if cause == Cause.RESOLVE:
        unknown = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        return ": no such name" if unknown else ": the name service did not answer"
    if cause == Cause.NO_ROUTE:
        return f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    if cause == Cause.WEAK and scene.no_common is not None:
        what, offer = scene.no_common
        return f"{what} that we use" + (f" (it offers {render_untrusted(offer, 200)})" if offer else "")
    if cause == Cause.PROTOCOL:
        return _protocol_reason(scene)
    return _login_reason(scene) if cause == Cause.AUTH else ""


def _protocol_reason(scene: Scene) -> str:
    if scene.stage == Stage.COMMAND:
        return ": it refused to open a session"
    if scene.stage != Stage.GREETING:
        return ": the key exchange failed"
    said = scene.greeting.strip().split(b"\n")[0]
    return f": it says {render_untrusted(decode(said), 80)!r}" if said else ""


def _login_reason(scene: Scene) -> str:
    parts = []
    if scene.refused_keys:
        parts.append(f"it refused {', '.join(scene.refused_keys)}")
        if scene.hung_up:
            parts.append("and hung up (too many keys were tried: name one with `identity`)")
    parts += scene.unusable_keys
    if scene.locked_keys:
        parts.append(
            f"{', '.join(scene.locked_keys)} has a passphrase and is in no ssh-agent we can reach "
            "(under cron there is none)"
        )
    if not parts:
        parts.append("there is no key to offer: neither an identity file nor an ssh-agent")
    return ": " + "; ".join(parts)


def _next(cause: Cause, address: Address, scene: Scene) -> tuple[str, ...]:
    if cause == Cause.AUTH and scene.locked_keys:
        return (f"ssh-add {quote.sh(scene.locked_keys[0])}", address.by_hand)
    return (address.by_hand,) if address.by_hand else ()
