"""Clear a box of what old runs left there. The box judges; here it is only asked for."""

from babysit.acts.here import Here
from babysit.acts.visit import opened
from fleet.arming.gc import Cleared, clear
from fleet.model.spec import BoxSpec


def gc(place: Here, box: BoxSpec, *, days: int, superseded: bool, finished: bool, remove: bool) -> Cleared:
    """What is older than `days` on `box` and not needed any more; with `remove` it is gone.

    Raises ProbeUnreadable, LinkError.
    """
    with place.ledger_to_look() as (ledger, unwritable), opened(ledger, box, keep=unwritable is None) as link:
        return clear(
            link,
            state_dir=box.state_dir,
            where=box.name,
            days=days,
            superseded=superseded,
            finished=finished,
            remove=remove,
        )
