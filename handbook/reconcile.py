"""What is true now, what was believed and is wrong, and the one next command. Pure."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from fleet.model.run import Run
from fleet.model.verdict import TERMINAL, Health, Verdict
from fleet.text import say as figures
from fleet.text import untrusted
from handbook import commands
from patrol import report
from patrol.decide import tick_exit

_WIDTH = 80


class WaiterBelief(Struct, frozen=True):
    """A sentinel that the ledger has down. `alive`: its very process lives. Host times, epoch seconds."""

    pid: int
    run_id: str
    started_at: float
    alive: bool
    last_seen: float | None = None


class Standing(Struct, frozen=True):
    """One run as it was found just now; `verdict` None: the box was not asked about it."""

    run: Run
    verdict: Verdict | None


class CodeStanding(Struct, frozen=True):
    """What is to be said of a run's code before its next start. `changed` None: that is not known.

    `says` holds names of files on the box, untrusted.
    """

    run_id: str
    run: str
    changed: bool | None
    says: tuple[str, ...]


class Next(Struct, frozen=True):
    """The one command to type, and what it does or why it is needed."""

    command: str
    says: str


class Truth(Struct, frozen=True):
    """What a takeover starts from. `runs` most urgent first; `armed` empty: nothing watches."""

    at: float
    runs: tuple[Standing, ...]
    truth: tuple[str, ...]
    believed_and_wrong: tuple[str, ...]
    armed: tuple[str, ...]
    next: Next
    code: tuple[CodeStanding, ...] = ()


Step = Literal["resume", "stop", "read", "away", "ask", "wait", "show", "none"]

# The first row that a run is in says what it needs; the first run in the earliest row is the most urgent.
STEPS: tuple[tuple[frozenset[Health], Step], ...] = (
    (frozenset({Health.FAILED, Health.VANISHED, Health.INTERRUPTED, Health.PREEMPTED}), "resume"),
    (frozenset({Health.ORPHANED}), "stop"),
    (frozenset({Health.STALLED, Health.AT_RISK}), "read"),
    (frozenset({Health.UNREACHABLE}), "away"),
    (frozenset({Health.LOST, Health.UNKNOWN}), "ask"),
    (frozenset({Health.STOPPED, Health.QUEUED}), "resume"),
    (frozenset({Health.STARTING, Health.RUNNING, Health.SLOW}), "wait"),
    (frozenset({Health.FINISHED}), "show"),
    (frozenset({Health.SUPERSEDED}), "none"),
)
_NOT_SEEN = frozenset({Health.UNREACHABLE, Health.UNKNOWN})


def reconcile(  # noqa: PLR0917 - six things set against each other, in the order of the sentence
    runs: Sequence[Run],
    verdicts_before: Mapping[str, Verdict],
    fresh: Mapping[str, Verdict],
    waiters: Sequence[WaiterBelief],
    armed: Sequence[str],
    now: float,
) -> Truth:
    """Ledger, processes and one fresh look set against each other; verdicts are by run id."""
    standings = sorted((Standing(run, fresh.get(run.run_id)) for run in runs), key=_urgency)
    columns = tuple(max(map(len, cells), default=0) for cells in zip(*map(_cells, standings), strict=True))
    wrong = [_outdated(run, verdicts_before.get(run.run_id), fresh.get(run.run_id), now) for run in runs]
    wrong += [_idle(waiter, {run.run_id: run for run in runs}, fresh, now) for waiter in waiters]
    return Truth(
        at=now,
        runs=tuple(standings),
        truth=tuple(_found(standing, columns, now) for standing in standings),
        believed_and_wrong=tuple(line for line in wrong if line),
        armed=tuple(armed),
        next=_next(standings[0]) if standings else Next("babysit arm BOX RUN -- COMMAND", "no run is armed"),
    )


def say(truth: Truth) -> list[str]:
    """The screen: truth, what was believed and is wrong, what watches, the one next command; 80 columns."""
    lines = ["Truth (probed just now)", *_column(truth.truth or ("no run is armed",))]
    if truth.believed_and_wrong:
        lines += ["Believed, and wrong", *_column(truth.believed_and_wrong)]
    if truth.armed:
        lines += ["Armed", *_column(truth.armed)]
    elif any(each.verdict is None or each.verdict.health not in TERMINAL for each in truth.runs):
        lines.append("Nothing is watching.")
    if truth.code:
        lines += ["Code on the box", *_column([f"{each.run}  {'; '.join(each.says)}" for each in truth.code])]
    # A command stands alone on its line, however long: what is cut cannot be typed.
    return [*lines, "Next", f"  {truth.next.command}", *_column((truth.next.says,), indent=6)]


def document(truth: Truth) -> dict[str, Any]:
    """The same for programs, schema babysit.resume/1: a patrol's document and what only a takeover knows."""
    found = [each.verdict for each in truth.runs if each.verdict is not None]
    content = report.document(found, at=truth.at, cursor=None, exit_code=tick_exit(found))
    unasked: list[dict[str, Any]] = [
        {"run": each.run.name, "id": each.run.run_id, "box": each.run.box.name, "health": None, "next": []}
        for each in truth.runs
        if each.verdict is None
    ]
    return {
        **content,
        "schema": "babysit.resume/1",
        "runs": [*content["runs"], *unasked],
        "believed_and_wrong": list(truth.believed_and_wrong),
        "armed": list(truth.armed),
        "code": [
            {"run": each.run, "id": each.run_id, "changed": each.changed, "untrusted_says": list(each.says)}
            for each in truth.code
        ],
        "next": [truth.next.command],
        "next_says": truth.next.says,
    }


def may_resume(verdict: Verdict) -> bool:
    """Whether the next command for a run in this state is to start it again."""
    return next(step for healths, step in STEPS if verdict.health in healths) == "resume"


def _urgency(standing: Standing) -> tuple[int, int, str]:
    verdict = standing.verdict
    if verdict is None:
        return len(STEPS), 0, standing.run.name
    row = next(index for index, (healths, _) in enumerate(STEPS) if verdict.health in healths)
    done, budget = _starts(standing)
    return row, int(done >= budget), standing.run.name


def _next(standing: Standing) -> Next:
    run, verdict = standing.run, standing.verdict
    look = commands.look(run.box.name, run.name)
    if verdict is None:
        return Next(look, f"{run.name} was not asked about")
    step = next(step for healths, step in STEPS if verdict.health in healths)
    if step == "resume":
        return _carry_on(standing)
    logs, watch = commands.logs(run.box.name, run.name), commands.watch(run.box.name, run.name)
    advised = verdict.next[0] if verdict.next else None
    choices = {
        "stop": Next(
            commands.stop(run.box.name, run.name),
            f"end what {run.name} left behind; until then nothing can start",
        ),
        "read": Next(advised or logs, f"{run.name} is {_word(verdict)}: {verdict.summary}"),
        "away": Next(
            advised or look,
            f"only you can see {run.box.name} in its provider's console: balance, power, preemption",
        ),
        "ask": Next(advised or look, f"{run.name} is {_word(verdict)}: {verdict.summary}"),
        "wait": Next(watch, f"wait for {run.name}; it finishes by itself, with or without this"),
        "show": Next(advised or logs, f"{run.name} has finished{_results(run)}"),
        "none": Next(
            commands.look(run.box.name, run.superseded_by or run.name),
            f"{run.name}: a newer run took its place",
        ),
    }
    return choices[step]


def _carry_on(standing: Standing) -> Next:
    run, verdict = standing.run, standing.verdict
    done, budget = _starts(standing)
    if done >= budget:
        says = (
            f"{run.name} has used all {figures.plural(budget, 'start')}: read why; --grant 1 allows one more"
        )
        return Next(commands.logs(run.box.name, run.name), says)
    resume = commands.carry_on(run.box.name, run.name)
    if verdict and verdict.next and resume not in verdict.next:
        # The table knows better: something has to be ended first, or the run was armed just now. To who looks
        # already another look is no advice: an arming that was cut goes on by arming again.
        again = verdict.next[0] == commands.look(run.box.name, run.name)
        command = commands.arm(run.box.name, run.name) if again else verdict.next[0]
        return Next(command, f"{run.name} is {_word(verdict)}: {verdict.summary}")
    point = "last stamped stage and checkpoint" if run.spec.artifacts else "last stamped stage"
    what = f"continue {run.name} from its {point}" if done else f"start {run.name}"
    return Next(resume, f"{what}, attempt {done + 1} of {budget}")


def _starts(standing: Standing) -> tuple[int, int]:
    """How many starts were made, and how many there may be: as the box allows, else as it was armed."""
    run, verdict = standing.run, standing.verdict
    return (verdict.attempt or 0, verdict.budget or run.spec.budget) if verdict else (0, run.spec.budget)


def _cells(standing: Standing) -> tuple[str, str, str]:
    word = _word(standing.verdict) if standing.verdict else "not asked"
    return standing.run.name, standing.run.box.name, word


def _found(standing: Standing, columns: Sequence[int], now: float) -> str:
    head = "  ".join(cell.ljust(width) for cell, width in zip(_cells(standing), columns, strict=True))
    verdict = standing.verdict
    if verdict is None:
        return head.rstrip()
    if verdict.health is Health.UNREACHABLE:  # its sentence says itself what was seen last, and when
        return f"{head}  {verdict.summary}"
    age = "never seen" if verdict.facts_at is None else figures.ago(now - verdict.facts_at)
    return f"{head}  {verdict.summary} · {age}"


def _outdated(run: Run, old: Verdict | None, fresh: Verdict | None, now: float) -> str | None:
    """A belief that the fresh look refutes. A box that does not answer refutes nothing."""
    if old is None or fresh is None or fresh.health in _NOT_SEEN:
        return None
    if (old.health, old.attempt) == (fresh.health, fresh.attempt):
        return None
    age = "" if old.facts_at is None else f", seen {figures.ago(now - old.facts_at)}"
    attempts = (
        "" if old.attempt == fresh.attempt else f" (attempt {old.attempt or 0}, now {fresh.attempt or 0})"
    )
    return f"{run.name} was {_word(old)}{attempts}{age}: it is {_word(fresh)}"


def _idle(
    waiter: WaiterBelief, runs: Mapping[str, Run], fresh: Mapping[str, Verdict], now: float
) -> str | None:
    """A sentinel that is down as waiting, and is gone or waits for nothing; `runs` need not be all."""
    run, verdict = runs.get(waiter.run_id), fresh.get(waiter.run_id)
    who = f"sentinel {waiter.pid} on this machine for {run.name if run else waiter.run_id}"
    if not waiter.alive:
        seen = "" if waiter.last_seen is None else f", last seen {figures.ago(now - waiter.last_seen)}"
        return f"{who}: gone, started {figures.ago(now - waiter.started_at)}{seen}"
    if verdict is not None and verdict.health in TERMINAL:
        return f"{who}: still waits, and the run is {_word(verdict)}"
    return None


def _results(run: Run) -> str:
    return f"; results on the box: {', '.join(run.spec.results)}" if run.spec.results else ""


def _word(verdict: Verdict) -> str:
    return verdict.health.value


def _column(texts: Sequence[str], indent: int = 2) -> list[str]:
    """Each text as lines of at most 80 columns, its further lines two deeper."""
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            untrusted.render_untrusted(text),
            _WIDTH,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
        )
    ]
