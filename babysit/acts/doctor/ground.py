"""What the checks look at: the place of the call and what the ledger knows, read once."""

from pathlib import Path

import msgspec
from msgspec import Struct

from babysit.acts.armed import phrases, triggers
from babysit.acts.here import Here
from fleet.errors import BabysitError
from fleet.link.hostkeys import HostKey
from fleet.model.run import Run
from fleet.model.spec import BoxSpec


class Ground(Struct, frozen=True):
    """`program` is the babysit that a crontab would name. `unread` is why the ledger could not be read.

    `last_tick_at` is host time of the newest tick, None without one. `fires` are the armed triggers,
    `pins` the host keys held, by box; `runs` what is open. `box` is the one that was asked for.
    """

    place: Here
    program: Path
    now: float
    notify: bool = False
    box: BoxSpec | None = None
    runs: tuple[Run, ...] = ()
    fires: tuple[str, ...] = ()
    pins: dict[str, HostKey] = {}
    last_tick_at: float | None = None
    unread: BabysitError | None = None

    @property
    def boxes(self) -> tuple[BoxSpec, ...]:
        """Every box that the spec or an open run names, the spec's own words first."""
        named = {run.box.name: run.box for run in self.runs} | self.place.spec.boxes
        return tuple(named.values())


def with_ledger(ground: Ground) -> Ground:
    """`ground` with what the ledger knows; reading it changes nothing. Never raises for a broken ledger."""
    try:
        with ground.place.ledger(write=False) as ledger:
            runs = ledger.runs.all()
            last = next(iter(ledger.ticks.seen(limit=1)), None)
            names = {box.name for box in (*ground.place.spec.boxes.values(), *(run.box for run in runs))}
            names |= {ground.box.name} if ground.box else set()
            pins = {name: pin for name in names if (pin := ledger.pins.find(name))}
            return msgspec.structs.replace(
                ground,
                runs=runs,
                fires=phrases(triggers(ledger, ground.now)),
                pins={name: HostKey(pin.key_type, pin.key_b64) for name, pin in pins.items()},
                last_tick_at=last.at if last else None,
            )
    except BabysitError as error:
        return msgspec.structs.replace(ground, unread=error)
