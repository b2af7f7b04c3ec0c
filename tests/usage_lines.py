"""Lines of a watched command, made by hand after docs/monitor.md: what a test needs to know of a file in advance."""

import json
from pathlib import Path
from typing import Any

T0 = 1_790_000_000_000  # epoch milliseconds
MIB_KB = 1024


def metrics(at_ms: int, cpu: float = 50.0, mem_kb: int = 1000, **changes: Any) -> dict[str, Any]:
    return {
        "ts_ms": at_ms, "cpu_usage": cpu, "mem_rss_kb": mem_kb, "mem_vms_kb": 2 * mem_kb, "disk_read_bytes": 0, "disk_write_bytes": 0,
        "syscall_read_bytes": 0, "syscall_write_bytes": 0, "page_faults_cached": 0, "page_faults_disk": 0, "sys_net_rx_bytes": 0,
        "sys_net_tx_bytes": 0, "thread_count": 1, "uptime_secs": 0, **changes,
    }  # fmt: skip


def tree(
    at_ms: int, cpu: float = 50.0, mem_kb: int = 1000, processes: int = 1, **changes: Any
) -> dict[str, Any]:
    agg = metrics(at_ms, cpu, mem_kb, process_count=processes, **changes)
    parent = {**metrics(at_ms, cpu, mem_kb), "cpu_core": 1}
    return {"kind": "tree", "ts_ms": at_ms, "parent": parent, "children": [], "aggregated": agg, "cpu_usage": cpu, "mem_rss_kb": mem_kb}  # fmt: skip


def gpu(*busy: float, used: int = 0, mine: int | None = None) -> dict[str, Any]:
    devices = [
        {"device_index": at, "name": "A100", "system_utilization_gpu": share, "memory_total": 80 << 30, "memory_used": used}
        for at, share in enumerate(busy)
    ]  # fmt: skip
    own = [] if mine is None else [{"pid": 7, "memory_usage": mine}]
    return {
        "system_metrics": devices,
        "process_data": own,
        "has_process_data": mine is not None,
        "collection_method": "nvml",
    }


def metadata(t0_ms: int = T0, **ours: Any) -> dict[str, Any]:
    own = {
        "format": 1,
        "version": "0.1.0",
        "host": "gpu1",
        "boot_id": "b",
        "start_ticks": 5,
        "interval_ms": [250, 30000],
        **ours,
    }
    return {"kind": "metadata", "pid": 4242, "cmd": ["python", "train.py"], "executable": "/usr/bin/python", "t0_ms": t0_ms, "capabilities": {}, "onbox": own}  # fmt: skip


def end(at_ms: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "exit", "ts_ms": at_ms, "exit_code": 0, "signal": None, "core_dumped": False, "killed_by": None, "oom": None, "wall_s": 10.0,
        "utime_s": 4.0, "stime_s": 1.0, "max_rss_kb": 3000, "max_rss_exact": True, "max_rss_floor_kb": 900, "minflt": 1, "majflt": 2,
        "nvcsw": 3, "nivcsw": 4, "rchar": 5, "wchar": 6, "read_bytes": 7_000_000, "write_bytes": 8_000_000, "left_running": [],
        "samples_taken": 11, "samples_dropped": 2, "monitor_cpu_s": 0.05, "monitor_errors": [],
        "summary": {
            "total_time_secs": 10.0, "sample_count": 11, "peak_mem_rss_kb": 3000, "peak_mem_rss_at_ms": at_ms, "avg_cpu_usage": 50.0,
            "peak_cgroup_used_kb": None, "cgroup_limit_kb": None, "rising_since_ms": None,
        },
        **changes,
    }  # fmt: skip


def ramp(count: int = 11, step_ms: int = 1000, start_ms: int = T0, **changes: Any) -> list[dict[str, Any]]:
    """A job of `count` samples whose memory rises from nothing by 200 KiB a sample, two processes at the end."""
    return [
        tree(start_ms + at * step_ms, 50.0 if at else 0.0, 200 * at, 1 + (at == count - 1), **changes)
        for at in range(count)
    ]


def written(path: Path, lines: list[Any], tail: bytes = b"") -> Path:
    """`path` with the lines; one that is bytes already is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [
        line if isinstance(line, bytes) else json.dumps(line, separators=(",", ":")).encode()
        for line in lines
    ]
    path.write_bytes(b"".join(line + b"\n" for line in text) + tail)
    return path


def run_folder(folder: Path) -> Path:
    """A run's folder with two attempts: the first killed by the OOM killer, the second done."""
    (folder / "usage").mkdir(parents=True)
    (folder / "plan").write_text("format=1\nmonitor=01-prepare 02-train\n")
    limit = 4 * MIB_KB
    oom = end(
        T0 + 30_000,
        exit_code=None,
        signal=9,
        killed_by="oom",
        oom={"before": 0, "after": 1, "scope": "cgroup"},
        summary={"peak_cgroup_used_kb": 4000, "cgroup_limit_kb": limit, "rising_since_ms": T0 + 20_000, "peak_mem_rss_at_ms": T0 + 29_000, "peak_mem_rss_kb": 3900},
    )  # fmt: skip
    usage = folder / "usage"
    written(usage / "01-prepare.1.jsonl", [metadata(), *ramp(), end(T0 + 10_000)])
    first = ramp(start_ms=T0 + 20_000, cgroup_used_kb=3900, cgroup_limit_kb=limit)
    written(usage / "02-train.1.jsonl", [metadata(T0 + 20_000), *first, oom])
    second = ramp(21, start_ms=T0 + 60_000, gpu=gpu(90.0, mine=2 << 30))
    written(usage / "02-train.2.jsonl", [metadata(T0 + 60_000), *second, end(T0 + 80_000, wall_s=20.0)])
    (usage / "02-train.json").write_text("{}")
    return folder
