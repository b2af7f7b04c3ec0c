"""Samples from files and from memory: what they come to, where they peak, other shapes of them."""

import csv
import io
import itertools
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Union

from onbox.fs import write_durably
from onbox.meter.records import Metrics, compact
from onbox.meter.summary import Summary
from onbox.meter.table import COLUMNS
from onbox.monitor.report import Report

Sample = Dict[str, Any]
_Path = Union[str, "os.PathLike[str]"]
_BESIDE = ("metadata", "child", "exit", "env", "event")
_EXTRA = ("cgroup_used_kb", "cgroup_limit_kb")
_OF_THE_END = ("exit_code", "signal", "killed_by")


def load_metrics(path: _Path, include_metadata: bool = False) -> List[Sample]:  # noqa: FBT001, FBT002 - denet's
    """The samples of a file of ours or of denet's, JSON Lines or one list; with the metadata first if asked.

    A torn last line is passed over, and so is a line that is no object. Raises OSError, ValueError for a list
    that is none.
    """
    found = [one for one in _objects(path) if one.get("kind") not in _BESIDE and not _is_metadata(one)]
    if include_metadata:
        found = [one for one in _objects(path) if _is_metadata(one)][:1] + found
    return found


def save_metrics(
    metrics: Sequence[Sample],
    path: _Path,
    format: str = "jsonl",  # noqa: A002 - denet's
    include_metadata: bool = True,  # noqa: FBT001, FBT002 - denet's
) -> None:
    """Nothing comes back: `metrics` are at `path` as `jsonl`, `json` or `csv`, 0600, whole or not at all.

    A line of metadata that is not among them is put before JSON Lines, for readers that expect it.
    Raises OSError, ValueError.
    """
    rows = list(metrics)
    if format == "jsonl" and include_metadata and not any(map(_is_metadata, rows)):
        rows.insert(
            0, {"kind": "metadata", "pid": os.getpid(), "cmd": [], "executable": "", "t0_ms": _first_ms(rows)}
        )
    content = convert_format(rows, format, 2 if format == "json" else None)
    write_durably(Path(path), content.encode() + (b"" if content.endswith("\n") or not content else b"\n"))


def convert_format(
    metrics: Union[Sequence[Sample], _Path], to_format: str = "csv", indent: Optional[int] = None
) -> str:
    """Samples, or those of a file, as text: `csv`, `json`, `jsonl`. Raises ValueError, OSError."""
    rows = load_metrics(metrics) if isinstance(metrics, (str, os.PathLike)) else list(metrics)
    if to_format == "jsonl":
        return "\n".join(map(compact, rows))
    if to_format == "json":
        return json.dumps(rows, indent=indent)
    if to_format != "csv":
        raise ValueError("unknown format: %s (csv, json, jsonl)" % to_format)
    written = io.StringIO()
    columns = [name for name in COLUMNS if any(value(row, name) is not None for row in rows)]
    table = csv.writer(written, lineterminator="\n")
    if columns:
        table.writerow(columns)
    table.writerows([value(row, name) for name in columns] for row in rows if "ts_ms" in row)
    return written.getvalue()


def generate_summary_from_file(path: _Path) -> Report:
    """What a file's samples come to, as JSON that is read by key too; the end record knows more exactly.

    A key that only that one knows is null without it. Raises OSError.
    """
    whole = Summary()
    end: Optional[Sample] = None
    for one in _objects(path):
        if one.get("kind") == "exit":
            end = one
        elif one.get("kind") not in _BESIDE and not _is_metadata(one):
            _add(whole, one)
    if end is not None and isinstance(end.get("summary"), dict):
        told = {key: end["summary"].get(key, own) for key, own in whole.as_dict().items()}
        return Report(compact({**told, "sample_count": whole.as_dict()["sample_count"]}))
    if end is not None:
        whole.exactly(elapsed_time=end.get("wall_s"), **{name: end.get(name) for name in _OF_THE_END})
    return Report(compact(whole.as_dict()))


def generate_summary_from_metrics_json(metrics_json: Iterable[str], elapsed_time: float) -> Report:
    """The same of samples as JSON texts, over so many seconds; what is no sample is passed over."""
    whole = Summary()
    for text in metrics_json:
        one = _object(text)
        if one is not None and one.get("kind") not in _BESIDE:
            _add(whole, one)
    found = whole.as_dict()
    return Report(compact({**found, "total_time_secs": elapsed_time, "elapsed_time": elapsed_time}))


def value(sample: Sample, name: str) -> Any:
    """What a sample says of `name`: at its top, in its sum, or in its process; None where it does not."""
    for place in (sample, sample.get("aggregated"), sample.get("parent")):
        if isinstance(place, dict) and place.get(name) is not None:
            return place[name]
    return None


def _objects(path: _Path) -> Iterator[Sample]:
    """The objects of a file, one at a time as far as it is lines."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path of the caller's, maybe one that Path would change
        first = file.readline()
        if first.lstrip().startswith(b"["):
            rows = json.loads(first + file.read())
            if not isinstance(rows, list):
                raise ValueError("no list of samples: %s" % path)
            yield from (row for row in rows if isinstance(row, dict))
            return
        for line in itertools.chain((first,), file):
            one = _object(line)
            if one is not None:
                yield one


def _object(text: Union[str, bytes]) -> Optional[Sample]:
    try:
        one = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return one if isinstance(one, dict) else None


def _is_metadata(one: Sample) -> bool:
    return one.get("kind") == "metadata" or ("kind" not in one and "t0_ms" in one and "cmd" in one)


def _first_ms(rows: Sequence[Sample]) -> int:
    return int(value(rows[0], "ts_ms") or 0) if rows else 0


def _add(whole: Summary, sample: Sample) -> None:
    figures: Any = [value(sample, name) for name in Metrics._fields]
    if not all(isinstance(one, (int, float)) for one in figures[:1]):
        return
    known: Any = (one if isinstance(one, (int, float)) else 0 for one in figures)
    total = Metrics(*known)
    extra = {name: value(sample, name) for name in _EXTRA if isinstance(value(sample, name), int)}
    gpu = value(sample, "gpu")
    if isinstance(gpu, dict):
        extra["gpu"] = gpu
    processes = value(sample, "process_count")
    whole.add(total, processes if isinstance(processes, int) else 1, extra)
