"""A condition that was waited for, told to the user's own targets."""

import secrets

from babysit.acts.here import Here
from babysit.acts.settle import hand_on
from fleet import clock
from fleet.ledger.rows import Event
from fleet.model.verdict import Severity
from fleet.notices.message import defused
from fleet.text.untrusted import render_untrusted

_TITLE_CHARS = 160


def tell(place: Here, *, box: str, run_id: str, condition: str, met: bool, says: str) -> int:
    """How many targets are told that `condition` was met, or that its loop is over without it."""
    now = clock.now()
    title = f"{box}: {condition}" if met else f"{box}: the loop is over, and {condition} was not met"
    event = Event(
        f"loop-{secrets.token_hex(8)}",
        run_id,
        "met" if met else "died",
        Severity.NOTE if met else Severity.PAGE,
        now,
        render_untrusted(title, _TITLE_CHARS),
        f"loop (untrusted): {defused(says)}",
    )
    targets = tuple(place.spec.targets.values()) if place.spec.path else None
    with place.ledger() as ledger:
        count = ledger.ticks.tell(event, targets)
        hand_on(place, ledger)
    return count
