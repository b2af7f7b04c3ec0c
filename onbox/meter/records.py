"""The lines of a watched command, byte for byte: compact JSON, the kinds of docs/monitor.md. Pure."""

import json
from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

# One figure a key, in this order. Written out, as it is the hottest text of a watcher.
_METRICS = (
    '"ts_ms":%d,"cpu_usage":%.2f,"mem_rss_kb":%d,"mem_vms_kb":%d,"disk_read_bytes":%d,"disk_write_bytes":%d,'
    '"syscall_read_bytes":%d,"syscall_write_bytes":%d,"page_faults_cached":%d,"page_faults_disk":%d,'
    '"sys_net_rx_bytes":%d,"sys_net_tx_bytes":%d,"thread_count":%d,"uptime_secs":%d'
)


class Metrics(NamedTuple):
    """One process at a moment, or the sum of a tree: percent of one core, KiB, bytes since sample zero."""

    ts_ms: int
    cpu_usage: float = 0.0
    mem_rss_kb: int = 0
    mem_vms_kb: int = 0
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0
    syscall_read_bytes: int = 0
    syscall_write_bytes: int = 0
    page_faults_cached: int = 0
    page_faults_disk: int = 0
    sys_net_rx_bytes: int = 0
    sys_net_tx_bytes: int = 0
    thread_count: int = 0
    uptime_secs: int = 0


class Child(NamedTuple):
    """A line's part of one descendant; `metrics` is the text that `process` gave."""

    pid: int
    command: str
    metrics: str


def process(metrics: Metrics, core: int, pss_kb: Optional[int] = None) -> str:
    """The METRICS object of one process."""
    own = "" if pss_kb is None else ',"mem_pss_kb":%d' % pss_kb
    return "{" + _METRICS % metrics + ',"cpu_core":%d%s}' % (core, own)


def tree(
    total: Metrics,
    processes: int,
    parent: Optional[str],
    children: Iterable[Child],
    extra: Dict[str, Any],
    *,
    said: str = "",
) -> bytes:
    """The line of one sample of a tree; `extra`, and `said` as `more` gives it, is what only the sum has."""
    return (
        '{"kind":"tree","ts_ms":%d,"parent":%s,"children":[%s],"aggregated":{%s,"process_count":%d%s},"cpu_usage":%.2f,'
        '"mem_rss_kb":%d}\n'
        % (
            total.ts_ms,
            parent or "null",
            ",".join(['{"pid":%d,"command":%s,"metrics":%s}' % child for child in children]),
            _METRICS % total,
            processes,
            more(extra) + said,
            total.cpu_usage,
            total.mem_rss_kb,
        )
    ).encode()


def sample(parent: str, extra: Dict[str, Any], *, said: str = "") -> bytes:
    """The line of one sample of a process alone."""
    return ('{"kind":"sample",%s%s%s}\n' % (parent[1:-1], more(extra), said)).encode()


def child(ts_ms: int, pid: int, ppid: int, words: Sequence[str], executable: str) -> bytes:
    """The line of a descendant that is new, or became another program."""
    return line(
        {"kind": "child", "ts_ms": ts_ms, "pid": pid, "ppid": ppid, "cmd": list(words), "exe": executable}
    )


def line(document: Dict[str, Any]) -> bytes:
    """`document` as one line. Raises ValueError for a number that is none."""
    return (compact(document) + "\n").encode()


def compact(value: Any) -> str:
    """`value` as JSON without a space, in ASCII. Raises ValueError for a number that is none."""
    return _ENCODER.encode(value)


def text(raw: bytes) -> str:
    """`raw` as text that every reader of JSON takes: a byte that is no UTF-8 is U+FFFD."""
    return raw.decode("utf-8", "replace")


def clean(word: str) -> str:
    """`word` without the half characters that stand for bytes which are no UTF-8."""
    return text(word.encode("utf-8", "surrogatepass"))


def more(extra: Dict[str, Any]) -> str:
    """`extra` as a part of an object, each key behind a comma."""
    found = ""
    for name, value in extra.items():
        found += ',"%s":%s' % (name, value if type(value) is int else compact(value))
    return found
