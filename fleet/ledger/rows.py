"""The values that the ledger keeps and which only it knows. Times are host time, epoch seconds."""

from msgspec import Struct

from fleet.model.spec import TargetSpec
from fleet.model.verdict import Severity, Verdict

# How the error of an outbox row begins whose receiver spoke for itself; rows that come later wait as well.
ASKED, GONE = "the receiver asks to wait", "the receiver is gone"


class Intent(Struct, frozen=True):
    """An effect that was written down before it was tried. `outcome` None: nobody knows yet how it went."""

    id: int
    run_id: str
    kind: str
    text: str
    at: float
    outcome: str | None = None
    done_at: float | None = None


class Pin(Struct, frozen=True):
    """The one host key a box may show. `source` says who confirmed it (trust, known_hosts).

    `address` is where the box was when it was confirmed, `HOST:PORT`; None: nobody wrote it down.
    """

    box: str
    key_type: str
    key_b64: str
    at: float
    source: str
    address: str | None = None


class Event(Struct, frozen=True):
    """One thing worth telling. `event_id` is what a receiver tells repeats by; `kind` why it is told."""

    event_id: str
    run_id: str
    kind: str
    severity: Severity
    at: float
    title: str
    body: str


class TickRecord(Struct, frozen=True):
    """All that one tick leaves behind, committed as one. `took_s` is its length, `origin` who started it.

    `histories` (run id -> JSON) and `incidents` (JSON) belong to the patrol: kept, not understood.
    `targets` receive the events whose severity they are `on`; None: nobody said, so those of the last tick
    that was told still hold.
    """

    at: float
    took_s: float
    origin: str
    exit_code: int
    verdicts: tuple[Verdict, ...]
    histories: dict[str, bytes]
    incidents: bytes
    events: tuple[Event, ...] = ()
    targets: tuple[TargetSpec, ...] | None = None


class TickRow(Struct, frozen=True):
    """One tick that was seen to fire. `id` is the cursor: it only grows."""

    id: int
    at: float
    took_s: float
    origin: str
    exit_code: int


class OutboxRow(Struct, frozen=True):
    """One event on its way to one target.

    `reference` names the secret with the target's URL (`env:NAME`, `file:PATH`). `state` is due, sent
    or dead; `tries` counts the claims, `error` is the last failure in a few words.
    """

    event: Event
    target: str
    reference: str
    state: str
    due_at: float
    tries: int
    error: str | None

    @property
    def gone(self) -> bool:
        """Whether the receiver said, the last time it was asked, that there is no such receiver any more."""
        return self.error is not None and self.error.startswith(GONE)


class Waiter(Struct, frozen=True):
    """One sentinel that waits here for a run. `identity` proves its process; the lowest `id` has the run."""

    id: int
    run_id: str
    identity: str
    deadline: float
    at: float


class Patroller(Struct, frozen=True):
    """One process that patrols every `every_s` seconds, proven by `identity`.

    `skipped` counts its firings that did not become a tick.
    """

    id: int
    identity: str
    every_s: float
    at: float
    next_at: float
    skipped: int
