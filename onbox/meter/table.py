"""Samples as rows of comma-separated values: the sums of the tree, one row a sample."""

import json
from typing import Any, Dict, Optional

COLUMNS = (
    "ts_ms",
    "cpu_usage",
    "mem_rss_kb",
    "mem_vms_kb",
    "disk_read_bytes",
    "disk_write_bytes",
    "syscall_read_bytes",
    "syscall_write_bytes",
    "page_faults_cached",
    "page_faults_disk",
    "sys_net_rx_bytes",
    "sys_net_tx_bytes",
    "thread_count",
    "process_count",
    "uptime_secs",
    "mem_pss_kb",
    "cgroup_used_kb",
    "cgroup_limit_kb",
    "cgroup_peak_kb",
    "disk_free_kb",
)
HEAD = ",".join(COLUMNS) + "\n"


def row(line: bytes) -> Optional[str]:
    """The row of one line of samples, with its end; None for a line that is no sample."""
    if not is_sample(line):
        return None
    record: Dict[str, Any] = json.loads(line.decode())
    values = record.get("aggregated", record)
    return ",".join("" if values.get(name) is None else "%s" % values[name] for name in COLUMNS) + "\n"


def is_sample(line: bytes) -> bool:
    """Whether the line is a sample, of a tree or of one process."""
    return line.startswith((b'{"kind":"tree"', b'{"kind":"sample"'))
