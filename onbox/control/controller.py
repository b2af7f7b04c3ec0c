"""`RuntimeController`: a training loop takes commands from a queue, each once, on all of its ranks.

Nothing that goes wrong here is raised into the loop: a full disk, a folder that cannot be used, a store that
fails are counted in `faults` and said in `last_fault`; a control or validator that raises is acknowledged as
failed. That holds for SystemExit, too: a control that wants the loop to end sets a flag. KeyboardInterrupt
alone goes on to the program.
"""

import time
import uuid
from contextlib import closing
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Callable, Dict, Generic, List, NamedTuple, Optional, TypeVar, Union

from onbox.control import files, lines
from onbox.control.enqueue import enqueue
from onbox.control.lines import Ack, Command
from onbox.control.queue import Order, Queue
from onbox.control.ranks import of_torch
from onbox.control.together import Follower, Leader, Seat, Store
from onbox.control.validate import Validator, validated, validator

CtxT = TypeVar("CtxT")
_ENDED = "the process group ended before all ranks had applied it"


class Control(NamedTuple):
    """What a path stands for."""

    apply: Callable[..., Any]
    check: Optional[Validator]


class RuntimeController(Generic[CtxT]):
    """The queue of one loop.

    `expire_s`: a command that waited longer is rejected; None for never. `ranks` tells where this process
    sits in its job (default: what torch.distributed says, when `ddp`); a rank that is silent for `silent_s`
    is given up.
    """

    def __init__(
        self,
        queue_dir: Union[str, Path, None] = None,
        *,
        ddp: bool = False,
        expire_s: Optional[float] = 86400.0,
        ranks: Optional[Callable[[], Optional[Seat]]] = None,
        silent_s: float = 60.0,
    ) -> None:
        self.queue_dir: Optional[Path] = None
        self.commands_path: Optional[Path] = None
        self.acks_path: Optional[Path] = None
        self.configured = False
        self.ddp = ddp
        self.faults = 0
        self.last_fault = ""
        self._controls: Dict[str, Control] = {}
        self._queue: Optional[Queue] = None
        self._expire_s, self._silent_s = expire_s, silent_s
        self._ranks = ranks or of_torch
        self._side: Union[Leader, Follower, None] = None
        self._orders: List[Order] = []  # those that the ranks are about
        self._busy = Lock()
        self._looked = float("-inf")
        self._pressing = False
        self._polls = 0
        if queue_dir is not None:
            self.configure(queue_dir)

    def configure(self, queue_dir: Union[str, Path]) -> None:
        """Nothing comes back: this is the queue. Raises ValueError when it was another before."""
        folder = Path(queue_dir)
        if self.configured:
            if self.queue_dir == folder:
                return
            raise ValueError("RuntimeController already configured with %s" % self.queue_dir)
        self.queue_dir = folder
        self.commands_path, self.acks_path = files.commands(folder), files.acks(folder)
        self._queue = Queue(folder, self._expire_s)
        self.configured = True
        try:
            if self.ddp:
                self._queue.open()  # who listens is known when the ranks are
            else:
                self._queue.announce()
        except OSError as error:
            self._fault(error)

    def register(
        self,
        path: str,
        apply_fn: Callable[..., Any],
        validate_fn: Optional[Callable[..., Any]] = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Nothing comes back: commands for `path` call `apply_fn(ctx, *args, **kwargs)`, once validated.

        A path that is known stays what it is, unless `overwrite`. onbox.control.validate tells how validators
        are called.
        Raises ValueError for a path that is no text or empty.
        """
        if not path or not isinstance(path, str):
            raise ValueError("path must be a non-empty string")
        if path not in self._controls or overwrite:
            self._controls[path] = Control(apply_fn, validator(validate_fn))

    def poll_and_apply(
        self, ctx: Optional[CtxT] = None, every_s: float = 2.0, step: Optional[int] = None
    ) -> List[Ack]:
        """The acknowledgements of what was applied or rejected here now; mostly none.

        The queue is looked at every `every_s` seconds at most. `step` is the loop's own count; without one,
        ranks count their polls. Called from a control, from a second thread meanwhile, or in a forked child
        of a program that polls itself, it does nothing. Raises RuntimeError before `configure`, and
        KeyboardInterrupt.
        """
        self._polls += 1
        now = monotonic()
        if now - self._looked < every_s and not self._pressing:
            return []
        return self._look(now, ctx, step)

    @staticmethod
    def enqueue(  # noqa: PLR0917 - the form is that of 0.1.0
        queue_dir: Union[str, Path],
        path: str,
        args: Optional[List[Any]] = None,
        kwargs: Optional[Dict[str, Any]] = None,
        op: str = "set",
        expires: Optional[float] = None,
    ) -> Command:
        """The command that is now in the queue; it is rejected when not taken within `expires` seconds.

        Raises TypeError for arguments that are no list, dict or JSON; ValueError for over 1 MiB; OSError.
        """
        return enqueue(Path(queue_dir), path, args, kwargs, op=op, expires_s=expires)

    def _look(self, now: float, ctx: Optional[CtxT], step: Optional[int]) -> List[Ack]:
        if self._queue is None:
            raise RuntimeError("queue_dir is not set. Call configure(...) before poll_and_apply().")
        if not self._busy.acquire(blocking=False):
            return []
        acks: List[Ack] = []
        try:
            seat = self._ranks() if self.ddp else None
            if seat is not None and seat.world == 1:
                seat = None
            if self._side is not None and (seat is None or self._side.store is not seat.store):
                self._leave(self._queue)
            if not self._pressing:
                self._looked = now
            if seat is None:
                self._alone(acks, ctx, step, self._queue)
            elif seat.store is not None:
                self._together(acks, ctx, step, seat=seat, store=seat.store, queue=self._queue)
        except Exception as error:  # noqa: BLE001 - nothing of ours may reach the loop
            self._fault(error)
        finally:
            self._pressing = self._side is not None and self._side.pending
            self._busy.release()
        return acks

    def _alone(self, acks: List[Ack], ctx: Optional[CtxT], step: Optional[int], queue: Queue) -> None:
        if queue.idle():
            return
        where = {"rank": 0, "world": 1, "step": step}
        with closing(queue.orders(self._controls, world=1)) as orders:
            for order in orders:
                ack = lines.failed(order.start, "KeyboardInterrupt")
                try:
                    ack = self._applied(order.document, order.start, ctx, order.refusal)
                finally:
                    acks.append({**ack, **where})
                    queue.acknowledge([(order, acks[-1:])])

    def _together(
        self,
        acks: List[Ack],
        ctx: Optional[CtxT],
        step: Optional[int],
        *,
        seat: Seat,
        store: Store,
        queue: Queue,
    ) -> None:
        count = self._polls if step is None else int(step)
        if self._side is None:
            kind = Follower if seat.rank else Leader
            self._side = kind(store, seat, queue.folder, self._silent_s)
        side = self._side

        def apply(command: Command, late: bool) -> Ack:  # noqa: FBT001 - one call
            start = lines.begun(command, time.time())
            ack = self._applied(command, start, ctx, lines.why_not(command, self._controls))
            ack = {**ack, "rank": seat.rank, "world": seat.world, "step": count}
            return {**ack, "late": True} if late else ack

        if isinstance(side, Follower):
            acks += side.turn(count, apply)
            return
        if not side.pending:
            acks += self._read(queue, side, count)
        if side.pending:
            acks += side.turn(count, apply)
            self._settle(queue, side.ended())

    def _read(self, queue: Queue, side: Leader, step: int) -> List[Ack]:
        """The rejected; what is to be applied is the leader's now."""
        refused: List[Ack] = []
        if queue.idle():
            return refused
        try:
            with closing(queue.orders(self._controls, world=side.world)) as orders:
                for order in orders:
                    if order.refusal is None:
                        self._orders.append(order)
                        continue
                    ack = lines.refused(order.start, order.refusal)
                    refused.append({**ack, "rank": 0, "world": side.world, "step": step})
                    queue.acknowledge([(order, refused[-1:])])
        finally:
            if self._orders:
                named = [{**order.document, "id": order.start["id"]} for order in self._orders]
                side.begin(uuid.uuid4().hex, named)
        return refused

    def _settle(self, queue: Queue, rows: Optional[List[List[Ack]]]) -> None:
        """Nothing comes back: what all ranks did is acknowledged."""
        if rows is None:
            return
        orders, self._orders = self._orders, []
        queue.acknowledge(zip(orders, rows))

    def _leave(self, queue: Queue) -> None:
        side, self._side = self._side, None
        if isinstance(side, Leader) and side.pending:
            self._settle(queue, side.abandon(_ENDED))

    def _applied(self, document: Command, start: Ack, ctx: Optional[CtxT], refusal: Optional[str]) -> Ack:
        if refusal is not None:
            return lines.refused(start, refusal)
        control = self._controls[document["path"]]
        try:
            args, kwargs = validated(control.check, document.get("args", []), document.get("kwargs", {}))
            control.apply(ctx, *args, **kwargs)
        except KeyboardInterrupt:
            raise
        except SystemExit as error:
            return lines.failed(
                start, "the control raised SystemExit(%s), which does not end the program" % (error,)
            )
        except BaseException as error:  # noqa: BLE001 - it is the program's own code, called by us
            return lines.failed(start, lines.reason(error))
        return lines.applied(start, args, kwargs)

    def _fault(self, error: BaseException) -> None:
        self.faults += 1
        self.last_fault = "%s: %s" % (type(error).__name__, lines.reason(error))
