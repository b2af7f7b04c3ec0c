"""A training program's queue: the tool's command line for it, and what it answered. Pure."""

from collections.abc import Iterator
from typing import Any, TypeVar

from msgspec import Struct

from fleet.errors import ProbeUnreadable
from fleet.steering.answers import DIED, MET, REFUSED, SILENT, USAGE, unreadable
from fleet.steering.call import MAX_BYTES, Called
from fleet.steering.says import harmless
from fleet.text.boxjson import from_box
from fleet.text.say import plural
from fleet.text.untrusted import render_untrusted

SCHEMA = "babysit.ctl/1"
STATUS = "status"
_CODES = frozenset({MET, USAGE, REFUSED, DIED, SILENT})
_PREFIX = "runtimectl: "
T = TypeVar("T")
_ACKS_MOST = 4096  # ranks, and some more


class Order(Struct, frozen=True):
    """One command for the queue in `folder` on the box; `path` is the control's. `wait_s` None: nobody waits.

    With `tag` it is for a program of the run with that tag, and for no other. Each of `args` is JSON where it
    is some, else text; `kwargs` is a JSON object as it was typed.
    """

    folder: str
    path: str
    args: tuple[str, ...] = ()
    kwargs: str | None = None
    wait_s: float | None = None
    expires_s: float | None = None
    tag: str | None = None

    def words(self) -> tuple[str, ...]:
        """The tool's command line; what was typed comes after `--`, so that no word of it is an option."""
        flags = [_folder(self.folder)]
        flags += [f"--wait={self.wait_s:g}"] if self.wait_s is not None else []
        flags += [f"--expires={self.expires_s:g}"] if self.expires_s is not None else []
        flags += [f"--tag={self.tag}"] if self.tag is not None else []
        flags += [f"--kwargs={self.kwargs}"] if self.kwargs is not None else []
        return ("runtimectl", *flags, "--", self.path, *self.args)

    def text(self, box: str) -> str:
        """The command as a person reads it in a list of what was done."""
        kwargs = () if self.kwargs is None else (self.kwargs,)
        return " ".join(["ctl", self.folder, self.path, *self.args, *kwargs, "on", box])


class Outcome(Struct, frozen=True):
    """What became of an order: the command as it was queued, and each rank's acknowledgement. Box's text."""

    exit_code: int
    command: dict[str, Any]
    acks: tuple[dict[str, Any], ...]
    complaints: tuple[str, ...]


class State(Struct, frozen=True):
    """What a queue holds, as the box says it."""

    commands: int
    acks: int
    last_acks: tuple[dict[str, Any], ...]
    pending: int
    listener: dict[str, Any] | None


def status_words(folder: str, last: int) -> tuple[str, ...]:
    """The command line that asks for a queue's state."""
    return ("runtimectl", _folder(folder), f"--last={last}", "--", STATUS)


def _folder(folder: str) -> str:
    # Whoever logs in begins at home: what is relative to it needs no shell to find it.
    return f"--queue-dir={folder.removeprefix('~/') or '.'}"


def outcome(called: Called, *, where: str) -> Outcome:
    """What became of an order. Raises ProbeUnreadable for what is no such answer."""
    if called.status not in _CODES or (called.status == MET and not called.printed):
        raise unreadable(called, where)
    lines = [line for line in called.printed.split(b"\n", _ACKS_MOST) if line]
    documents = [_read(line, dict[str, Any], where) for line in lines]
    complaints = tuple(line.removeprefix(_PREFIX) for line in called.complaints)
    return Outcome(called.status, documents[0] if documents else {}, tuple(documents[1:]), complaints)


def state(called: Called, *, where: str) -> State:
    """What a queue holds. Raises ProbeUnreadable."""
    if called.status != MET:
        raise unreadable(called, where)
    found = _read(called.printed, State, where)
    if len(found.last_acks) > _ACKS_MOST:
        raise ProbeUnreadable("its answer has more acknowledgements than were asked for", where=where)
    return found


def _read(content: bytes, kind: type[T], where: str) -> T:
    try:
        return from_box(content, kind, max_bytes=MAX_BYTES, where=where, what="its answer", odd_numbers=True)
    except ProbeUnreadable as error:
        raise ProbeUnreadable(f"the tool on the box: {error.what}", where=where) from None


def outcome_lines(found: Outcome, took_s: float) -> Iterator[str]:
    """The outcome for a person: each rank that differs, or one line where all are alike."""
    for rank, ack in enumerate(found.acks):
        yield f"{_rank(ack, rank)}{_ack(ack)} ({took_s:.1f} s)"
    if not found.acks and found.exit_code == MET:
        yield f"queued as {_word(found.command, 'id')}; nobody waited for an acknowledgement"


def state_lines(found: State) -> Iterator[str]:
    """A queue for a person: counts, who takes its commands, the newest acknowledgements."""
    yield (
        f"{plural(found.commands, 'command')}, {plural(found.acks, 'acknowledgement')},"
        f" {found.pending} without one"
    )
    yield _listener(found.listener)
    for ack in found.last_acks:
        yield f"  {_word(ack, 'id')[:8]} {_word(ack, 'path')}: {_rank(ack, 0)}{_ack(ack)}"


def document(found: Outcome | State, *, box: str, queue: str, took_s: float) -> dict[str, Any]:
    """The same for programs, schema babysit.ctl/1."""
    head = {"schema": SCHEMA, "box": box, "queue": queue, "took_s": round(took_s, 3)}
    if isinstance(found, State):
        return {
            **head,
            "ok": True,
            "exit_code": MET,
            "commands": found.commands,
            "acks": found.acks,
            "pending": found.pending,
            "untrusted_listener": harmless(found.listener),
            "untrusted_last_acks": [harmless(ack) for ack in found.last_acks],
        }
    return {
        **head,
        "ok": found.exit_code == MET,
        "exit_code": found.exit_code,
        "untrusted_command": harmless(found.command),
        "untrusted_acks": [harmless(ack) for ack in found.acks],
        "untrusted_says": [render_untrusted(line) for line in found.complaints],
    }


def says(found: Outcome) -> str:
    """The outcome in one sentence, for the ledger."""
    if found.acks:
        return "; ".join(f"{_rank(ack, rank)}{_ack(ack)}" for rank, ack in enumerate(found.acks[:8]))
    return found.complaints[-1] if found.complaints and found.exit_code else "queued"


def _ack(ack: dict[str, Any]) -> str:
    error, step = ack.get("error"), ack.get("step")
    at = f" at step {step}" if isinstance(step, int) else ""
    return f"{_word(ack, 'status')}{at}" + (f": {render_untrusted(str(error), 300)}" if error else "")


def _rank(ack: dict[str, Any], otherwise: int) -> str:
    world = ack.get("world")
    if not isinstance(world, int) or world < 2:
        return ""
    rank = ack.get("rank", otherwise)
    return f"rank {rank if isinstance(rank, int) else otherwise} of {world}: "


def _word(said: dict[str, Any], key: str) -> str:
    return render_untrusted(str(said.get(key, "?")), 100)


def _listener(said: dict[str, Any] | None) -> str:
    if said is None:
        return "nobody of ours listens; a runtimectl of its own cannot be seen"
    told = said.get("alive")
    alive = "listens" if told is True else "is gone" if told is False else "may listen"
    return f"pid {_word(said, 'pid')} on {_word(said, 'host')} {alive}"
