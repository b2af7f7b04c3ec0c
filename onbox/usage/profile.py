"""What a run's usage folder, or one file of samples, says: a bounded document for a host, or programs."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from onbox.usage.buckets import Buckets, rounded
from onbox.usage.course import Course, number
from onbox.usage.files import PHASES, Nothing, Usage, Wanted, found, last_moment, size, stop_asked, taken
from onbox.wire.identity import Identity, same

SCHEMA = "onbox.usage/1"
MAX_BYTES = 120 * 1024
_OTHERS_BYTES = 128 << 20  # of attempts that are not drawn; what is older is left out
_TEXT_CHARS = 200
_WORDS, _LEFT, _ERRORS = 20, 8, 3
_KILLED = ("user", "timeout", "oom", "unknown")
_SCOPES = ("cgroup", "machine")
_WHOLES = ("exit_code", "signal")
_OF_A_STOP = (signal.SIGTERM, signal.SIGKILL)
_COUNTS = (
    "wall_s", "utime_s", "stime_s", "max_rss_kb", "max_rss_floor_kb", "minflt", "majflt", "nvcsw", "nivcsw",
    "rchar", "wchar", "read_bytes", "write_bytes", "samples_taken", "samples_dropped", "monitor_cpu_s",
)  # fmt: skip
_SUMMARY = (
    "total_time_secs", "sample_count", "max_processes", "max_threads", "total_disk_read_bytes",
    "total_disk_write_bytes", "total_syscall_read_bytes", "total_syscall_write_bytes",
    "peak_page_faults_cached", "peak_page_faults_disk", "peak_mem_rss_kb", "peak_mem_rss_at_ms",
    "avg_cpu_usage", "peak_cgroup_used_kb", "cgroup_limit_kb", "rising_since_ms", "peak_gpu_mem_bytes",
)  # fmt: skip


def profile(place: Path, wanted: Wanted) -> Dict[str, Any]:
    """The document for a run's folder or a file. Raises Nothing, OSError."""
    drawn, others = found(place, wanted)
    phases, buckets, from_ms = _drawn(drawn, wanted)
    phases, left_out = _others(others, phases)
    _tell_stop(phases, stop_asked(place))
    return _bounded(
        {
            "schema": SCHEMA,
            "ok": True,
            "exit_code": 0,
            "now_ms": int(time.time() * 1000),
            "left_out": left_out,
            "phases": phases,
            "chart": {
                "attempt": drawn[0].attempt,
                "from_ms": from_ms,
                "width_ms": buckets.width_ms,
                "out_of_order": buckets.before,
                "buckets": buckets.rows(),
            },
            "error": None,
        }
    )


def _drawn(drawn: List[Usage], wanted: Wanted) -> Tuple[List[Dict[str, Any]], Buckets, Optional[int]]:
    buckets = Buckets(wanted.points)
    from_ms = None
    if wanted.last_s is not None:
        ended = [at_ms for at_ms in map(last_moment, drawn) if at_ms is not None]
        from_ms = int(max(ended, default=0) - wanted.last_s * 1000)
    phases = [_phase(usage, *taken(usage, buckets, from_ms or 0.0), drawn=True) for usage in drawn]
    if not any(phase["samples"] or phase["exit"] for phase in phases):
        raise Nothing(
            "no-sample", "there is no sample in it", "is it a file of samples, a JSON object a line?"
        )
    return phases, buckets, from_ms


def _others(others: List[Usage], phases: List[Dict[str, Any]]) -> Tuple[List[Dict[str, Any]], int]:
    """`phases` with those before and after them, as many as fit; and how many are left out."""
    bytes_left, left_out = _OTHERS_BYTES, 0
    for usage in reversed(others):
        bytes_left -= size(usage)
        if bytes_left < 0 or len(phases) >= PHASES:
            left_out += 1
        else:
            phases = [_phase(usage, *taken(usage), drawn=False), *phases]
    return phases, left_out


def _tell_stop(phases: List[Dict[str, Any]], attempt: Optional[int]) -> None:
    """A stop signals the command itself, and its watcher cannot know who did: the run's record does."""
    for phase in phases:
        end = phase["exit"]
        if end is None or attempt is None or phase["attempt"] != attempt:
            continue
        if end["killed_by"] == "unknown" and end["signal"] in _OF_A_STOP:
            end["killed_by"] = "user"


def _bounded(document: Dict[str, Any]) -> Dict[str, Any]:
    """The document without the oldest phases that would make it too long; each phase by itself is short."""
    while len(document["phases"]) > 1 and len(json.dumps(document)) > MAX_BYTES:
        del document["phases"][0]
        document["left_out"] += 1
    return document


def _phase(usage: Usage, course: Course, count: int, *, drawn: bool) -> Dict[str, Any]:
    metadata = course.metadata or {}
    ours = metadata.get("onbox")
    ours = ours if isinstance(ours, dict) else {}
    end = _end(course.exit) if course.exit is not None else None
    wall_s = _known((end or {}).get("wall_s"))
    if wall_s is None and course.first_ms is not None and course.last_ms is not None:
        wall_s = (course.last_ms - course.first_ms) / 1000
    summary = _summary(course)
    return {
        "stage": usage.stage or _text(ours.get("stage")),
        "attempt": usage.attempt if usage.attempt is not None else _whole(ours.get("attempt")),
        "file": usage.path.name[:_TEXT_CHARS],
        "drawn": drawn,
        "bytes": count,
        "samples": course.samples,
        "damaged": course.damaged,
        "torn": course.torn,
        "started_ms": _whole(metadata.get("t0_ms")) or course.first_ms,
        "last_ms": course.last_ms,
        "alive": None if end is not None else _alive(metadata, ours),
        "metadata": {
            "pid": _whole(metadata.get("pid")),
            "command": _texts(metadata.get("cmd"), _WORDS, 400),
            "host": _text(ours.get("host")),
            "interval_ms": [_whole(each) for each in _list(ours.get("interval_ms"), 2)],
        },
        "wall_s": wall_s if wall_s is None else rounded(wall_s),
        **_totals(course, end, summary, wall_s),
        "exit": end,
        "summary": {name: _known(summary.get(name)) for name in _SUMMARY} if summary else None,
    }


def _totals(
    course: Course, end: Optional[Dict[str, Any]], summary: Dict[str, Any], wall_s: Optional[float]
) -> Dict[str, Any]:
    """What a person wants of one command first: exact where the kernel told it, sampled where it did not."""
    end = end or {}
    busy = [_known(end.get(name)) for name in ("utime_s", "stime_s")]
    spent_s = None if None in busy else sum(value or 0 for value in busy)
    mean = rounded(100 * spent_s / wall_s) if spent_s is not None and wall_s else course.mean("cpu_pct")
    peak_kb = _known(summary.get("peak_mem_rss_kb"))
    peaks = [course.highest.get("memory_bytes"), None if peak_kb is None else peak_kb * 1024]
    limit_kb, cgroup_kb = (_known(summary.get(name)) for name in ("cgroup_limit_kb", "peak_cgroup_used_kb"))
    read, written = (_known(end.get(name)) for name in ("read_bytes", "write_bytes"))
    return {
        "cpu_mean_pct": mean,
        "cpu_peak_pct": course.highest.get("cpu_pct"),
        # 0: gone before it was looked at, and smaller than its watcher, whom the kernel's figure counts too.
        "memory_peak_bytes": max((value for value in peaks if value), default=None),
        "memory_limit_bytes": course.limit if limit_kb is None else limit_kb * 1024,
        "cgroup_peak_bytes": course.cgroup if cgroup_kb is None else cgroup_kb * 1024,
        "rising_since_ms": _whole(summary.get("rising_since_ms")),
        "memory_peak_at_ms": _whole(summary.get("peak_mem_rss_at_ms")),
        "gpus": course.gpus,
        "gpu_mean_pct": course.mean("gpu_pct"),
        "gpu_memory_peak_bytes": course.highest.get("gpu_memory_bytes"),
        "read_bytes": course.read if read is None else read,
        "write_bytes": course.written if written is None else written,
        "processes_peak": course.highest.get("processes"),
    }


def _summary(course: Course) -> Dict[str, Any]:
    summary = (course.exit or {}).get("summary")
    return summary if isinstance(summary, dict) else {}


def _end(line: Dict[str, Any]) -> Dict[str, Any]:
    """The exit record, each of its values within its bounds; what is no such value is null."""
    oom = line.get("oom")
    left = [one for one in _list(line.get("left_running"), _LEFT) if isinstance(one, dict)]
    return {
        "at_ms": _whole(line.get("ts_ms")),
        **{name: _whole(line.get(name)) for name in _WHOLES},
        **{name: _known(line.get(name)) for name in _COUNTS},
        "core_dumped": line.get("core_dumped") is True,
        "max_rss_exact": line.get("max_rss_exact") is True,
        "killed_by": line.get("killed_by") if line.get("killed_by") in _KILLED else None,
        "oom": {
            "before": _whole(oom.get("before")),
            "after": _whole(oom.get("after")),
            "scope": oom.get("scope") if oom.get("scope") in _SCOPES else None,
        }
        if isinstance(oom, dict)
        else None,
        "left_running": [
            {"pid": _whole(one.get("pid")), "command": _text(one.get("command"), 60)} for one in left
        ],
        "left_running_count": len(_list(line.get("left_running"), 1 << 20)),
        "monitor_errors": _texts(line.get("monitor_errors"), _ERRORS, 360),
    }


def _alive(metadata: Dict[str, Any], ours: Dict[str, Any]) -> Optional[bool]:
    """Whether the command lives on this very machine; None where the file does not say enough to tell."""
    pid, ticks = _whole(metadata.get("pid")), _whole(ours.get("start_ticks"))
    boot = _text(ours.get("boot_id"))
    if pid is None or ticks is None or boot is None or ours.get("host") != os.uname().nodename:
        return None
    return same(Identity(pid, ticks, boot))


def _known(value: Any) -> Optional[float]:
    count = number(value)
    return count if count is None or isinstance(count, int) else rounded(count)


def _whole(value: Any) -> Optional[int]:
    count = number(value)
    return None if count is None else int(count)


def _list(value: Any, most: int) -> List[Any]:
    return value[:most] if isinstance(value, list) else []


def _text(value: Any, most: int = _TEXT_CHARS) -> Optional[str]:
    return value[:most] if isinstance(value, str) else None


def _texts(value: Any, most: int, chars: int) -> List[str]:
    """At most `most` texts of `chars` characters in all."""
    texts: List[str] = []
    for one in _list(value, most):
        if isinstance(one, str) and chars > 0:
            texts.append(one[:chars])
            chars -= len(one) + 1
    return texts
