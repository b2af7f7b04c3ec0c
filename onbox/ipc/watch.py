"""Looking at one loop again and again: `tail` and `notify`, that end with the loop or with their reader."""

import os
import select
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

from onbox.ipc import answers, ended, known, ours, process
from onbox.ipc.answers import Answer
from onbox.ipc.around import ReaderGone
from onbox.ipc.condition import Condition
from onbox.ipc.shown import shown, value_text
from onbox.ipc.target import Chosen, answer
from onbox.wire import state
from onbox.wire.registry import Torn
from onbox.wire.words import clock_text

_SLICE_S = 0.5  # between two looks at the process where the kernel does not tell us of its end
_RECORD_WITHIN_S = 1.0  # a loop that has left its card may still be writing its end record
_ASK_S = 2.0
_ALERT_S = 5.0


class Watch(NamedTuple):
    """How one loop is looked at; `until_eof`: the end of standard input ends us."""

    folder: Path
    asked: Chosen
    interval_s: float
    until_eof: bool


def tailed(watch: Watch, emit: Callable[[Answer], None], for_s: Optional[float] = None) -> Answer:
    """How the loop ended, or that `for_s` ran out; until then a look is emitted at each interval.

    Raises ReaderGone.
    """
    deadline = None if for_s is None else time.monotonic() + for_s
    seen: Optional[Dict[str, Any]] = None
    changed = time.monotonic()
    watched = process.Watched(watch.asked.known.identity)
    try:
        while True:
            over = _over(watch, watched)
            if over is not None:
                return over
            found = _state(watch)
            if found != seen:
                seen, changed = found, time.monotonic()
            emit(_look(watch, found, time.monotonic() - changed))
            left = watch.interval_s if deadline is None else deadline - time.monotonic()
            _wait(watch, watched, max(0.0, min(left, watch.interval_s)))
            if left <= watch.interval_s and deadline is not None:
                over = _over(watch, watched)
                return over or answer(watch.asked, answers.SILENT, "it goes on after %g s" % (for_s or 0))
    finally:
        watched.close()


def notified(
    watch: Watch, wanted: Condition, for_s: Optional[float], grumble: Callable[[str], None]
) -> Answer:
    """Whether the condition was met before the loop ended or `for_s` ran out. Raises ReaderGone."""
    deadline = None if for_s is None else time.monotonic() + for_s
    said = ""
    watched = process.Watched(watch.asked.known.identity)
    try:
        while True:
            over = _over(watch, watched)
            found = _state(watch) if over is None else (over.reply or {}).get("state")
            values = _values(found or {})
            verdict = wanted.judged(values)
            if verdict.met:
                return _met(watch, wanted, values)
            if over is not None:
                says = "not met before its end: %s" % over.says
                return over._replace(says=says, exit_code=answers.DIED)
            if verdict.why_not and verdict.why_not != said and found is not None:
                said = verdict.why_not
                grumble(said)
            left = watch.interval_s if deadline is None else deadline - time.monotonic()
            if left <= 0:
                what = "not met in %g s" % (for_s or 0)
                return answer(watch.asked, answers.SILENT, what, reply=_judged(wanted, values, met=False))
            _wait(watch, watched, min(left, watch.interval_s))
    finally:
        watched.close()


def met_at_its_end(over: Answer, wanted: Condition) -> Answer:
    """Whether a loop that is over had met the condition when it ended."""
    last = (over.reply or {}).get("state")
    reply = _judged(wanted, _values(last if isinstance(last, dict) else {}), met=True)
    if wanted.judged(reply["values"]).met:
        return over._replace(
            exit_code=answers.OK, says="condition met at its end: %s" % wanted.text, reply=reply
        )
    return over._replace(exit_code=answers.DIED, says="not met before its end: %s" % over.says)


def line(found: Dict[str, Any], quiet_s: float, interval_s: float) -> str:
    """One line of `tail`; with how long nothing has changed, where that is longer than expected."""
    iteration, total = found.get("iteration", "?"), found.get("total")
    words = ["iter %s" % shown(iteration, 20)]
    if total:
        words[0] += "/%s" % shown(total, 20)
        if isinstance(iteration, int) and isinstance(total, int):
            words[0] += "  (%.1f%%)" % (100 * iteration / total)
    words.append("elapsed %s" % clock_text(found.get("elapsed_sec")))
    words.append("ETA %s" % clock_text(found.get("eta_sec")))
    tracked = found.get("tracked")
    for key, value in tracked.items() if isinstance(tracked, dict) else ():
        words.append("%s=%s" % (shown(key, 60), value_text(value)))
    if quiet_s > 2 * interval_s:
        words.append("(unchanged for %s)" % clock_text(quiet_s))
    return "  ".join(words)


def alert(words: str) -> None:
    """Nothing comes back: a desktop shows `words`, where there is one."""
    import shutil  # noqa: PLC0415 - a box has no desktop
    import subprocess  # noqa: PLC0415 - as above

    tool = shutil.which("notify-send")
    if tool is None or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    try:
        subprocess.run(
            [tool, "--", "ipc", words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ALERT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return


def _look(watch: Watch, found: Optional[Dict[str, Any]], quiet_s: float) -> Answer:
    if found is None:
        return answer(watch.asked, 0, "no state yet")
    says = line(found, quiet_s, watch.interval_s)
    return answer(watch.asked, 0, says, reply={"state": found}, confirmed=True)


def _state(watch: Watch) -> Optional[Dict[str, Any]]:
    """The state of the outermost loop from its file; an inner one has to be asked."""
    asked = watch.asked
    if asked.n == asked.known.n:
        return state.live(watch.folder, asked.known.pid)
    (found,) = ours.asked(watch.folder, [asked], "peek", "", min(_ASK_S, watch.interval_s))
    inner = (found.reply or {}).get("state") if found.exit_code == 0 else None
    return inner if isinstance(inner, dict) else None


def _over(watch: Watch, watched: process.Watched) -> Optional[Answer]:
    """How the loop ended; None while it runs. Its reply is the end record of a loop of ours."""
    asked, alive = watch.asked, watched.alive()
    listed = True
    try:
        listed = known.still(watch.folder, asked.known, asked.n)
    except Torn:
        if alive:
            return None
    if alive and listed:
        return None
    if asked.known.card is None:
        if listed:
            return answer(asked, answers.DIED, "it died, still registered: it was killed")
        return answer(asked, 0, "its loop has ended; loopmonitor keeps no record of how")
    record = ended.record(watch.folder, asked.known.identity, asked.n)
    deadline = time.monotonic() + _RECORD_WITHIN_S
    while ended.unsure(record) and time.monotonic() < deadline and watched.alive():
        time.sleep(0.02)
        record = ended.record(watch.folder, asked.known.identity, asked.n)
    if ended.unsure(record):
        record = ended.record(
            watch.folder, asked.known.identity, asked.n
        )  # written before its end, perhaps just now
    if record is None and watched.alive():
        return answer(asked, 0, "its loop has ended and left no record of how")
    code = 0 if ended.went_well(record) else answers.DIED
    return answer(asked, code, ended.sentence(record), reply=record, confirmed=True)


def _values(found: Dict[str, Any]) -> Dict[str, Any]:
    """The names of a condition, from a state or an end record."""
    tracked = found.get("tracked")
    values = dict(tracked) if isinstance(tracked, dict) else {}
    elapsed = found.get("elapsed_sec")
    values.update(iteration=found.get("iteration"), total=found.get("total"), elapsed=elapsed)
    return values


def _met(watch: Watch, wanted: Condition, values: Dict[str, Any]) -> Answer:
    reply = _judged(wanted, values, met=True)
    seen = ", ".join("%s=%s" % (shown(key, 60), value_text(value)) for key, value in reply["values"].items())
    says = "condition met: %s%s" % (wanted.text, " (%s)" % seen if seen else "")
    return answer(watch.asked, 0, says, reply=reply, confirmed=True)


def _judged(wanted: Condition, values: Dict[str, Any], *, met: bool) -> Dict[str, Any]:
    seen = {name: values[name] for name in sorted(wanted.names) if values.get(name) is not None}
    return {"condition": wanted.text, "met": met, "values": seen}


def _wait(watch: Watch, watched: process.Watched, seconds: float) -> None:
    """Nothing comes back: the time is over, or the process. Raises ReaderGone."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    out = sys.stdout.fileno()
    poll.register(out, 0)  # only that its reader is gone
    if watch.until_eof:
        poll.register(0, select.POLLIN)
    if watched.descriptor >= 0:
        poll.register(watched.descriptor, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        for descriptor, event in poll.poll(max(1, int(min(left, _SLICE_S) * 1000))):
            if descriptor == watched.descriptor:
                return
            if descriptor == 0 and event & (select.POLLIN | select.POLLHUP) and not os.read(0, 4096):
                raise ReaderGone
            if descriptor == out and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise ReaderGone
        if not watched.alive():
            return
