"""What a run used of its box: one question to the tool there, over one short connection. Nothing changes."""

from msgspec import Struct

from babysit.acts.here import Here, box_named, run_named
from babysit.acts.visit import boxes_of, opened
from fleet.steering.call import call
from fleet.steering.usage import Profile, Wish, profile_of

READ_S = 60.0  # what the tool may take to read: 32 MiB of samples cost it a second, on a busy box some more


class Shown(Struct, frozen=True):
    """The answer and what was asked for; `took_s` is without the way there."""

    found: Profile
    wish: Wish
    box: str
    took_s: float
    shipped: bool


def usage(
    place: Here,
    box: str | None,
    *,
    run: str | None,
    file: str | None = None,
    stage: str | None = None,
    attempt: int | None = None,
    last_s: float | None = None,
) -> Shown:
    """The profile of `run`, on `box` where one is said, or of the one `file` on `box`.

    Raises UsageError, NotFound, BoxRefused, ProbeUnreadable, LinkError.
    """
    with place.ledger(write=False) as ledger:
        known = None if run is None else run_named(ledger, run, box)
        if known is None:
            where = box_named(place, ledger, box or "")
        else:
            where = boxes_of((known,), place.spec)[known.box.name]
        wish = Wish(known, file, stage, attempt, last_s)
        with opened(ledger, where, keep=False) as link:
            called = call(link, wish.words(), where=where.name, limit_s=READ_S)
    return Shown(profile_of(called, wish, box=where.name), wish, where.name, called.took_s, called.shipped)
