"""How far a run is and how long it will take, in words and in seconds. Pure."""

from fleet.model.verdict import Progress
from patrol.case import Case


def step(progress: Progress) -> str:
    """`epoch 37/90`, `step 400`, `epoch 3 (37 % of it)`; empty where the run does not say."""
    if progress.index is None:
        return ""
    total = f"/{progress.total}" if progress.total else ""
    part = "" if progress.part is None else f" ({progress.part * 100:.0f} % of it)"
    return f"{progress.unit} {progress.index}{total}{part}"


def held(case: Case) -> bool:
    """Whether its first loop is paused: it takes no step until somebody resumes it."""
    return bool(case.loops) and case.loops[0].paused


def eta_s(case: Case) -> float | None:
    """Seconds to the last step, by its loop or the usual pace; None when unknown, or it is silent or held."""
    progress = case.history.progress
    if held(case):
        return None
    if progress.eta_s is not None and progress.last_step_at is not None and not case.silent:
        return max(0.0, progress.eta_s - (case.box_now - progress.last_step_at))
    if progress.total is None or progress.index is None or progress.usual_step_s is None or case.silent:
        return None
    since = case.box_now - (progress.last_step_at or case.box_now)
    return max(0.0, (progress.total - progress.index) * progress.usual_step_s - since)
