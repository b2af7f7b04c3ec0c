"""What a watched stage used: what the table asks, and how it is said. Pure; closed words and figures only."""

from collections.abc import Callable, Iterator
from typing import Any

from fleet.model.probe import End
from fleet.model.reading import Known, Missing
from fleet.model.usage import Usage
from fleet.text.say import ago, duration, plural, size
from patrol.case import Case
from patrol.loop_words import LoopWords

# Above this share of its limit, and still rising, a job is about to be killed for memory.
_FULL = 0.9
_AT_PEAK = 0.95  # of its peak: a rise that is not over
_FRESH_S = 120.0  # a watcher writes every ten seconds
_PACE_S = 60.0  # what is shorter says nothing of a pace
_FAR_S = 86400.0
_FAILED_BY_ITSELF = frozenset({"exit", "signal"})


def usage_of(case: Case) -> Usage | None:
    """The newest watched stage, of whichever attempt; None too where it could not be read."""
    return case.facts.usage.value if isinstance(case.facts.usage, Known) else None


def now_used(case: Case) -> Usage | None:
    """The watched stage that is under way in this attempt, as it was just now."""
    usage = usage_of(case)
    if usage is None or usage.end is not None or case.attempt is None or usage.attempt != case.attempt.number:
        return None
    return usage if case.box_now - usage.at < _FRESH_S else None


def end_used(case: Case) -> Usage | None:
    """The watched stage that the end record of this attempt names, with its own end."""
    usage = usage_of(case)
    if usage is None or usage.end is None or case.end is None:
        return None
    return usage if (usage.stage, usage.attempt) == (case.end.stage, case.end.attempt) else None


def killed_for_memory(case: Case) -> bool:
    """Whether the stage failed, and its watcher saw that the kernel killed it, or one of it, for memory."""
    usage = end_used(case)
    if usage is None or usage.end is None or case.end is None:
        return False
    return case.end.state == "failed" and case.end.why in _FAILED_BY_ITSELF and usage.end.killed_by == "oom"


def filling(case: Case) -> bool:
    """Whether the stage under way is close to the limit of its memory and still rising."""
    usage = now_used(case)
    if usage is None or usage.rising_since is None or usage.memory_bytes is None:
        return False
    used, limit = memory(case, usage)
    rising = usage.memory_bytes >= _AT_PEAK * (usage.peak_bytes or 0)
    return used is not None and limit is not None and rising and used >= _FULL * limit


def memory(case: Case, usage: Usage) -> tuple[int | None, int | None]:
    """Bytes that are used and the limit they meet: the cgroup's, else the machine's; None: not known.

    Where only the machine limits it, or before the cgroup does, all that the machine uses counts.
    """
    on = case.box.memory if case.box else None
    if isinstance(on, Known) and on.value.limit_bytes:
        less = on.vantage == "/proc/meminfo" and on.value.limit_bytes < (usage.limit_bytes or 0)
        if usage.limit_bytes is None or less:
            return on.value.used_bytes, on.value.limit_bytes
    return usage.held_bytes, usage.limit_bytes


class UsageWords(LoopWords):
    """What a case's watched stage used. An empty word leaves its piece out."""

    @property
    def memory(self) -> str:
        """`memory 12 of 32 GB`: what the stage under way holds."""
        usage = now_used(self._case)
        if usage is None or usage.held_bytes is None:
            return ""
        return f"memory {of(usage.held_bytes, usage.limit_bytes)}"

    @property
    def peak(self) -> str:
        """`peak 31.8 of 32 GB`, of the stage that ended last; with its name where the run has several."""
        usage = end_used(self._case) if self._failed else usage_of(self._case)
        if usage is None or usage.end is None or usage.peak_bytes is None:
            return ""
        several = not self._failed and len(self._case.run.spec.stages) > 1
        where = f" in {self._case.stage_label(usage.stage)}" if several else ""
        return f"peak {of(usage.peak_bytes, usage.limit_bytes)}{where}"

    @property
    def oom_killed(self) -> str:
        """`stage train was killed by the OOM killer at 31.8 of 32 GB, rising for 40 min`."""
        usage = end_used(self._case)
        if usage is None or usage.end is None:
            return ""
        stage = f"stage {self._case.stage_label(usage.stage)}"
        who = stage if usage.end.signal is not None else f"a process of {stage}"
        at, limit = _at_its_end(self._case, usage)
        figures = f" at {of(at, limit)}" if at is not None else ""
        whose = "the machine's" if usage.end.oom_scope == "machine" else "the"
        return f"{who} was killed by {whose} OOM killer{figures}{rising(usage)}"

    @property
    def filling(self) -> str:
        """`memory 29.5 of 32 GB, rising for 40 min`."""
        usage = now_used(self._case)
        used, limit = (None, None) if usage is None else memory(self._case, usage)
        return "" if usage is None or used is None else f"memory {of(used, limit)}{rising(usage)}"

    @property
    def full_in(self) -> str:
        """`full in about 8 min at this pace`, where several looks show a pace."""
        usage = now_used(self._case)
        used, limit = (None, None) if usage is None else memory(self._case, usage)
        if usage is None or usage.rising_since is None or used is None or limit is None:
            return ""
        looks = [look for look in self._case.history.memory if look[0] >= usage.rising_since]
        if not looks or looks[-1][0] - looks[0][0] < _PACE_S or looks[-1][1] <= looks[0][1]:
            return ""
        left_s = (limit - used) * (looks[-1][0] - looks[0][0]) / (looks[-1][1] - looks[0][1])
        return f"full in about {duration(left_s)} at this pace" if 0 < left_s < _FAR_S else ""

    @property
    def _failed(self) -> bool:
        match self._case.end:
            case End(state="failed"):
                return True
        return False


def of(count: int, limit: int | None) -> str:
    """`31.8 of 32 GB`, `900 MB of 32 GB`, or the count alone where nothing limits it."""
    if limit is None:
        return size(count)
    number, unit = size(count).split(" ")
    whole = size(limit)
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{number} {unit} of {whole}"


def rising(usage: Usage) -> str:
    """`, rising for 40 min`, until its peak or until now; empty where it was but a moment."""
    if usage.rising_since is None:
        return ""
    until = usage.at if usage.end is None else usage.peak_at or usage.at
    for_s = until - usage.rising_since
    return f", rising for {duration(for_s)}" if for_s >= 1 else ""


def evidence_says(case: Case) -> Iterator[str]:
    """What is known of the newest watched stage, one sentence for its figures and one for its end."""
    match case.facts.usage:
        case Missing(why=why):
            yield f"not read: {why}"
        case Known(value=Usage() as usage):
            pieces = [
                f"stage {case.stage_label(usage.stage)} in attempt {usage.attempt}",
                *_figures(usage),
                "" if usage.end else ago(case.box_now - usage.at),
            ]
            yield ", ".join(piece for piece in pieces if piece)
            if usage.end is not None:
                yield ", ".join(_ended(usage))


def document(usage: Usage | None, moment: Callable[[float | None], str | None]) -> dict[str, Any] | None:
    """The JSON shape of a verdict's usage; `moment` makes a text of epoch seconds."""
    if usage is None:
        return None
    end = usage.end
    return {
        "stage": usage.stage,
        "attempt": usage.attempt,
        "at": moment(usage.at),
        "cpu_pct": usage.cpu_pct,
        "mean_cpu_pct": usage.mean_cpu_pct,
        "memory_bytes": usage.memory_bytes,
        "cgroup_bytes": usage.cgroup_bytes,
        "limit_bytes": usage.limit_bytes,
        "processes": usage.processes,
        "gpu_pct": usage.gpu_pct,
        "peak_bytes": usage.peak_bytes,
        "peak_at": moment(usage.peak_at),
        "peak_cgroup_bytes": usage.peak_cgroup_bytes,
        "peak_gpu_bytes": usage.peak_gpu_bytes,
        "rising_since": moment(usage.rising_since),
        "end": None
        if end is None
        else {
            "exit_code": end.exit_code,
            "signal": end.signal,
            "killed_by": end.killed_by,
            "oom_scope": end.oom_scope,
            "wall_s": end.wall_s,
            "left_running": end.left_running,
        },
    }


def _figures(usage: Usage) -> Iterator[str]:
    if usage.end is None:
        used = usage.held_bytes
        yield "" if used is None else f"memory {of(used, usage.limit_bytes)}"
        yield "" if usage.cpu_pct is None else f"CPU {usage.cpu_pct:.0f} %"
        yield "" if usage.processes is None else plural(usage.processes, "process")
    yield "" if usage.peak_bytes is None else f"peak {of(usage.peak_bytes, usage.limit_bytes)}"
    yield "" if usage.mean_cpu_pct is None else f"CPU {usage.mean_cpu_pct:.0f} % in the mean"
    yield "" if usage.gpu_pct is None else f"GPU {usage.gpu_pct:.0f} %"


def _ended(usage: Usage) -> Iterator[str]:
    end = usage.end
    if end is None:
        return
    took = "" if end.wall_s is None else f" after {duration(end.wall_s)}"
    how = f"status {end.exit_code}" if end.exit_code is not None else f"signal {end.signal}"
    yield f"it ended{took} with {how}" if end.exit_code is not None or end.signal else f"it ended{took}"
    if end.killed_by == "oom":
        yield f"while the {end.oom_scope}'s count of kills for memory went up"
    if end.left_running:
        yield f"{plural(end.left_running, 'process')} of it ran on"


def _at_its_end(case: Case, usage: Usage) -> tuple[int | None, int | None]:
    """The most that was used before a kill, and the limit that it met."""
    if usage.end is None or usage.end.oom_scope != "cgroup" or usage.limit_bytes is None:
        on = case.box.memory.value if case.box and isinstance(case.box.memory, Known) else None
        return usage.peak_bytes, on.limit_bytes if on and usage.limit_bytes is None else None
    known = [count for count in (usage.peak_bytes, usage.peak_cgroup_bytes) if count is not None]
    return (min(max(known), usage.limit_bytes) if known else None), usage.limit_bytes
