"""What the last tick knew, as a table: a line a run. Pure text, and nothing in it is the box's."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from fleet.model.run import Run
from fleet.model.verdict import TERMINAL, Progress, Severity, Verdict
from fleet.text.say import duration
from patrol.report import NAME_COLUMN_MAX, cut

_UNKNOWN = "\N{EN DASH}"
_BARS = "▁▂▃▄▅▆▇█"
_BARS_SHOWN = 5


def status_table(
    runs: Sequence[Run],
    verdicts: Mapping[str, Verdict],
    recent: Mapping[str, tuple[int, ...]],
    armed: Mapping[str, Sequence[str]],
    now: float,
    *,
    width: int = 80,
) -> list[str]:
    """What the last tick knew, a line a run below a heading; AGE is the age of the facts.

    `armed`: what watches each run, by its id.
    """
    head = ("RUN", "BOX", "STATE", "AGE", "PROGRESS", "ETA", "GPU", "ARMED")
    rows = [head]
    for run in runs:
        at = run.run_id
        rows.append(_cells(run, verdicts.get(at), recent.get(at, ()), armed.get(at, ()), now))
    widths = [min(max(len(row[column]) for row in rows), NAME_COLUMN_MAX) for column in range(len(head))]
    return [
        cut(
            "  ".join(cut(cell, size).ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip(),
            width,
        )
        for row in rows
    ]


def sparkline(counts: Sequence[int]) -> str:
    """The last five counts as bars between the least and the most of them; empty without any."""
    shown = counts[-_BARS_SHOWN:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high == low:
        return _BARS[4] * len(shown)
    return "".join(_BARS[1 + (count - low) * 5 // (high - low)] for count in shown)


def rings(histories: Mapping[str, bytes]) -> dict[str, tuple[int, ...]]:
    """The recent step counts of each run, oldest first, from the histories as they are stored."""
    return {run_id: msgspec.json.decode(stored, type=_Ring).recent for run_id, stored in histories.items()}


class _Ring(Struct):
    recent: tuple[int, ...] = ()


def _cells(
    run: Run, verdict: Verdict | None, recent: Sequence[int], armed: Sequence[str], now: float
) -> tuple[str, str, str, str, str, str, str, str]:
    left = "disarmed" if run.disarmed_at is not None else "superseded" if run.superseded_by else ""
    watch = _UNKNOWN if left else ", ".join(armed) or _UNKNOWN
    if verdict is None:
        state = f"{left} unseen" if left else "not seen yet"
        return (run.name, run.box.name, state, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN, watch)
    state = verdict.health.upper() if verdict.severity is Severity.PAGE else verdict.health.value
    if left:
        state = f"{left} {verdict.health.value}"
    age = _UNKNOWN if verdict.facts_at is None else duration(now - verdict.facts_at)
    progress = verdict.progress or Progress()
    steps = _UNKNOWN
    if progress.index is not None:
        total = f"/{progress.total}" if progress.total else ""
        steps = f"{sparkline(recent)} {progress.index}{total}".strip()
    awaited = "?" if progress.total and verdict.health not in TERMINAL else _UNKNOWN
    eta = duration(progress.eta_s) if progress.eta_s is not None else awaited
    gpu = next(
        (seen.says for seen in verdict.evidence if seen.source == "gpu" and seen.says[:4] == "GPU "), _UNKNOWN
    )
    gpu = gpu.partition(",")[0].removeprefix("GPU ")
    return (run.name, run.box.name, state, age, steps, eta, gpu, watch)
