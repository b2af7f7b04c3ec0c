"""Starting a run's chain on its box, and stopping one attempt of it: what the box answered, as values."""

from msgspec import Struct

from fleet.arming.ask import Answer, ask, checked_name
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.text.untrusted import render_untrusted

LAUNCH_WORDS = frozenset(
    {"started", "already-so", "alive", "unknown", "budget", "unwritable", "busy", "usage"}
)
STOP_WORDS = frozenset({"stopped", "already-so", "alive", "unknown"})
_LAUNCH = ("frame", "records", "launch")
_STOP = ("frame", "records", "scan", "stop")
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


class Stopped(Struct, frozen=True):
    """`word` is stopped, already-so, alive or unknown. `ended`: a line a signal sent, `PID COMM SIG`."""

    word: str
    text: str
    ended: tuple[str, ...]


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
    link: Link, *, state_dir: str | None, run_id: str, attempt: int, grace_s: int, limit_s: float
) -> Stopped:
    """What became of attempt `attempt` when it was asked to end: TERM, `grace_s` seconds, then KILL.

    Also ends what a dead chain left behind. `limit_s` must leave some 30 s beside `grace_s`.
    Raises NotFound, ProbeUnreadable and LinkError as `launch` does.
    """
    pairs = [
        ("state", state_dir or "-"),
        ("run", checked_name(run_id, what="run id")),
        ("attempt", str(attempt)),
        ("grace", str(grace_s)),
    ]
    answer = ask(link, _STOP, pairs, where=run_id, limit_s=limit_s)
    word, text = _word(answer, STOP_WORDS)
    return Stopped(
        word, text, tuple(render_untrusted(line) for line in answer.must("ended").text.splitlines())
    )


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
