"""The texts of loopmonitor 0.1.x, word for word: programs read them."""

from typing import Any, Dict, Iterable, List, Optional, Tuple

from onbox.wire.registry import Entry

_RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
_DAY_S = 86400


def clock_text(seconds: Optional[float]) -> str:
    """`MM:SS`, `H:MM:SS`, `Nd HH:MM:SS`, or `?` for None and for what is no time."""
    if seconds is None or isinstance(seconds, (str, bool)):
        return "?"
    try:
        days, left = divmod(int(seconds), _DAY_S)
    except (TypeError, ValueError, OverflowError):
        return "?"
    hours, minutes, rest = left // 3600, left // 60 % 60, left % 60
    if days:
        return "%dd %02d:%02d:%02d" % (days, hours, minutes, rest)
    if hours:
        return "%d:%02d:%02d" % (hours, minutes, rest)
    return "%02d:%02d" % (minutes, rest)


def peek_block(state: Dict[str, Any]) -> str:
    """The block that `peek` prints: two lines, three where something is tracked."""
    iteration, total = state.get("iteration", "?"), state.get("total")
    progress = "iter %s" % (iteration,)
    if total:
        progress += "/%s" % (total,)
        if isinstance(iteration, int) and isinstance(total, (int, float)):
            progress += "  (%.1f%%)" % (100 * iteration / total)
    lines = [
        "[loopmonitor] PID %s  %s" % (state.get("pid", "?"), progress),
        "         elapsed %s  ETA %s"
        % (clock_text(state.get("elapsed_sec")), clock_text(state.get("eta_sec"))),
    ]
    tracked = state.get("tracked")
    if tracked and isinstance(tracked, dict):
        lines.append("         " + "  ".join("%s=%s" % pair for pair in tracked.items()))
    return "\n".join(lines)


def list_rows(loops: Iterable[Tuple[Entry, bool]], group: Optional[int] = None) -> List[str]:
    """The lines of `list` for the entries and whether each lives; with `group` those of that parent only."""
    rows = [pair for pair in loops if group is None or pair[0].ppid == group]
    if not rows:
        return ["No registered processes." if group is None else "No processes with PPID %d." % group]
    parents = any(entry.ppid is not None for entry, _ in rows)
    head = ["%8s" % "PID", "%7s" % "PPID", "%5s" % "ALIVE", "%-4s" % "LANG", "%-30s" % "LABEL", "STARTED"]
    lines = [head, [_RULE * (85 if parents else 76)]]
    for entry, lives in rows:
        lines.append(
            [
                "%8d" % entry.pid,
                "%7s" % ("\N{EM DASH}" if entry.ppid is None else entry.ppid),
                "%5s" % ("yes" if lives else "no "),
                "%-4s" % ("R" if entry.language == "R" else "Py"),
                "%-30s" % entry.label[:30],
                entry.start_time[:19].replace("T", " "),
            ]
        )
    if not parents:
        lines = [line[:1] + line[2:] for line in lines]
    return ["  ".join(line) for line in lines]
