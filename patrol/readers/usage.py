"""What a watched stage used, out of its watcher's file; nothing that contradicts itself. Pure."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from fleet.errors import ProbeUnreadable
from fleet.model.probe import Attempt
from fleet.model.reading import Known, Missing, Reading
from fleet.model.run import Run
from fleet.model.usage import Usage, UsageEnd
from fleet.text.boxjson import from_box
from fleet.text.frame import Section
from patrol.readers.section import NOT_THERE, text_of

_BYTES_MAX = 4096  # what a probe sends of it
_FORMAT = 1
_WHAT = "what its stage used"

_Count = Annotated[int, Meta(ge=0, le=1 << 32)]
_Size = Annotated[int, Meta(ge=0, le=1 << 60)]
_Kib = Annotated[int, Meta(ge=0, le=1 << 50)]
_Ms = Annotated[int, Meta(ge=0, le=1 << 50)]
_Amount = Annotated[float, Meta(ge=0, le=1e12)]


class _Summary(Struct, frozen=True):
    peak_mem_rss_kb: _Kib | None = None
    peak_mem_rss_at_ms: _Ms | None = None
    peak_cgroup_used_kb: _Kib | None = None
    peak_gpu_mem_bytes: _Size | None = None
    rising_since_ms: _Ms | None = None
    avg_cpu_usage: _Amount | None = None


class _Oom(Struct, frozen=True):
    before: _Size
    after: _Size
    scope: Literal["cgroup", "machine"]


class _End(Struct, frozen=True):
    exit_code: Annotated[int, Meta(ge=0, le=255)] | None
    signal: Annotated[int, Meta(ge=1, le=64)] | None
    killed_by: Literal["user", "timeout", "oom", "unknown"] | None
    oom: _Oom | None = None
    wall_s: _Amount | None = None
    left_running: list[Any] = []
    left_running_count: _Count | None = None


class _File(Struct, frozen=True):
    format: int
    stage: str
    attempt: Annotated[int, Meta(ge=1, le=10**6)]
    at_ms: _Ms
    cpu_usage: _Amount | None = None
    mem_rss_kb: _Kib | None = None
    process_count: _Count | None = None
    cgroup_used_kb: _Kib | None = None
    cgroup_limit_kb: _Kib | None = None
    gpu_busy: _Amount | None = None
    summary: _Summary = _Summary()
    end: _End | None = None


def read_usage(
    section: Section | None, run: Run, attempt: Reading[Attempt | None], at: float
) -> Reading[Usage | None]:
    """The newest of `run`'s watched stages; Known None where none was watched yet.

    Missing for a file that no watcher writes: figures out of range, a stage that the run does not have, an
    attempt that has not been, an end that contradicts itself.
    """
    if section is None or section.status == NOT_THERE:
        return Known(None, at, "usage")
    text = text_of(section, _WHAT)
    if isinstance(text, Missing):
        return text
    try:
        file = from_box(section.content, _File, max_bytes=_BYTES_MAX, where=run.run_id, what=_WHAT)
    except ProbeUnreadable:
        return Missing(f"{_WHAT}: its file is malformed")
    wrong = _wrong(file, run, attempt)
    return Missing(f"{_WHAT}: its file {wrong}") if wrong else Known(_usage(file, at), at, "usage")


def _wrong(file: _File, run: Run, attempt: Reading[Attempt | None]) -> str | None:
    """Why no watcher of this run can have written `file`."""
    if file.format != _FORMAT:
        return "is of another format"
    if file.stage not in {f"{number:02}-{stage.name}" for number, stage in enumerate(run.spec.stages, 1)}:
        return "names a stage that the run does not have"
    newest = attempt.value if isinstance(attempt, Known) else None
    if isinstance(attempt, Known) and (newest is None or file.attempt > newest.number):
        return "is of a later attempt than the attempt record"
    end = file.end
    if end is None:
        return None
    killed = end.oom is not None and end.oom.after > end.oom.before
    consistent = (end.exit_code is None or end.signal is None) and (end.killed_by != "oom" or killed)
    return None if consistent else "contradicts itself"


def _usage(file: _File, now: float) -> Usage:
    summary, end = file.summary, file.end
    return Usage(
        stage=file.stage,
        attempt=file.attempt,
        at=min(file.at_ms / 1000, now),
        cpu_pct=file.cpu_usage,
        memory_bytes=_bytes(file.mem_rss_kb),
        processes=file.process_count,
        cgroup_bytes=_bytes(file.cgroup_used_kb),
        limit_bytes=_bytes(file.cgroup_limit_kb) or None,
        gpu_pct=file.gpu_busy,
        peak_bytes=_bytes(summary.peak_mem_rss_kb) or None,  # 0: it was gone before it was looked at
        peak_at=_seconds(summary.peak_mem_rss_at_ms, now),
        peak_cgroup_bytes=_bytes(summary.peak_cgroup_used_kb),
        peak_gpu_bytes=summary.peak_gpu_mem_bytes,
        rising_since=_seconds(summary.rising_since_ms, now),
        mean_cpu_pct=summary.avg_cpu_usage,
        end=None
        if end is None
        else UsageEnd(
            end.exit_code,
            end.signal,
            end.killed_by,
            end.wall_s,
            end.oom.scope if end.oom is not None and end.killed_by == "oom" else None,
            len(end.left_running) if end.left_running_count is None else end.left_running_count,
        ),
    )


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else kib * 1024


def _seconds(ms: int | None, now: float) -> float | None:
    """A moment of the box as its clock counts; one in the future is taken as now."""
    return None if ms is None else min(ms / 1000, now)
