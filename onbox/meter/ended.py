"""The record of a command's end, from what the kernel says of it. Pure."""

import resource
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from onbox.meter.stat import Io, io_of

_MOST_LEFT = 1000


class Ended(NamedTuple):
    """How it ended, as its watcher saw it.

    `stat` and `io` are the files of /proc as they were before it was collected; `rusage` came with the
    collecting, as did those of `adopted` orphans. `killed` says what we did (`user`, `timeout`); `left` is
    what lives on; `floor_kb` our own size, which the kernel counts into the command's. None: not known.
    """

    exit_code: Optional[int]
    signal: Optional[int]
    core: bool
    rusage: Optional[resource.struct_rusage]
    killed: Optional[str]
    left: List[Tuple[int, str]]
    dropped: int
    errors: List[str]
    monitor_cpu_s: float
    wall_s: float
    stat: Optional[bytes]
    io: Optional[bytes]
    floor_kb: int
    adopted: List[resource.struct_rusage]


class Known(NamedTuple):
    """What its sampler knows: what sample zero had used, the largest process seen, what the OOM killer did.

    `oom` is the kernel's count before and now, and whose; `oom_hit`: it went up when the command, or one of
    its tree, went.
    """

    zero_cpu_s: float = 0.0
    zero_faults: Tuple[int, int] = (0, 0)
    zero_switches: Tuple[int, int] = (0, 0)
    zero_io: Io = Io()
    collected_io: Io = Io()
    sampled_io: Io = Io()
    sampled_hwm_kb: int = 0
    samples: int = 0
    oom: Optional[Tuple[int, int, str]] = None
    oom_hit: bool = False


def killed_by(ended: Ended, *, oom_hit: bool) -> Optional[str]:
    """`timeout`, `user`, `oom`, `unknown`; None for who ended by itself, or whose end nobody saw."""
    if ended.killed is not None:
        return ended.killed
    if oom_hit and (ended.signal is not None or ended.exit_code):
        return "oom"
    return None if ended.signal is None else "unknown"


def exit_record(ended: Ended, known: Known, ts_ms: int) -> Dict[str, Any]:
    """The `exit` line without its summary, in the order of docs/monitor.md; None: it was not to be known."""
    oom = known.oom
    return {
        "kind": "exit",
        "ts_ms": ts_ms,
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "core_dumped": ended.core,
        "killed_by": killed_by(ended, oom_hit=known.oom_hit),
        "oom": None if oom is None else {"before": oom[0], "after": oom[1], "scope": oom[2]},
        "wall_s": round(ended.wall_s, 6),
        **_used(ended, known),
        **_io(ended, known),
        "left_running": [{"pid": pid, "command": command} for pid, command in ended.left[:_MOST_LEFT]],
        "samples_taken": known.samples,
        "samples_dropped": ended.dropped,
        "monitor_cpu_s": round(ended.monitor_cpu_s, 6),
        "monitor_errors": list(ended.errors),
    }


def _used(ended: Ended, known: Known) -> Dict[str, Any]:
    every = ([] if ended.rusage is None else [ended.rusage]) + list(ended.adopted)
    if ended.rusage is None:
        return {
            "utime_s": None, "stime_s": None, "max_rss_kb": known.sampled_hwm_kb, "max_rss_exact": False,
            "max_rss_floor_kb": ended.floor_kb, "minflt": None, "majflt": None, "nvcsw": None, "nivcsw": None,
        }  # fmt: skip
    # Before its exec the command was a fork of ours, which had little to do but to copy pages.
    system = sum(one.ru_stime for one in every) - known.zero_cpu_s
    user = max(0.0, sum(one.ru_utime for one in every) + min(0.0, system))
    largest = max(one.ru_maxrss for one in every)
    exact = largest > ended.floor_kb
    faults, switches = known.zero_faults, known.zero_switches
    return {
        "utime_s": round(user, 6),
        "stime_s": round(max(0.0, system), 6),
        "max_rss_kb": largest if exact else known.sampled_hwm_kb,
        "max_rss_exact": exact,
        "max_rss_floor_kb": ended.floor_kb,
        "minflt": max(0, sum(one.ru_minflt for one in every) - faults[0]),
        "majflt": max(0, sum(one.ru_majflt for one in every) - faults[1]),
        "nvcsw": max(0, sum(one.ru_nvcsw for one in every) - switches[0]),
        "nivcsw": max(0, sum(one.ru_nivcsw for one in every) - switches[1]),
    }


def _io(ended: Ended, known: Known) -> Dict[str, int]:
    last = io_of(ended.io) if ended.io else None
    if last is None:
        return dict(zip(Io._fields, known.sampled_io))
    return {
        name: max(0, end - zero) + more
        for name, end, zero, more in zip(Io._fields, last, known.zero_io, known.collected_io)
    }
