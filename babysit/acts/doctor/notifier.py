"""Does news get out: every target's secret is there, a service takes its address, a test notice arrives."""

import queue
import threading
from collections.abc import Iterator
from uuid import uuid4

from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Found, fail, ok, warn
from fleet import clock
from fleet.errors import DeliveryError
from fleet.model.spec import TargetSpec
from fleet.notices.courier import carry
from fleet.notices.parcel import Parcel
from fleet.notices.secret import resolve
from fleet.text.quote import sh
from fleet.text.redact import redact

_CHECK_S = 15.0
_SEND_S = 20.0
LIMIT_S = 40.0
_SIDE_BY_SIDE = 4


def targets(ground: Ground) -> Iterator[Found]:
    """One finding a target, in their order; all of them are tried side by side, few at a time."""
    found = tuple(ground.place.spec.targets.values())
    if not found:
        if ground.place.broken is None:
            more = ('add [notify.phone] with url = "file:~/.config/babysit/phone.url" to babysit.toml',)
            path = ground.place.spec.path
            fix = "babysit init" if path is None else f"${{EDITOR:-vi}} {sh(path)}"
            yield warn("no [notify.NAME]: nobody is told of trouble", fix, more=more)
        return
    gates = threading.Semaphore(_SIDE_BY_SIDE)
    answers: list[queue.SimpleQueue[Found]] = [queue.SimpleQueue() for _ in found]

    def tried(target: TargetSpec, answer: "queue.SimpleQueue[Found]") -> None:
        with gates:
            try:
                answer.put(_one(target, send=ground.notify))
            except Exception as error:  # noqa: BLE001 - one target never hides the others
                answer.put(fail(f"{target.name}: this check itself broke: {type(error).__name__}"))

    for target, answer in zip(found, answers, strict=True):
        threading.Thread(target=tried, args=(target, answer), name=target.name, daemon=True).start()
    deadline = clock.monotonic() + LIMIT_S - 2.0
    for target, answer in zip(found, answers, strict=True):
        try:
            yield answer.get(timeout=max(0.0, deadline - clock.monotonic()))
        except queue.Empty:
            yield fail(f"{target.name}: not tried within {LIMIT_S:g} s", "babysit doctor --notify")


def _one(target: TargetSpec, *, send: bool) -> Found:
    try:
        url = resolve(target.url)
    except DeliveryError as error:
        more = tuple(error.hint.splitlines())
        return fail(f"{target.name}: {error.what}", *(error.next or _put(target)), more=more)
    event = f"doctor-{uuid4().hex[:12]}"
    parcel = Parcel(
        url=url,
        title="babysit doctor: a test notice",
        body=f"If you can read this, target {target.name} works. Nothing happened.\nevent: {event}",
        type="info",
        event=event,
        limit_s=_SEND_S if send else _CHECK_S,
        only_check=not send,
    )
    began = clock.monotonic()
    receipt = carry(parcel)
    took_s = clock.monotonic() - began
    if receipt.ok:
        return ok(f"{target.name}: {f'sent in {took_s:.1f} s' if send else 'its address is there and valid'}")
    says = redact(f"{target.name}: {receipt.says}")
    return fail(says, *(_put(target) if receipt.status == "bad-url" else ("babysit doctor --notify",)))


def _put(target: TargetSpec) -> tuple[str, ...]:
    """The command by which the secret gets there; the address itself is for its owner to fill in."""
    kind, _, name = target.url.partition(":")
    words = {"env": f"export {name}=URL", "file": f"(umask 077; echo URL >{name})"}
    return (words.get(kind, name),)


CHECKS: tuple[Check[Ground], ...] = (Check("notify", "targets", targets, LIMIT_S),)
