"""Where a process sits among the ranks of its job, as torch.distributed says it; nothing is imported."""

import os
import sys
from typing import Any, Optional

from onbox.control.together import Seat


def of_torch() -> Optional[Seat]:
    """Rank, number of ranks and their store; None where there are none.

    A process that was started as one of several, but has no process group (yet, or any more), has a seat
    without a store: it must not take commands for the others.
    """
    group: Any = sys.modules.get("torch.distributed")
    if group is None or not group.is_available() or not group.is_initialized():
        rank, world = _number("RANK"), _number("WORLD_SIZE")
        return Seat(None, rank or 0, world) if world is not None and world > 1 else None
    world = group.get_world_size()
    store = group.distributed_c10d._get_default_store() if world > 1 else None  # noqa: SLF001 - it has no public name
    return Seat(store, group.get_rank(), world)


def _number(name: str) -> Optional[int]:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None
