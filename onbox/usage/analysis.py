"""What samples in memory tell: peaks, windows, statistics, each process by itself. Pure."""

import statistics
from typing import Any, Callable, Dict, List, Sequence

from onbox.usage.load import Sample, value

_METHODS: Dict[str, Callable[[List[float]], float]] = {"mean": statistics.fmean, "max": max, "min": min}
_MEMORY = ("mem_rss_kb", 1024.0)  # a field, and how many of it are one of what is told
_THREADS = ("thread_count", 1.0)


def find_peaks(
    metrics: Sequence[Sample], field: str = "cpu_usage", threshold: float = 0.8, window_size: int = 5
) -> List[Sample]:
    """The samples at which `field` is at least `threshold` of its maximum, the highest of its neighbours.

    Neighbours are so many samples around it, so that the highest of all is always found. `field` is looked
    for at the top of a sample and in its sum.
    """
    values = [_figure(sample, field) for sample in metrics]
    most = max(values, default=0.0)
    around = max(0, window_size // 2)
    found: List[int] = []
    for at, one in enumerate(values):
        near = values[max(0, at - around) : at + around + 1]
        if (
            one > 0
            and one >= threshold * most
            and one == max(near)
            and not (found and at - found[-1] <= around)
        ):
            found.append(at)
    return [metrics[at] for at in found]


def aggregate_metrics(
    metrics: Sequence[Sample], window_size: int = 10, method: str = "mean"
) -> List[Dict[str, Any]]:
    """A sample for each `window_size` of them: figures and its time by `method` (mean, max, min).

    Raises ValueError for a window below 1 or another method.
    """
    if window_size < 1 or method not in _METHODS:
        raise ValueError("a window of %r by %r: at least 1, by mean, max or min" % (window_size, method))
    found = []
    for begin in range(0, len(metrics), window_size):
        window = metrics[begin : begin + window_size]
        found.append(
            {
                **_merged(window, _METHODS[method]),
                "_aggregated": True,
                "_window_size": len(window),
                "_aggregation_method": method,
            }
        )
    return found


def resource_utilization(metrics: Sequence[Sample]) -> Dict[str, Any]:
    """Average, largest, smallest, median and deviation of CPU (percent of a core), MiB and threads."""
    if not metrics:
        return {}
    found: Dict[str, Any] = {}
    for name, field, unit in (("cpu", "cpu_usage", 1.0), ("mem_mb", *_MEMORY), ("threads", *_THREADS)):
        figures = [_figure(sample, field) / unit for sample in metrics if value(sample, field) is not None]
        if figures:
            found["avg_" + name] = statistics.fmean(figures)
            found["max_" + name] = max(figures)
            found["min_" + name] = min(figures)
            found["median_" + name] = statistics.median(figures)
            found["stdev_" + name] = statistics.stdev(figures) if len(figures) > 1 else 0.0
    moments = [_figure(sample, "ts_ms") for sample in metrics]
    found["total_time_sec"] = (max(moments) - min(moments)) / 1000
    return found


def process_tree_analysis(metrics: Sequence[Sample]) -> Dict[str, Any]:
    """The command and each of its descendants by pid: average and largest CPU, memory, threads; its name."""
    if not metrics:
        return {}
    main: List[Sample] = []
    children: Dict[Any, List[Sample]] = {}
    names: Dict[Any, str] = {}
    for sample in metrics:
        parent = sample.get("parent") if "children" in sample else sample
        if isinstance(parent, dict):
            main.append(parent)
        for child in sample.get("children") or ():
            children.setdefault(child.get("pid"), []).append(child.get("metrics") or {})
            names[child.get("pid")] = child.get("command", "")
    return {
        "main_process": _used(main),
        "child_processes": {pid: {"command": names[pid], **_used(each)} for pid, each in children.items()},
    }


def _used(each: Sequence[Sample]) -> Dict[str, float]:
    found: Dict[str, float] = {}
    for name, field, unit in (("cpu", "cpu_usage", 1.0), ("memory_mb", *_MEMORY), ("threads", *_THREADS)):
        figures = [_figure(one, field) / unit for one in each] or [0.0]
        found["avg_" + name] = statistics.fmean(figures)
        found["max_" + name] = max(figures)
    return found


def _figure(sample: Sample, field: str) -> float:
    found = value(sample, field)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else 0.0


def _merged(window: Sequence[Sample], by: Callable[[List[float]], float]) -> Dict[str, Any]:
    """The first of them, each of its figures that all have in its place, put together."""
    found: Dict[str, Any] = {}
    for name, first in window[0].items():
        every = [one.get(name) for one in window]
        if isinstance(first, (str, bool, list)) or None in every:
            found[name] = first
        elif isinstance(first, dict):
            found[name] = _merged([one for one in every if isinstance(one, dict)], by)
        else:
            figure = by([one for one in every if isinstance(one, (int, float))])
            found[name] = int(figure) if name == "ts_ms" else figure
    return found
