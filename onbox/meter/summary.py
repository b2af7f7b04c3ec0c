"""What the samples of one command come to, in one pass and constant memory. Pure."""

from typing import Any, Dict, Optional, Tuple

from onbox.meter.records import Metrics
from onbox.meter.rising import Rising


class Summary:
    """Takes samples one by one; `as_dict()` holds denet's keys, those of its pages, and ours."""

    def __init__(self) -> None:
        self._first_ms: Optional[int] = None
        self._last_ms = 0
        self._count = self._processes = self._threads = 0
        self._counts: Tuple[int, ...] = Metrics(0)[4:12]  # bytes and faults, as they stand there
        self._most: Tuple[int, ...] = self._counts
        self._cpu_ms = 0.0  # percent of a core times milliseconds
        self._rising = Rising()
        self._cgroup_kb: Optional[int] = None
        self._limit_kb: Optional[int] = None
        self._gpu_bytes: Optional[int] = None
        self._exact: Dict[str, Any] = {}

    def add(self, total: Metrics, processes: int, extra: Dict[str, Any]) -> None:
        """Nothing comes back: `total`, of so many processes, and what only a sum has, are one more sample."""
        if self._first_ms is None:
            self._first_ms = self._last_ms = total.ts_ms
        self._cpu_ms += total.cpu_usage * max(0, total.ts_ms - self._last_ms)
        self._last_ms = max(self._last_ms, total.ts_ms)
        self._count += 1
        self._processes = max(self._processes, processes)
        self._threads = max(self._threads, total.thread_count)
        counts = total[4:12]
        if counts != self._counts:
            self._most = tuple([max(pair) for pair in zip(self._most, counts)])
            self._counts = counts
        self._rising.add(total.ts_ms, total.mem_rss_kb)
        self._cgroup_kb = _higher(self._cgroup_kb, extra.get("cgroup_used_kb"))
        self._limit_kb = extra.get("cgroup_limit_kb", self._limit_kb)
        self._gpu_bytes = _higher(self._gpu_bytes, gpu_bytes(extra.get("gpu")))

    def exactly(self, **figures: Any) -> None:
        """Nothing comes back: what is known better than by samples, by its key; None says nothing."""
        self._exact.update({key: value for key, value in figures.items() if value is not None})

    def cgroup_peak(self, kib: int) -> None:
        """Nothing comes back: the group's memory was at `kib` while the command ran."""
        self._cgroup_kb = _higher(self._cgroup_kb, kib)

    def as_dict(self) -> Dict[str, Any]:
        """The summary so far, the keys of docs/monitor.md in their order."""
        exact, most = self._exact, Metrics(0, 0, 0, 0, *self._most)
        spent_ms = self._last_ms - (self._first_ms or 0) if self._count else 0
        elapsed = exact.get("elapsed_time", spent_ms / 1000)
        cpu_s = exact.get("cpu_s")
        cpu = self._cpu_ms / spent_ms if spent_ms else 0.0
        if cpu_s is not None and elapsed > 0:
            cpu = 100 * cpu_s / elapsed
        peak = max(self._rising.peak, exact.get("max_rss_kb", 0))
        return {
            "total_time_secs": round(spent_ms / 1000, 3),
            "sample_count": self._count,
            "max_processes": self._processes,
            "max_threads": self._threads,
            "total_disk_read_bytes": exact.get("read_bytes", most.disk_read_bytes),
            "total_disk_write_bytes": exact.get("write_bytes", most.disk_write_bytes),
            "total_syscall_read_bytes": exact.get("rchar", most.syscall_read_bytes),
            "total_syscall_write_bytes": exact.get("wchar", most.syscall_write_bytes),
            "peak_page_faults_cached": exact.get("minflt", most.page_faults_cached),
            "peak_page_faults_disk": exact.get("majflt", most.page_faults_disk),
            "total_sys_net_rx_bytes": most.sys_net_rx_bytes,
            "total_sys_net_tx_bytes": most.sys_net_tx_bytes,
            "peak_mem_rss_kb": peak,
            "avg_cpu_usage": round(cpu, 3),
            "peak_memory_mb": round(peak / 1024, 3),
            "avg_cpu_percent": round(cpu, 3),
            "elapsed_time": round(elapsed, 3),
            "peak_mem_rss_at_ms": self._rising.peak_at_ms,
            "peak_cgroup_used_kb": self._cgroup_kb,
            "cgroup_limit_kb": self._limit_kb,
            "rising_since_ms": self._rising.since(),
            "peak_gpu_mem_bytes": self._gpu_bytes,
            "exit_code": exact.get("exit_code"),
            "signal": exact.get("signal"),
            "killed_by": exact.get("killed_by"),
        }


def gpu_bytes(gpu: Optional[Dict[str, Any]]) -> Optional[int]:
    """GPU memory of the tree: its processes' where the driver tells, else what the devices gained."""
    if not gpu:
        return None
    if gpu.get("has_process_data"):
        return sum(int(one["memory_usage"]) for one in gpu["process_data"])
    deltas = gpu.get("device_delta")
    return sum(max(0, int(one["memory_used"])) for one in deltas) if deltas else None


def _higher(one: Optional[int], other: Optional[int]) -> Optional[int]:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
