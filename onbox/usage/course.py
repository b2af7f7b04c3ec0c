"""What the lines of one watched command come to, in one pass and bounded memory, whoever wrote them.

The lines are those of docs/monitor.md, or of denet: nothing in them is believed beyond its bounds.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional

from onbox.usage.buckets import Buckets, rounded

LINE_BYTES = 1 << 20
_MOST = 1e17  # no count, size or moment of ours is larger
# A number without end costs an old Python the square of its length; no line of ours is so long.
_LONG_BYTES = 1 << 16
_LONG_NUMBER = re.compile(rb"[0-9]{400}")
_DEVICES, _PROCESSES = 64, 1024
_KIBI = 1024


class Sample(NamedTuple):
    """One moment: `values` by series, and what has gone through the storage so far, in bytes."""

    at_ms: int
    values: Dict[str, float]
    read: Optional[float]
    written: Optional[float]
    limit: Optional[float]
    cgroup: Optional[float]
    gpus: int


class Course:
    """The lines of one file, taken one by one. Samples from `from_ms` on go into `buckets` too.

    A moment later than `latest_ms` is not believed: one wrong clock would press all others into one bucket.
    """

    def __init__(self, latest_ms: float, buckets: Optional[Buckets] = None, from_ms: float = 0.0) -> None:
        self._latest_ms = latest_ms
        self._buckets = buckets
        self._from_ms = from_ms
        self.samples = 0
        self.damaged = 0
        self.torn = False
        self.first_ms: Optional[int] = None
        self.last_ms: Optional[int] = None
        self.metadata: Optional[Dict[str, Any]] = None
        self.exit: Optional[Dict[str, Any]] = None
        self.highest: Dict[str, float] = {}
        self.read = self.written = 0.0
        self.limit: Optional[float] = None
        self.cgroup: Optional[float] = None
        self.gpus = 0
        self._sums: Dict[str, List[float]] = {}
        self._before: Optional[Sample] = None

    def take(self, line: bytes) -> None:
        """Nothing comes back: one line, without its end. What cannot be read is counted."""
        document = _document(line)
        if document is None:
            self.damaged += 1
            return
        kind = document.get("kind")
        if kind == "metadata":
            self.metadata = self.metadata or document
        elif kind == "exit":
            self.exit = document
        elif kind in ("tree", "sample"):
            sample = sample_of(document)
            if sample is None or sample.at_ms > self._latest_ms:
                self.damaged += 1
            else:
                self._counted(sample)

    def mean(self, name: str) -> Optional[float]:
        """Of one series, each value as long as it held; None where there was none."""
        total, weight = self._sums.get(name, (0.0, 0.0))
        return rounded(total / weight) if weight else None

    def _counted(self, sample: Sample) -> None:
        before, self._before = self._before, sample
        self.samples += 1
        self.first_ms = sample.at_ms if self.first_ms is None else min(self.first_ms, sample.at_ms)
        self.last_ms = max(self.last_ms or 0, sample.at_ms)
        held_ms = max(0, sample.at_ms - before.at_ms) if before else 0
        values = dict(sample.values)
        if before is not None and held_ms and sample.read is not None and before.read is not None:
            # What a process took with it when it went is not given back.
            moved = max(0.0, sample.read - before.read)
            moved += max(0.0, (sample.written or 0) - (before.written or 0))
            values["io_bytes_s"] = moved * 1000 / held_ms
        for name, value in values.items():
            self.highest[name] = max(value, self.highest.get(name, 0.0))
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += value * held_ms
            sums[1] += held_ms
        self.read = max(self.read, sample.read or 0.0)
        self.written = max(self.written, sample.written or 0.0)
        self.limit = self.limit if sample.limit is None else sample.limit
        if sample.cgroup is not None:
            self.cgroup = max(self.cgroup or 0.0, sample.cgroup)
        self.gpus = max(self.gpus, sample.gpus)
        if self._buckets is not None and sample.at_ms >= self._from_ms:
            self._buckets.add(sample.at_ms, held_ms, values)


def moment(line: bytes) -> Optional[int]:
    """When the line was written, None for one that does not say it."""
    document = _document(line)
    at_ms = None if document is None else number(document.get("ts_ms"))
    return None if at_ms is None else int(at_ms)


def sample_of(document: Dict[str, Any]) -> Optional[Sample]:
    """The moment that a `tree` or `sample` tells of; None without a time, or where it tells of nothing."""
    agg = document if document.get("kind") == "sample" else document.get("aggregated")
    at_ms = number(document.get("ts_ms"))
    if not isinstance(agg, dict) or at_ms is None:
        return None
    gpu = agg.get("gpu")
    found = {
        "cpu_pct": number(agg.get("cpu_usage")),
        "memory_bytes": _kib(agg.get("mem_rss_kb")),
        **(_gpu(gpu) if isinstance(gpu, dict) else {}),
        "processes": number(agg.get("process_count")),
    }
    if found["cpu_pct"] is None and found["memory_bytes"] is None:
        return None
    if found["processes"] is None and agg is document:
        found["processes"] = 1.0  # a sample is of one process
    return Sample(
        int(at_ms),
        {name: value for name, value in found.items() if value is not None},
        number(agg.get("disk_read_bytes")),
        number(agg.get("disk_write_bytes")),
        _kib(agg.get("cgroup_limit_kb")),
        _kib(agg.get("cgroup_used_kb")),
        len(_dicts(gpu.get("system_metrics"), _DEVICES)) if isinstance(gpu, dict) else 0,
    )


def number(value: Any) -> Optional[float]:
    """`value` where it is a number that can be counted with, and not below nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < _MOST else None


def _gpu(gpu: Dict[str, Any]) -> Dict[str, Optional[float]]:
    """How busy the devices were, their mean; memory of the tree's processes where that is known."""
    devices = _dicts(gpu.get("system_metrics"), _DEVICES)
    busy = [number(device.get("system_utilization_gpu")) for device in devices]
    known = [value for value in busy if value is not None]
    used = [number(device.get("memory_used")) for device in devices]
    grown = _dicts(gpu.get("device_delta"), _DEVICES)
    if grown:  # of which process it is the driver does not tell: what was added since the beginning is ours
        used = [number(device.get("memory_used")) for device in grown]
    if gpu.get("has_process_data") is True:
        used = [number(one.get("memory_usage")) for one in _dicts(gpu.get("process_data"), _PROCESSES)]
    return {
        "gpu_pct": sum(known) / len(known) if known else None,
        "gpu_memory_bytes": sum(value or 0 for value in used) if devices or used else None,
    }


def _dicts(value: Any, most: int) -> List[Dict[str, Any]]:
    return [one for one in value[:most] if isinstance(one, dict)] if isinstance(value, list) else []


def _kib(value: Any) -> Optional[float]:
    count = number(value)
    return None if count is None else count * _KIBI


def _document(line: bytes) -> Optional[Dict[str, Any]]:
    if len(line) > _LONG_BYTES and _LONG_NUMBER.search(line):
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
