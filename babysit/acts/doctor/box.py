"""One visit to the box that was named, for all the checks of it: how far it came, and what came back."""

import sys

import msgspec
from msgspec import Struct

from babysit.acts.doctor import cron
from babysit.acts.doctor.as_cron import Answer, Request
from babysit.acts.doctor.ground import Ground
from babysit.acts.visit import opened
from fleet import clock
from fleet.arming.preflight import BoxReport, preflight
from fleet.errors import BabysitError, LinkError
from fleet.ledger.ledger import Ledger
from fleet.link.address import Address, resolve
from fleet.link.child import run
from fleet.link.hostkeys import HostKey
from fleet.model.probe import Cause
from fleet.model.run import Run
from fleet.model.spec import BoxSpec

LOGIN_S = 15.0  # a doctor's patience; a tick has the box's own limit
_ANSWER_S = 15.0
_TURN_S = 10.0
_CRON_EXTRA_S = 5.0
VISIT_S = 2 * LOGIN_S + _ANSWER_S + _TURN_S + _CRON_EXTRA_S

# How far a visit comes, in this order; the step that failed is the one that gets the line.
STEPS = ("address", "tcp", "ssh", "host key", "login", "answer")
_STEP_OF: dict[Cause, str] = {
    Cause.RESOLVE: "address",
    Cause.REFUSED: "tcp",
    Cause.NO_ROUTE: "tcp",
    Cause.TIMEOUT_CONNECT: "tcp",
    Cause.HOSTKEY_UNKNOWN: "host key",
    Cause.HOSTKEY_CHANGED: "host key",
    Cause.MOVED: "host key",
    Cause.WAY: "tcp",
    Cause.WAY_AUTH: "tcp",
    Cause.WAY_HOSTKEY: "tcp",
    Cause.AUTH: "login",
}


class BoxSeen(Struct, frozen=True):
    """What one visit showed. `trouble` ended it at `step`; None: it came through.

    `pinned` is the key it had to show, None when no key was ever confirmed here. `connected_s` is the time
    from name to login, `turn_s` one round trip; `strict_kex` None: it was not told. `cron` is how a login
    went as cron would try it, None when it was not tried. `doubts` are reasons not to believe that the box
    itself is to blame.
    """

    box: BoxSpec
    pinned: HostKey | None
    runs: tuple[Run, ...] = ()
    doubts: tuple[str, ...] = ()
    address: Address | None = None
    host_key: HostKey | None = None
    connected_s: float | None = None
    turn_s: float | None = None
    strict_kex: bool | None = None
    report: BoxReport | None = None
    cron: Answer | None = None
    step: str = "address"
    trouble: BabysitError | None = None

    @property
    def cause(self) -> Cause | None:
        """Why it could not be asked, when the link says so."""
        return self.trouble.away.cause if isinstance(self.trouble, LinkError) else None


def visit(ground: Ground) -> BoxSeen | None:
    """What the box that was named shows now, within VISIT_S; None when none was named. Pins nothing.

    Makes the state folder on the box, and its id, as every arm does.
    """
    box = ground.box
    if box is None:
        return None
    seen = BoxSeen(
        box,
        ground.pins.get(box.name),
        runs=tuple(run for run in ground.runs if run.box.name == box.name),
        doubts=_doubts(ground),
    )
    try:
        seen = msgspec.structs.replace(seen, address=resolve(box))
        with _pins(ground) as ledger:
            return _inside(seen, ground, ledger)
    except LinkError as error:
        step = _STEP_OF.get(error.away.cause, "ssh")
        return msgspec.structs.replace(seen, step=step, trouble=error)
    except BabysitError as error:
        return msgspec.structs.replace(seen, trouble=error)


def _inside(seen: BoxSeen, ground: Ground, ledger: Ledger) -> BoxSeen:
    box, began = seen.box, clock.monotonic()
    with opened(ledger, box, limit_s=min(box.limit_s, LOGIN_S), keep=False) as link:
        seen = msgspec.structs.replace(
            seen,
            step="answer",
            host_key=link.host_key,
            strict_kex=link.strict_kex,
            connected_s=clock.monotonic() - began,
        )
        try:
            turn_s = link.run(b":", b"", limit_s=_TURN_S).took_s
            report = preflight(link, box=box, run_name="doctor", onbox_name="doctor", limit_s=_ANSWER_S)
        except BabysitError as error:
            return msgspec.structs.replace(seen, trouble=error)
    cron = as_cron(box, seen.pinned or seen.host_key, ground)
    return msgspec.structs.replace(seen, turn_s=turn_s, report=report, cron=cron)


def _pins(ground: Ground) -> Ledger:
    """The ledger for reading; where it cannot be read, an empty one: no key is known then."""
    folder = ground.place.folder / "none" if ground.unread is not None else ground.place.folder
    return Ledger.open(folder, write=False)


def as_cron(box: BoxSpec, key: HostKey | None, ground: Ground) -> Answer:
    """How a login to `box` goes in a child with cron's environment."""
    request = msgspec.json.encode(Request(box, key, min(box.limit_s, LOGIN_S)))
    words = [sys.executable, "-I", "-m", "babysit.acts.doctor.as_cron"]
    env = {**cron.environment(), "BABYSIT_STATE": str(ground.place.folder)}
    ended = run(words, limit_s=LOGIN_S + _CRON_EXTRA_S, env=env, given=request)
    try:
        return msgspec.json.decode(ended.out, type=Answer)
    except msgspec.MsgspecError:
        says = (
            "no answer in time"
            if ended.status is None
            else f"the child ended with {ended.status}: {ended.said}"
        )
        return Answer(says)


def _doubts(ground: Ground) -> tuple[str, ...]:
    found = []
    if ground.place.broken is not None:
        found.append("babysit.toml, which may describe this box, cannot be used")
    if ground.unread is not None:
        found.append("the ledger, which may hold this box's key, cannot be read")
    return tuple(found)
