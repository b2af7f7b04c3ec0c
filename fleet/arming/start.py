"""Starting a run's chain on its box, and stopping one attempt of it: what the box answered, as values."""

import re
from collections.abc import Iterator

from msgspec import Struct

from fleet.arming.ask import Answer, ask, checked_name
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.model.spec import SIGNAL_PREFIX, RunSpec
from fleet.text.untrusted import render_untrusted

LAUNCH_WORDS = frozenset(
    {"started", "already-so", "alive", "unknown", "budget", "unwritable", "busy", "usage"}
)
STOP_WORDS = frozenset({"stopped", "already-so", "alive", "unknown", "kept"})
_LAUNCH = ("frame", "records", "launch")
_STOP = ("frame", "records", "scan", "checkpoint", "stop")
_CHECKPOINT = re.compile(r"(saved|failed|late) (\d{1,9}) (.*)", re.ASCII)
_OVERHEAD_S = 5.0  # login, /proc and the look at the first line of the job, beside the wait itself
_SHOWN_CHARS = 400


class Launched(Struct, frozen=True):
    """The chain's first line as `word: text` (docs/box.md), and how it was detached.

    `first_line` is the job's own first line of output, untrusted; None when none came soon.
    """

    word: str
    text: str
    detach: str
    first_line: str | None


class Checkpoint(Struct, frozen=True):
    """What became of saving before a stop. `why` it was not saved; empty when it was."""

    saved: bool
    took_s: float
    why: str


class Stopped(Struct, frozen=True):
    """`word` is stopped, already-so, alive, unknown or kept. `ended`: a line a signal sent, `PID COMM SIG`.

    `checkpoint` None: none was asked for, or nothing of the attempt lived that could be saved. kept: it was
    required and failed, so that the run was left alone.
    """

    word: str
    text: str
    ended: tuple[str, ...]
    checkpoint: Checkpoint | None = None


def launch(
    link: Link, *, state_dir: str | None, run_id: str, expect: str, detach: str, limit_s: float = 20.0
) -> Launched:
    """What the chain of `run_id` said to a start that quotes `expect`. No word is raised, all are answers.

    `detach` is `tmux` (with setsid to fall back on) or `setsid`; `state_dir` None is the box's default.
    Raises NotFound when the box has no such run, ProbeUnreadable for an answer without a first line of
    a chain, LinkError when the box could not be asked.
    """
    grace_s = max(1, int(limit_s - _OVERHEAD_S))
    pairs = [
        ("state", state_dir or "-"),
        ("run", checked_name(run_id, what="run id")),
        ("expect", expect),
        ("detach", detach),
        ("grace", str(grace_s)),
    ]
    answer = ask(link, _LAUNCH, pairs, where=run_id, limit_s=limit_s)
    word, text = _word(answer, LAUNCH_WORDS)
    detached = answer.must("detach").text
    first = answer.get("first_line")
    return Launched(word, text, detached, None if first is None else first.text)


def stop(
    link: Link,
    *,
    state_dir: str | None,
    run_id: str,
    attempt: int,
    grace_s: int,
    limit_s: float,
    spec: RunSpec | None = None,
    require_checkpoint: bool = False,
) -> Stopped:
    """What became of attempt `attempt` when it was asked to end: TERM, `grace_s` seconds, then KILL.

    Before TERM comes the checkpoint of `spec`, where it names one. Also ends what a dead chain left behind.
    `limit_s` must leave some 30 s beside `grace_s` and the checkpoint's limit. Raises NotFound,
    ProbeUnreadable and LinkError as `launch` does.
    """
    pairs = [
        ("state", state_dir or "-"),
        ("run", checked_name(run_id, what="run id")),
        ("attempt", str(attempt)),
        ("grace", str(grace_s)),
        *(_checkpoint_pairs(spec, required=require_checkpoint) if spec else ()),
    ]
    answer = ask(link, _STOP, pairs, where=run_id, limit_s=limit_s)
    word, text = _word(answer, STOP_WORDS)
    ended = tuple(render_untrusted(line) for line in answer.must("ended").text.splitlines())
    return Stopped(word, text, ended, _checkpoint(answer))


def _checkpoint_pairs(spec: RunSpec, *, required: bool) -> Iterator[tuple[str, str]]:
    if spec.checkpoint is None:
        return
    by_signal = spec.checkpoint.startswith(SIGNAL_PREFIX)
    yield "checkpoint", spec.checkpoint.removeprefix(SIGNAL_PREFIX) if by_signal else "command"
    yield "limit", str(spec.checkpoint_limit_s)
    yield "require", str(int(required))
    for glob in spec.artifacts if by_signal else ():
        yield "artifact", glob


def _checkpoint(answer: Answer) -> Checkpoint | None:
    section = answer.get("checkpoint")
    if section is None:
        return None
    found = _CHECKPOINT.fullmatch(section.text)
    if found is None:
        raise ProbeUnreadable("what became of the checkpoint cannot be read", where=answer.where)
    return Checkpoint(found[1] == "saved", int(found[2]) / 100, render_untrusted(found[3], _SHOWN_CHARS))


def _word(answer: Answer, words: frozenset[str]) -> tuple[str, str]:
    said = answer.must("answer").text
    word, _, text = said.partition(": ")
    if word not in words:
        raise ProbeUnreadable(
            f"the chain's first line is none of ours: {render_untrusted(said, _SHOWN_CHARS)!r}",
            where=answer.where,
            next=("babysit patrol --once",),
        )
    return word, render_untrusted(text, _SHOWN_CHARS)
