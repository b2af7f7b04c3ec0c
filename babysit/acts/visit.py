"""Visits to boxes: open a link with the box's pinned key, ask one probe, or many boxes side by side."""

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from babysit.acts.abreast import abreast
from fleet import clock
from fleet.errors import BoxMoved, LedgerError, LinkError, NotFound, ProbeUnreadable, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.link.base import Link
from fleet.link.hostkeys import HostKey
from fleet.link.open import OpenLink
from fleet.model.probe import Cause, Probe, Reachable, Unreachable
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, Spec
from fleet.text import frame, quote
from fleet.text.templates import box_script
from patrol.ask import request_pairs
from patrol.history import History
from patrol.readers import read_probe

if TYPE_CHECKING:
    from fleet.link.answers import Answers

_ANSWER_S = 16.0  # what a probe may take where nobody set a limit

# Nothing reached the box then, or it answered: asking again soon burdens nobody.
_NO_BURDEN = frozenset({Cause.RESOLVE, Cause.NO_ROUTE, Cause.UNREADABLE})


class Accepted(Struct, frozen=True):
    """The key that a box proved to have, and where it did, as `HOST:PORT` (None: that does not count)."""

    key: HostKey
    address: str | None = None


class Ask(Struct, frozen=True):
    """One box to be asked, with what is known of its runs. `pinned` None: no key was confirmed yet.

    `answers` remembers what ssh said of the box's name; None: ssh is asked.
    """

    box: BoxSpec
    runs: tuple[Run, ...]
    histories: Mapping[str, History]
    pinned: Pin | None
    answers: "Answers | None" = None


class Look(Struct, frozen=True):
    """What a visit brought back; `accepted` is the box's key, None when it never came so far.

    None too where not a key but a certificate authority vouched: there is nothing to pin then.
    """

    probe: Probe
    accepted: Accepted | None = None


@contextmanager
def opened(
    ledger: Ledger, box: BoxSpec, *, limit_s: float | None = None, keep: bool = True
) -> Iterator[OpenLink]:
    """An open link to `box`, its key checked and pinned. Raises LinkError, or NotFound.

    Opening takes `limit_s` at most (None: the box's own); what is asked over the link has its own limits.
    Without `keep` nothing is written down here.
    """
    with _connected(box, ledger.pins.find(box.name), limit_s or box.limit_s) as (link, accepted):
        if keep and accepted is not None:
            keep_pin(ledger, box.name, accepted)
        if keep:
            with suppress(LedgerError):  # on a full disk a box rests longer than it need, and that is all
                ledger.away.answered(box.name)
        yield link


def pinned_key(ledger: Ledger, box: str) -> HostKey | None:
    """The confirmed host key of a box, None when there is none."""
    pin = ledger.pins.find(box)
    return HostKey(pin.key_type, pin.key_b64) if pin else None


def keep_pin(ledger: Ledger, box: str, accepted: Accepted, source: str = "known_hosts") -> None:
    """Pin what was accepted, once; a pin from before addresses were noted gets its address now."""
    key, pin = accepted.key, ledger.pins.find(box)
    if pin is None or (pin.key_type, pin.key_b64) != (key.type, key.b64):
        ledger.pins.put(Pin(box, key.type, key.b64, clock.now(), source, accepted.address))
    elif pin.address is None and accepted.address is not None:
        ledger.pins.put(replace(pin, address=accepted.address))


def ask(
    link: Link,
    where: str,
    runs: Sequence[Run],
    histories: Mapping[str, History],
    *,
    wait: tuple[str, int] | None = None,
    limit_s: float = _ANSWER_S,
) -> Probe:
    """One probe over an open link; an answer that cannot be read is Unreachable with its cause.

    `wait` is (run id, seconds): the box waits so long for that run's end before it answers; `limit_s`
    holds for all of it.
    """
    token = secrets.token_hex(16)
    pairs = request_pairs(runs, histories, gpu=True, wait=wait)
    began = clock.monotonic()
    try:
        reply = link.run(
            box_script("frame", "records", "scan", "wait", "probe"),
            frame.request(token, pairs),
            limit_s=limit_s,
        )
        took_s = clock.monotonic() - began
        sections = frame.sections(reply.stdout, token, where=where)
        seen = read_probe(sections, runs, at=clock.now(), took_s=took_s)
        return replace(seen, strict_kex=getattr(link, "strict_kex", None))  # a link without SSH has none
    except LinkError as error:
        return error.away
    except ProbeUnreadable as error:
        took_s = clock.monotonic() - began
        return Unreachable(Cause.UNREADABLE, error.what, transient=True, at=clock.now(), took_s=took_s)


def look(wanted: Ask, *, wait: tuple[str, int] | None = None) -> Look:
    """One visit: connect, one probe on one channel, leave. Never raises for a box that is away."""
    began = clock.monotonic()
    try:
        limit_s = wanted.box.limit_s + (wait[1] if wait else 0)
        with briefly(wanted) as (link, accepted):
            left_s = max(1.0, limit_s - (clock.monotonic() - began))
            seen = ask(link, wanted.box.name, wanted.runs, wanted.histories, wait=wait, limit_s=left_s)
            return Look(seen, accepted)
    except LinkError as error:
        return Look(error.away)
    except (NotFound, UsageError) as error:
        took_s = clock.monotonic() - began
        return Look(Unreachable(Cause.RESOLVE, error.what, transient=False, at=clock.now(), took_s=took_s))


def look_at_runs(
    ledger: Ledger,
    runs: Sequence[Run],
    spec: Spec,
    histories: Mapping[str, History],
    *,
    limit_s: float,
    answers: "Answers | None" = None,
) -> dict[str, Probe]:
    """One probe of each box that `runs` are on, by the box's name; what is learnt of the boxes is kept.

    `answers` are as in Ask; they forget a box that did not answer.
    """
    asks = [
        Ask(
            box,
            tuple(run for run in runs if run.box.name == name),
            histories,
            ledger.pins.find(name),
            answers,
        )
        for name, box in boxes_of(runs, spec).items()
    ]
    looks = look_at_all(asks, limit_s=limit_s)
    for name, found in looks.items():
        if found.accepted is not None:
            keep_pin(ledger, name, found.accepted)
        with suppress(LedgerError):  # on a full disk a box is asked more often, and that is all
            _note_answer(ledger, name, found.probe)
        if answers and isinstance(found.probe, Unreachable):
            answers.forget(name)
    return {name: found.probe for name, found in looks.items()}


def _note_answer(ledger: Ledger, box: str, probe: Probe) -> None:
    """Remember how often in a row `box` was asked in vain, so that a timer leaves it alone for a while."""
    match probe:
        case Reachable():
            ledger.away.answered(box)
        case Unreachable(cause=cause) if cause not in _NO_BURDEN:
            ledger.away.failed(box, cause, clock.now(), random.random())  # noqa: S311 - spreads connections


def look_at_all(asks: Sequence[Ask], *, limit_s: float) -> dict[str, Look]:
    """Every box's Look, by name, asked side by side; who has not answered within `limit_s` is Unreachable."""
    found = abreast({wanted.box.name: wanted for wanted in asks}, look, limit_s=limit_s)
    late = f"not answered when the tick's {limit_s:g} s were over"
    for wanted in asks:
        away = Unreachable(Cause.TIMEOUT_COMMAND, late, transient=True, at=clock.now(), took_s=limit_s)
        found.setdefault(wanted.box.name, Look(away))
    return found


def briefly(wanted: Ask) -> AbstractContextManager[tuple[OpenLink, Accepted | None]]:
    """A link for one thing, at the least cost; from any thread. Raises LinkError, NotFound, UsageError."""
    return _connected(wanted.box, wanted.pinned, wanted.box.limit_s, probe=True, answers=wanted.answers)


@contextmanager
def _connected(
    box: BoxSpec,
    pin: Pin | None,
    limit_s: float,
    *,
    probe: bool = False,
    answers: "Answers | None" = None,
) -> Iterator[tuple[OpenLink, Accepted | None]]:
    # Imported here: the ways to a box cost more than a whole `babysit status`.
    from fleet.link.address import resolve  # noqa: PLC0415 - as above
    from fleet.link.open import connect  # noqa: PLC0415 - as above

    address = resolve(box, answers.ask if answers else None)
    pinned = HostKey(pin.key_type, pin.key_b64) if pin else None
    began = clock.monotonic()
    try:
        link = connect(box, pinned=pinned, limit_s=limit_s, address=address, probe=probe)
    except LinkError as error:
        raise (no_such_box(box, error) or error) from None
    with link:
        if pin is not None and pin.address not in (None, address.place):
            raise _moved(box, pin, address.place, clock.monotonic() - began)
        yield link, Accepted(link.host_key, address.place) if link.host_key else None


def no_such_box(box: BoxSpec, error: LinkError) -> NotFound | None:
    """The error for a name that nobody knows, neither a file of ours or of ssh nor a name server."""
    if error.away.cause is not Cause.RESOLVE or box.host != box.name:
        return None
    from babysit.acts.init import aliases  # noqa: PLC0415 - where names are known there is no need of it
    from fleet.spec.decode import meant  # noqa: PLC0415 - as above

    what = f"no box {box.name!r}: not in babysit.toml, not in your ssh_config, and no host name"
    close = meant(box.name, dict.fromkeys(name for name in aliases() if name != box.name))
    if close is None:
        return NotFound(what, where=box.name, next=(f"ssh {box.name}",))
    return NotFound(what, where=box.name, hint=f"did you mean {close}?", next=(f"babysit doctor {close}",))


def _moved(box: BoxSpec, pin: Pin, address: str, took_s: float) -> BoxMoved:
    says = (
        f"{box.name} was confirmed at {pin.address}, and its key is now shown at {address}; nothing was "
        "asked. Images share keys: this may be another machine"
    )
    away = Unreachable(Cause.MOVED, says, transient=False, at=clock.now(), took_s=took_s)
    return BoxMoved(away, where=box.name, next=(f"babysit trust {quote.sh(box.name)}",))


def boxes_of(runs: Sequence[Run], spec: Spec) -> dict[str, BoxSpec]:
    """The box of each run by name: as the spec says today, else as it was when the run was armed."""
    return {run.box.name: spec.boxes.get(run.box.name, run.box) for run in runs}
