"""A command into a training program's queue on a box, and what became of it; or what the queue holds."""

from msgspec import Struct
from msgspec.structs import replace

from babysit.acts.controls import NO_RUN, control
from babysit.acts.here import Here, box_named, run_named
from babysit.acts.ipc import CALL_S
from babysit.acts.visit import opened
from fleet.steering import queue
from fleet.steering.call import call


class Answered(Struct, frozen=True):
    """`took_s` is the asking, without the way there."""

    found: queue.Outcome | queue.State
    took_s: float
    shipped: bool


def order(place: Here, box: str, wanted: queue.Order, *, run: str | None = None) -> Answered:
    """What became of the command, written down here as an intent before and an event after.

    With `run` it is sent where a program of that run takes the commands, and nowhere else.
    Raises UsageError, NotFound, BoxRefused, ProbeUnreadable, LinkError.
    """
    with place.ledger() as ledger:
        where = box_named(place, ledger, box)
        known = None if run is None else run_named(ledger, run, box)
        run_id = NO_RUN if known is None else known.run_id
        wanted = wanted if known is None else replace(wanted, tag=known.tag)
        with control(ledger, run_id, wanted.text(box)) as under_way, opened(ledger, where) as link:
            under_way.sent()
            limit_s = (wanted.wait_s or 0) + CALL_S
            called = call(link, wanted.words(), where=box, limit_s=limit_s)
            found = queue.outcome(called, where=box)
            under_way.done([(run_id, queue.says(found))])
            return Answered(found, called.took_s, called.shipped)


def status(place: Here, box: str, folder: str, last: int) -> Answered:
    """What the queue holds; nothing changes, here or there. Raises as `order`."""
    with place.ledger(write=False) as ledger:
        where = box_named(place, ledger, box)
        with opened(ledger, where, keep=False) as link:
            called = call(link, queue.status_words(folder, last), where=box, limit_s=CALL_S)
            return Answered(queue.state(called, where=box), called.took_s, called.shipped)
