"""What can be found out about a process that does not answer, or cannot: from the kernel, or a sampler."""

import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from onbox.ipc import answers, process
from onbox.ipc.answers import Answer
from onbox.ipc.target import Chosen, answer
from onbox.wire import folder as place
from onbox.wire import identity, state
from onbox.wire.words import clock_text

SEEN = ("peek", "stack", "memory")  # of a paused process too: it is not waited for
ASKING = ("peek", "plot", "stack", "memory")  # a late answer to one of these changes nothing
_SAMPLE_S = 10.0
_FRAMES = 200
_MB = 1 << 20


def is_paused(asked: Chosen) -> bool:
    """Whether it is stopped by a signal, and will answer nothing until it is resumed."""
    return process.state_letter(asked.known.pid) == "T"


def paused(folder: Path, asked: Chosen, verb: str) -> Answer:
    """What is seen of a paused process at once; of a peek the last written state, if the loop has one."""
    if verb == "peek":
        return peeked(folder, asked)
    found = memory(asked) if verb == "memory" else stack(asked)
    if found.reply is None:
        return found
    return found._replace(says="%s; it is paused" % found.says, reply={**found.reply, "paused": True})


def peeked(folder: Path, asked: Chosen) -> Answer:
    """The state that the process wrote last, and for a paused one that it is; without one 124 if paused."""
    pid, held = asked.known.pid, is_paused(asked)
    found = state.live(folder, pid) if asked.n == asked.known.n else None
    if found is None and (asked.known.card is None or not held):
        return answer(asked, 0, "no state yet: it writes one when its first iteration has ended")
    if found is None:
        what = "it is paused (state T) and has written no state of this loop; `resume` lets it go on"
        return answer(asked, answers.SILENT, what)
    if not held:
        return answer(
            asked, 0, "iteration %s" % found.get("iteration"), reply={"state": found}, confirmed=True
        )
    says = "it is paused (state T): `resume` lets it go on"
    written_at = _written_at(folder, pid)
    if written_at is not None:
        says += "; this is what it wrote %s ago" % clock_text(max(0.0, time.time() - written_at))
    reply = {"state": found, "paused": True, "written_at": written_at}
    return answer(asked, 0, says, reply=reply, confirmed=True)


def _written_at(folder: Path, pid: int) -> Optional[float]:
    try:
        return place.state(folder, pid).lstat().st_mtime
    except OSError:
        return None


def memory(asked: Chosen) -> Answer:
    """Its memory as the kernel counts it; died where there is no such process any more."""
    seen = process.memory(asked.known.pid)
    if seen.rss is None or not identity.same(asked.known.identity):
        return answer(asked, answers.DIED, "the process is gone")
    reply = {"rss_bytes": seen.rss, "peak_bytes": seen.peak, "source": "proc"}
    return answer(asked, 0, memory_text(reply), reply=reply, confirmed=True)


def stack(asked: Chosen) -> Answer:
    """Its threads by py-spy where that is on PATH, else by the kernel, which knows no Python."""
    pid = asked.known.pid
    sampled = None if asked.known.kind == "R" else _sampled(pid)
    if sampled is not None:
        threads, source, how = sampled, "py-spy", "seen from outside by py-spy"
    else:
        threads, source = process.threads(pid), "proc"
        how = "no answer of its own and no py-spy on PATH that may look: only what the kernel shows"
    if not identity.same(asked.known.identity):
        return answer(asked, answers.DIED, "the process is gone")
    says = "%s; %s" % (threads_text(threads), how)
    return answer(asked, 0, says, reply={"threads": threads, "source": source}, confirmed=True)


def threads_text(threads: Sequence[Any]) -> str:
    """How many threads."""
    return "1 thread" if len(threads) == 1 else "%d threads" % len(threads)


def memory_text(said: Dict[str, Any]) -> str:
    """`431.8 MB now, 500.1 MB at most`, in units of 2^20 bytes as loopmonitor counts them."""
    rss, peak = (_mb(said.get(key)) for key in ("rss_bytes", "peak_bytes"))
    return "RSS: %s now, %s at most" % (rss, peak)


def _mb(value: Any) -> str:
    return "%.1f MB" % (value / _MB) if isinstance(value, (int, float)) else "?"


def _sampled(pid: int) -> Optional[List[Dict[str, Any]]]:
    import shutil  # noqa: PLC0415 - most questions start no other program
    import subprocess  # noqa: PLC0415 - as above

    found = shutil.which("py-spy")
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, "dump", "--json", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SAMPLE_S,
            check=True,
        )
        return [_thread(thread, pid) for thread in json.loads(done.stdout.decode("utf-8", "replace"))]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _thread(said: Dict[str, Any], pid: int) -> Dict[str, Any]:
    """One thread of `py-spy dump --json` in the form of our own answers: the outermost frame first."""
    name = said.get("thread_name") or ""
    return {
        "name": name,
        "main": name == "MainThread" or said.get("os_thread_id") == pid,
        "frames": [
            {"file": frame["filename"], "line": frame["line"], "function": frame["name"], "code": None}
            for frame in reversed(said["frames"][:_FRAMES])
        ],
    }
