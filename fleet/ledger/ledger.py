"""The ledger: what we believe, what we promised to do, and what has not been told yet. One file."""

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from fleet.ledger.away import Away
from fleet.ledger.boxes import Boxes, Pins, Waiters
from fleet.ledger.outbox import Outbox
from fleet.ledger.patrollers import Patrollers
from fleet.ledger.runs import Intents, Runs
from fleet.ledger.store import Store, open_store
from fleet.ledger.ticks import Ticks
from fleet.ledger.upkeep import Upkeep

T = TypeVar("T")


class Ledger:
    """All tables over one connection. Use it as a context manager, in the thread that opened it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.runs = Runs(store)
        self.intents = Intents(store)
        self.boxes = Boxes(store)
        self.pins = Pins(store)
        self.ticks = Ticks(store)
        self.outbox = Outbox(store)
        self.waiters = Waiters(store)
        self.away = Away(store)
        self.upkeep = Upkeep(store)
        self.patrollers = Patrollers(store)

    @classmethod
    def open(cls, folder: Path, *, write: bool) -> Self:
        """The ledger in `folder`. Reading makes nothing and is empty where there is none.

        Raises LedgerError when the file is no ledger, or was written by a newer babysit and we want to write.
        """
        return cls(open_store(folder, write=write))

    def decode(self, content: bytes, kind: type[T]) -> T:
        """The value in JSON that is kept for others. Raises LedgerDamaged when it is none of that kind."""
        return self._store.decode(content, kind)

    def close(self) -> None:
        """Give the file back. Safe to call twice."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
