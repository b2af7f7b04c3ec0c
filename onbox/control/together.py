"""The ranks of one job apply the same commands at the same step, over a store in which nobody waits.

Rank 0 lays a batch into the store. A rank that sees it says at which step it is, at every poll from then on.
When all have, rank 0 names the step at which all apply: two behind the farthest. A rank that is past it when
it hears of it, or does not come there, applies at once and says that it is late. What each did lies in the
store until rank 0 has it all.

Who adds the first one to a rank's claim decides whether that rank applies: itself, or rank 0 that gave it up.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Protocol

from onbox.control.lines import Ack, Command, begun, failed

_AHEAD = 2  # steps: a rank may be one ahead by the nature of a barrier, and one by work that is only queued
_PATIENCE_POLLS = 8  # ranks that keep step come to the named one within fewer
_PATIENCE = 6  # part of the silence after which a rank is given up: 10 s of 60
_SILENT_POLLS = 4  # of rank 0: in a loop of long steps the others have polled as often
_INTERRUPTED = "the program was interrupted before it was applied"


class Store(Protocol):
    """What is asked of the store; that of torch.distributed fits. Only what is there is asked for."""

    def add(self, key: str, amount: int, /) -> int:
        """The sum so far, 0 at first."""

    def set(self, key: str, value: str, /) -> object:
        """Nothing of use comes back."""

    def get(self, key: str, /) -> bytes:
        """The value."""

    def check(self, keys: List[str], /) -> bool:
        """Whether all of them are there."""


class Seat(NamedTuple):
    """Where this process sits in its job; `store` is None before the ranks can speak to each other."""

    store: Optional[Store]
    rank: int
    world: int


Apply = Callable[[Command, bool], Ack]  # the command, and whether it is late


class Side:
    """What both sides share: the batch, the step at which it is applied, and when patience ends."""

    def __init__(self, store: Store, seat: Seat, queue: Path, silent_s: float) -> None:
        self.store = store
        self.rank, self.world = seat.rank, seat.world
        self.silent_s = silent_s
        self.batch: List[Command] = []
        self._name = ""
        self._at: Optional[int] = None
        self._own: Optional[List[Ack]] = None
        self._since, self._polls = 0.0, 0
        self._prefix = (
            "onbox.control/%s/" % hashlib.sha256(str(queue).encode("utf-8", "replace")).hexdigest()[:16]
        )

    def _key(self, *parts: object) -> str:
        return self._prefix + "/".join(map(str, parts))

    def _from_now(self) -> None:
        self._since, self._polls = time.monotonic(), 0

    def _due(self, step: int) -> bool:
        if self._at is None:
            return False
        impatient = (
            self._polls >= _PATIENCE_POLLS and time.monotonic() - self._since > self.silent_s / _PATIENCE
        )
        return step >= self._at or impatient

    def _perform(self, step: int, apply: Apply) -> List[Ack]:
        """What became of each command of the batch; kept, too, where a control is interrupted."""
        done: List[Ack] = []
        self._own = done
        try:
            for command in self.batch:
                done.append(apply(command, step != self._at))  # noqa: PERF401 - what was done is kept if this raises
        finally:
            for command in self.batch[len(done) :]:
                done.append(self._lost(command, self.rank, _INTERRUPTED))  # noqa: PERF401
        return done

    def _lost(self, command: Command, rank: int, error: str) -> Ack:
        ack = failed(begun(command, time.time()), error)
        return {**ack, "rank": rank, "world": self.world, "step": None}


class Follower(Side):
    """Every rank but the first."""

    _told = 0
    _report: Optional[str] = None

    @property
    def pending(self) -> bool:
        """Whether the store must be asked at every poll."""
        return bool(self.batch) or self._report is not None

    def turn(self, step: int, apply: Apply) -> List[Ack]:
        """What was applied now. Raises whatever the store raises; the next turn goes on from there."""
        self._send()
        acks = self._step(step, apply)
        try:
            self._send()
        except Exception:  # noqa: BLE001 - the next turn says it; what was done must come back now
            return acks
        return acks

    def _step(self, step: int, apply: Apply) -> List[Ack]:
        told = self.store.add(self._key("turn"), 0)
        if told != self._told:
            self._hear(json.loads(self.store.get(self._key("batch")).decode("utf-8")))
            self._told = told
        if not self.batch:
            return []
        self._polls += 1
        if self._at is None:
            self.store.set(self._key(self._name, "seen", self.rank), str(step))
            return []
        if not self._due(step):
            return []
        claim = self.store.add(self._key(self._name, "claim", self.rank), 1)
        self._own = []
        try:
            if claim == 1:
                self._perform(step, apply)
        finally:
            self.batch = []
            if claim == 1:
                self._report = json.dumps(self._own)
        return self._own

    def _hear(self, said: Dict[str, object]) -> None:
        commands, at = said["commands"], said["at"]
        if said["name"] != self._name:
            self._name = str(said["name"])
            self.batch = list(commands) if isinstance(commands, list) else []
        self._at = at if isinstance(at, int) else None
        self._from_now()

    def _send(self) -> None:
        if self._report is not None:
            self.store.set(self._key(self._name, "done", self.rank), self._report)
            self._report = None


class Leader(Side):
    """Rank 0: it has the batch from the queue, and ends it when all have answered or were given up."""

    _laid = False

    @property
    def pending(self) -> bool:
        """Whether the store must be asked at every poll."""
        return bool(self.batch)

    def begin(self, name: str, commands: List[Command]) -> None:
        """Nothing comes back: the next turns bring these commands to all. For when nothing is pending."""
        self.batch, self._name, self._at, self._own, self._laid = commands, name, None, None, False
        self._answers: Dict[int, List[Ack]] = {}
        self._gone: Dict[int, str] = {}

    def turn(self, step: int, apply: Apply) -> List[Ack]:
        """What was applied here now. Raises whatever the store raises; the next turn goes on from there."""
        if not self._laid:
            self._lay()
            self._laid = True
            self._from_now()
        self._polls += 1
        if self._at is None and not self._named(step):
            return []
        if self._own is None:
            if not self._due(step):
                return []
            try:
                return self._perform(step, apply)
            finally:
                self._from_now()
        return []

    def ended(self) -> Optional[List[List[Ack]]]:
        """For each command what all ranks did, once; None while some are missing. Raises as `turn`."""
        if self._own is None:
            return None
        missing = [rank for rank in self._others() if rank not in self._answers]
        if missing and self.store.check([self._key(self._name, "done", rank) for rank in missing]):
            for rank in missing:
                self._take(rank)
        elif missing and self._silent(1):
            for rank in missing:
                self._give_up_or_take(rank)
        if any(rank not in self._answers for rank in self._others()):
            return None
        acks = self._all("")
        batch, self.batch = self.batch, []
        try:
            self._lay()
        except BaseException:
            self.batch = batch
            raise
        return acks

    def abandon(self, error: str) -> List[List[Ack]]:
        """The acknowledgements of a batch that will not end; `error` for the ranks that have not answered."""
        acks, self.batch = self._all(error), []
        return acks

    def _lay(self) -> None:
        """Nothing comes back: the batch, its step, or that there is none, can be seen by all."""
        said = {"name": self._name if self.batch else "", "commands": self.batch, "at": self._at}
        self.store.set(self._key("batch"), json.dumps(said))
        self.store.add(self._key("turn"), 1)

    def _named(self, step: int) -> bool:
        """Whether the step was named, at which all apply."""
        seen = {rank: self._key(self._name, "seen", rank) for rank in self._others()}
        if seen and not self.store.check(list(seen.values())):
            if not self._silent(1):
                return False
            for rank, key in seen.items():
                if not self.store.check([key]):
                    self._give_up(rank, "said nothing for %g s" % self.silent_s)
        steps = [int(self.store.get(seen[rank])) for rank in self._others()]
        self._at = max([step, *steps]) + _AHEAD if steps else step
        try:
            self._lay()
        except BaseException:
            self._at = None
            raise
        self._from_now()
        return True

    def _others(self) -> List[int]:
        return [rank for rank in range(1, self.world) if rank not in self._gone]

    def _silent(self, times: int) -> bool:
        return time.monotonic() - self._since > times * self.silent_s and self._polls >= _SILENT_POLLS

    def _take(self, rank: int) -> None:
        self._answers[rank] = json.loads(self.store.get(self._key(self._name, "done", rank)).decode("utf-8"))

    def _give_up_or_take(self, rank: int) -> None:
        if self.store.check([self._key(self._name, "done", rank)]):
            self._take(rank)
        elif not self._give_up(rank, "said nothing for %g s" % self.silent_s) and self._silent(2):
            self._gone[rank] = "took it, and did not say for %g s how it ended" % (2 * self.silent_s)

    def _give_up(self, rank: int, why: str) -> bool:
        """Whether it was; a rank that claimed the batch is not."""
        if self.store.add(self._key(self._name, "claim", rank), 1) != 1:
            return False
        self._gone[rank] = why + "; it will not apply this"
        return True

    def _all(self, error: str) -> List[List[Ack]]:
        rows = []
        for number, command in enumerate(self.batch):
            row = [self._own[number] if self._own else self._lost(command, 0, error)]
            for rank in range(1, self.world):
                if rank in self._answers:
                    row.append(self._answers[rank][number])
                else:
                    why = "rank %d %s" % (rank, self._gone[rank]) if rank in self._gone else error
                    row.append(self._lost(command, rank, why))
            rows.append(row)
        return rows
