"""A profile as a table and as curves, for a person on the box and at home. Pure.

Texts of the document go into the lines as they are: who prints them makes the document harmless first.
"""

import math
import textwrap
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from onbox.draw import png_chart, text_chart
from onbox.meter.figures import clock, figure, part_of, scaled, size, whole
from onbox.usage.remarks import end_word, stage_name

Numbers = Mapping[str, Any]
_HEAD = ("STAGE", "TRY", "WALL", "END", "CPU %", "MEMORY", "GPU", "DISK", "PROC")
_GPU = _HEAD.index("GPU")
_STAGE_CHARS = (5, 20)
_ROWS = 6
_PANEL_DOTS = 180
_TIMES = ((180.0, 1.0, " s"), (10800.0, 60.0, " min"), (259200.0, 3600.0, " h"), (math.inf, 86400.0, " d"))
_PANELS = (
    ("cpu_pct", "CPU", "% of a core"),
    ("memory_bytes", "memory", "B"),
    ("gpu_pct", "GPU busy", "%"),
    ("gpu_memory_bytes", "GPU memory", "B"),
    ("io_bytes_s", "disk", "B/s"),
    ("processes", "processes", ""),
)


class Curves(NamedTuple):
    """What can be drawn: pairs by name, the unit of time, facts by name; and what never moved, in words."""

    series: Dict[str, List[List[float]]]
    unit_s: float
    axis: str
    says: Dict[str, str]
    flat: Dict[str, str]

    def moving(self) -> Dict[str, List[List[float]]]:
        """Those of the series that are no flat line."""
        return {key: pairs for key, pairs in self.series.items() if key not in self.flat}


def table(document: Numbers, width: int = 80) -> List[str]:
    """A heading and a line a stage and attempt, none wider than `width`; GPU only where there is one."""
    phases = document["phases"]
    rows = [_HEAD, *(_cells(phase) for phase in phases)]
    if not any(phase["gpus"] for phase in phases):
        rows = [row[:_GPU] + row[_GPU + 1 :] for row in rows]
    others = [max(len(row[column]) for row in rows) for column in range(1, len(rows[0]))]
    least, most = _STAGE_CHARS
    first = min(max(len(row[0]) for row in rows), most)
    gap = 2 if first + sum(others) + 2 * len(others) <= width else 1
    widths = [max(least, min(first, width - sum(others) - gap * len(others))), *others]
    return [
        (" " * gap).join(_cut(cell, room).ljust(room) for cell, room in zip(row, widths)).rstrip()[:width]
        for row in rows
    ]


def charts(document: Numbers, width: int, *, ascii_only: bool) -> Iterator[str]:
    """Curves for a terminal: of which time they are, a panel for all that moved, the rest in words."""
    drawn = curves(document)
    if not drawn.series:
        return
    attempt = document["chart"]["attempt"]
    name = "" if attempt is None else "attempt %d " % attempt
    yield ""
    yield "%sfrom %s UTC by the box's clock" % (name, _moment(document["chart"]["buckets"][0]["at_ms"]))
    yield from textwrap.wrap(_stages(document, drawn.unit_s, drawn.axis), width, subsequent_indent="  ")
    if drawn.moving():
        chart = text_chart(
            drawn.moving(), width, _ROWS, ascii_only=ascii_only, axis=drawn.axis, says=drawn.says
        )
        yield from chart.rstrip("\n").split("\n")
    if drawn.flat:
        flat = "all the time: %s" % ", ".join(drawn.flat.values())
        yield from textwrap.wrap(flat, width, subsequent_indent="  ")


def picture(document: Numbers) -> Optional[bytes]:
    """The same curves as a PNG file; None where there is nothing to draw."""
    drawn = curves(document)
    shown = drawn.moving() or drawn.series
    tall = _PANEL_DOTS * len(shown)
    return png_chart(shown, 960, tall, axis=drawn.axis, says=drawn.says) if shown else None


def curves(document: Numbers) -> Curves:
    """What the buckets draw: each from lowest to highest, its mean up to the next; nothing of only one."""
    buckets = document["chart"]["buckets"]
    start_ms = buckets[0]["at_ms"] if buckets else 0
    last_s = (buckets[-1]["at_ms"] - start_ms) / 1000 if buckets else 0.0
    unit_s, axis = next((unit_s, axis) for most_s, unit_s, axis in _TIMES if last_s <= most_s)
    drawn = Curves({}, unit_s, axis, {}, {})
    for key, name, unit in _PANELS if len(buckets) > 1 else ():
        spans = [(bucket["at_ms"], bucket[key]) for bucket in buckets if bucket.get(key)]
        if not spans:
            continue
        low, high = min(span[0] for _, span in spans), max(span[2] for _, span in spans)
        scale, prefix = scaled(high) if unit.startswith("B") else (1.0, "")
        label = "%s, %s%s" % (name, prefix, unit) if unit else name
        drawn.series[label] = [
            [(at_ms - start_ms) / 1000 / unit_s, value / scale]
            for at_ms, (least, mean, most) in spans
            for value in (least, most, mean)
        ]
        mean = _mean(spans, document["chart"]["width_ms"])
        drawn.says[label] = "mean %s, highest %s" % (figure(mean / scale), figure(high / scale))
        if low == high:
            drawn.flat[label] = ("%s %s %s%s" % (name, figure(high / scale), prefix, unit)).strip()
    return drawn


def _mean(spans: List[Tuple[float, List[float]]], width_ms: float) -> float:
    """Of the buckets' means, each for the time since the one before it."""
    times = [at_ms for at_ms, _ in spans]
    held = [max(0.0, after - before) for before, after in zip([times[0] - width_ms, *times], times)]
    total = sum(held)
    return sum(span[1] * part for (_, span), part in zip(spans, held)) / total if total else spans[0][1][1]


def _stages(document: Numbers, unit_s: float, axis: str) -> str:
    """Where each stage begins in the curves, of several: `prepare at 0 s, train at 2.9 s`; else nothing."""
    start_ms, from_ms = document["chart"]["buckets"][0]["at_ms"], document["chart"]["from_ms"]
    drawn = [
        phase for phase in document["phases"] if phase["drawn"] and phase["stage"] and phase["started_ms"]
    ]
    if len(drawn) < 2 or from_ms is not None:
        return ""
    return ", ".join(
        "%s at %s%s"
        % (
            stage_name(phase["stage"]),
            figure(max(0.0, (phase["started_ms"] - start_ms) / 1000 / unit_s)),
            axis,
        )
        for phase in drawn
    )


def _cells(phase: Numbers) -> Tuple[str, ...]:
    peak, limit = phase["memory_peak_bytes"], phase["memory_limit_bytes"]
    used = phase["gpu_memory_peak_bytes"]
    gpu = "%s%%%s" % (whole(phase["gpu_mean_pct"]), "" if used is None else " " + size(used))
    return (
        str(phase["file"]) if phase["stage"] is None else stage_name(phase["stage"]),
        "-" if phase["attempt"] is None else str(phase["attempt"]),
        clock(phase["wall_s"]),
        end_word(phase),
        "%s/%s" % (whole(phase["cpu_mean_pct"]), whole(phase["cpu_peak_pct"])),
        "-" if peak is None else size(peak) if limit is None else part_of(peak, limit, "/"),
        gpu if phase["gpus"] else "-",
        size(phase["read_bytes"] + phase["write_bytes"]),
        whole(phase["processes_peak"]),
    )


def _moment(at_ms: float) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - 2)] + ".."
