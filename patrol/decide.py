"""The one place where health is decided: a walk over the table, and the reasons beside it. Pure."""

from collections.abc import Iterable

from msgspec.structs import replace

from fleet.errors import TICK_PRECEDENCE
from fleet.model.probe import Attempt, Probe, Reachable
from fleet.model.reading import Known
from fleet.model.run import Run
from fleet.model.verdict import Progress, Verdict
from patrol.case import Case
from patrol.evidence import evidence
from patrol.history import History
from patrol.pace import eta_s
from patrol.says import Words
from patrol.table import TABLE, Row
from patrol.usage import usage_of


def decide(run: Run, probe: Probe, history: History, now: float) -> Verdict:
    """How `run` is. `history` has this very look folded in; `now` is host time, and so is `since`."""
    case = Case(run, probe, history, now)
    row = first_match(case)
    words = Words(case)
    budget = case.facts.budget.value if isinstance(case.facts.budget, Known) else None
    following, used_up = _allowed(filled(row.next, words), case.attempt, budget, words)
    return Verdict(
        run_id=run.run_id,
        run=run.name,
        box=run.box.name,
        row=row.id,
        health=row.health,
        severity=row.severity,
        exit_code=row.exit_code,
        summary=" · ".join([*filled(row.says, words), *used_up]),
        since=now,
        facts_at=history.facts_at if case.away else probe.at,
        attempt=case.attempt.number if case.attempt else history.attempt,
        evidence=evidence(case),
        next=following,
        progress=_progress(case),
        last_line=history.last_line,
        last_lines=history.last_lines,
        strict_kex=probe.strict_kex if isinstance(probe, Reachable) else None,
        loops=case.loops,
        broken=case.broken_off,
        usage=usage_of(case),
        budget=budget,
    )


def first_match(case: Case) -> Row:
    """The row that decides `case`; the last row matches everything."""
    return next(row for row in TABLE if row.when(case))


def tick_exit(verdicts: Iterable[Verdict]) -> int:
    """The exit code of a tick with these verdicts: the most pressing of theirs."""
    codes = {verdict.exit_code for verdict in verdicts}
    return next((code for code in TICK_PRECEDENCE if code in codes), 0)


def filled(pieces: Iterable[str], words: Words) -> list[str]:
    """`pieces` with their words filled in, without those that came out empty."""
    return [text for text in (piece.format(c=words) for piece in pieces) if text]


def _allowed(
    commands: list[str], attempt: Attempt | None, budget: int | None, words: Words
) -> tuple[tuple[str, ...], list[str]]:
    """`commands` without a start that the budget does not allow, and a piece of sentence where there was one.

    The box would refuse it. Then only its owner can decide, and the log says what about.
    """
    start = f"babysit resume {words.box} {words.run} --yes"
    if start not in commands or attempt is None or budget is None or attempt.number < budget:
        return tuple(commands), []
    left = tuple(command for command in commands if command != start)
    used_up = f"all {budget} starts are used" if budget > 1 else "its one start is used"
    return left or (f"babysit logs {words.box} {words.run}",), [used_up]


def _progress(case: Case) -> Progress | None:
    progress = case.history.progress
    last_step_at = progress.last_step_at or case.history.advanced_at
    if last_step_at is None and progress == Progress():
        return None
    return replace(progress, last_step_at=last_step_at, eta_s=eta_s(case) if case.chain_lives else None)
