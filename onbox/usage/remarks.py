"""What a table cannot say of a profile, a sentence each: ends, their evidence, what was missed, cost. Pure.

Texts of the document go into the sentences as they are: who prints them makes the document harmless first.
"""

import signal
from typing import Any, Iterator, Mapping, Optional

from onbox.meter.figures import figure, part_of, size, span

Numbers = Mapping[str, Any]
_SHARE_FROM_S = 60


def remarks(document: Numbers) -> Iterator[str]:
    """The sentences, oldest attempt first; each begins with what it is of."""
    for phase in document["phases"]:
        name = title(phase)
        for says in (*_ended(phase, document["now_ms"]), *_seen(phase)):
            yield "%s: %s" % (name, says)
    if document["left_out"]:
        count = document["left_out"]
        says = "1 older one is" if count == 1 else "%d older ones are" % count
        yield "%s not shown; each by --stage and --attempt" % says


def title(phase: Numbers) -> str:
    """`train, attempt 2`; the file's name where it does not say what it is of."""
    if phase["stage"] is None:
        return str(phase["file"])
    attempt = phase["attempt"]
    return "%s, attempt %s" % (stage_name(phase["stage"]), "?" if attempt is None else attempt)


def stage_name(stage: str) -> str:
    """`train` of `02-train`: as its owner calls it."""
    number, dash, name = stage.partition("-")
    return name if dash and number.isdigit() and name else stage


def end_word(phase: Numbers) -> str:
    """How it ended in a word or two: `exit 0`, `SIGKILL`, `oom`, `running`, `lost`."""
    end = phase["exit"]
    if end is None:
        return "running" if phase["alive"] else "no record" if phase["alive"] is None else "lost"
    if end["killed_by"] in ("oom", "timeout"):
        return str(end["killed_by"])
    if end["signal"]:
        return _signal(end["signal"])
    return "no status" if end["exit_code"] is None else "exit %s" % end["exit_code"]


def _ended(phase: Numbers, now_ms: float) -> Iterator[str]:
    end = phase["exit"]
    if end is None:
        yield _no_end(phase, now_ms)
        return
    by, sent = end["killed_by"], " by %s" % _signal(end["signal"]) if end["signal"] else ""
    if by == "oom":
        yield _oom(phase, end)
    elif by == "timeout":
        yield "its time ran out, and it was ended%s" % sent
    elif by == "user":
        yield "ended%s on request" % sent
    elif by == "unknown" or end["signal"]:
        core = ", core dumped" if end["core_dumped"] else ""
        yield "died%s%s; nothing shows who sent it" % (sent or " by a signal", core)
    left = end["left_running"]
    if left:
        named = ", ".join("%s (pid %s)" % (one["command"], one["pid"]) for one in left)
        more = end["left_running_count"] - len(left)
        yield "left running: %s%s" % (named, " and %d more" % more if more > 0 else "")


def _no_end(phase: Numbers, now_ms: float) -> str:
    ago = (
        "" if phase["last_ms"] is None else "; last sample %s ago" % span((now_ms - phase["last_ms"]) / 1000)
    )
    if phase["alive"]:
        return "is running%s" % ago
    if phase["alive"] is False:
        return "has no end record: its watcher was killed, or the box went down%s" % ago
    if phase["metadata"]["host"] is None:
        return "has no end record, as files of other programs have none%s" % ago
    return "has no end record; whether it runs cannot be told here%s" % ago


def _oom(phase: Numbers, end: Numbers) -> str:
    limit = phase["memory_limit_bytes"]
    peak = (
        phase["memory_peak_bytes"]
        if limit is None
        else phase["cgroup_peak_bytes"] or phase["memory_peak_bytes"]
    )
    at = "" if peak is None else " at %s" % (size(peak) if limit is None else part_of(peak, limit, " of "))
    since, until = phase["rising_since_ms"], phase["memory_peak_at_ms"] or end["at_ms"]
    rising = ", after its memory rose for %s" % span((until - since) / 1000) if since and until else ""
    return "killed by the OOM killer%s%s%s" % (at, rising, _evidence(end["oom"]))


def _evidence(oom: Optional[Numbers]) -> str:
    counts = (None, None) if oom is None else (oom["before"], oom["after"])
    if oom is None or None in counts:
        return ""
    whose = "its cgroup's" if oom["scope"] == "cgroup" else "the machine's"
    return "; %s count of such kills went from %d to %d" % (whose, *counts)


def _seen(phase: Numbers) -> Iterator[str]:
    """What escaped its watcher, and what that cost; the cost only of what is drawn."""
    end = phase["exit"] or {}
    for error in end.get("monitor_errors", ()):
        yield "its watcher met an error: %s" % error
    if phase["damaged"]:
        count = phase["damaged"]
        yield "%s of its samples cannot be read" % ("1 line" if count == 1 else "%d lines" % count)
    spent_s, taken = end.get("monitor_cpu_s"), end.get("samples_taken")
    if phase["drawn"] and spent_s is not None and phase["wall_s"]:
        says = "%d samples, %d missed; watching took %s s of CPU" % (
            phase["samples"] if taken is None else taken,
            end.get("samples_dropped") or 0,
            figure(spent_s),
        )
        # Of a short command it is the start of Python.
        share = ", %s %% of a core" % figure(100 * spent_s / phase["wall_s"])
        yield says + (share if phase["wall_s"] >= _SHARE_FROM_S else "")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number
