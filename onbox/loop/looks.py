"""What a process can say of itself from inside: where its threads are, how much memory it has."""

import linecache
import resource
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Dict, List, Optional

_THREADS = 64
_FRAMES = 50
_CODE = 200


def threads(without: Optional[int] = None) -> List[Dict[str, Any]]:
    """Each thread but `without`, the main thread first, with its innermost frames, outermost first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    found = [(ident, frame) for ident, frame in sys._current_frames().items() if ident != without]  # noqa: SLF001
    found.sort(key=lambda pair: pair[0] != main)
    return [
        {"name": names.get(ident, "thread %d" % ident), "main": ident == main, "frames": _frames(frame)}
        for ident, frame in found[:_THREADS]
    ]


def stack_text(pid: int) -> str:
    """The main thread's stack as `stack` of 0.1.x prints it."""
    frames = [one["frames"] for one in threads() if one["main"]]
    if not frames:
        return "[loopmonitor] Could not retrieve main thread stack."
    lines = ["[loopmonitor] Stack trace for PID %d:" % pid]
    for frame in frames[0]:
        lines.append('  File "%(file)s", line %(line)d, in %(function)s' % frame)
        lines += ["    " + frame["code"]] if frame["code"] else []
    return "\n".join(lines)


def memory() -> Dict[str, Optional[int]]:
    """Bytes resident now and at most; None where the kernel does not say."""
    return {"rss_bytes": _resident(), "peak_bytes": peak_kib() * 1024}


def peak_kib() -> int:
    """The most that was ever resident, in KiB as Linux counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _resident() -> Optional[int]:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * resource.getpagesize()


def _frames(innermost: FrameType) -> List[Dict[str, Any]]:
    frames: List[Dict[str, Any]] = []
    frame: Optional[FrameType] = innermost
    while frame is not None and len(frames) < _FRAMES:
        code, line = frame.f_code, frame.f_lineno or 0
        said = linecache.getline(code.co_filename, line, frame.f_globals).strip()[:_CODE]
        frames.append({"file": code.co_filename, "line": line, "function": code.co_name, "code": said})
        frame = frame.f_back
    frames.reverse()
    return frames
