"""What the kernel says of a process, without asking the process."""

import contextlib
import os
import re
import select
import signal
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from onbox.wire import identity
from onbox.wire.identity import Identity

_PROC = Path("/proc")
_STATE, _PPID, _GROUP, _TTY_GROUP, _START = (
    0,
    1,
    2,
    5,
    19,
)  # of proc(5)'s fields, behind the command's bracket
_THREADS = 64
_FRAMES = 30


class Memory(NamedTuple):
    """Bytes of a process in memory, now and at most; None where the kernel does not say."""

    rss: Optional[int]
    peak: Optional[int]


class Watched:
    """A process that we wait beside: tells when it is gone. To be closed."""

    def __init__(self, who: Identity) -> None:
        self.identity = who
        self._descriptor = _pidfd(who)

    @property
    def descriptor(self) -> int:
        """Readable when the process is gone; -1 where the kernel has no such thing."""
        return self._descriptor

    def alive(self) -> bool:
        """Whether it is still that process; a zombie is gone."""
        if self._descriptor >= 0 and _polled(self._descriptor, select.POLLIN):
            return False
        return identity.same(self.identity)

    def signalled(self, number: int) -> bool:
        """Whether `number` was sent to exactly that process. Raises PermissionError."""
        send = getattr(signal, "pidfd_send_signal", None)
        try:
            if not identity.same(self.identity):
                return False
            if send is not None and self._descriptor >= 0:
                send(self._descriptor, number)
            else:
                os.kill(self.identity.pid, number)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Nothing comes back: the descriptor is let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def state_letter(pid: int) -> str:
    """`R`, `S`, `D`, `T`... as proc(5) has it; empty for no process."""
    fields = _fields(pid)
    return fields[_STATE] if fields else ""


def parent(pid: int) -> Optional[int]:
    """The pid of its parent, None for no process."""
    fields = _fields(pid)
    return int(fields[_PPID]) if fields else None


def owner(pid: int) -> Optional[int]:
    """The uid it runs as, None for no process."""
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def in_foreground(pid: int) -> bool:
    """Whether it stands in the foreground of a terminal, which a stop would take from its user."""
    fields = _fields(pid)
    return bool(fields) and fields[_TTY_GROUP] != "-1" and fields[_GROUP] == fields[_TTY_GROUP]


def started_at(pid: int) -> Optional[float]:
    """Unix time of its start by the clock of now, to some hundredths; None for no process."""
    fields = _fields(pid)
    if not fields:
        return None
    # Not /proc/uptime: containers show their own there, beside a start time that counts from the host's boot.
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - up_s + int(fields[_START]) / os.sysconf("SC_CLK_TCK")


def holds(pid: int, path: Path) -> bool:
    """Whether it has the file at `path` open; false also where we may not see."""
    try:
        wanted = path.lstat()
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            about = descriptor.stat()
            if (about.st_dev, about.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def unread_output(pid: int) -> bool:
    """Whether its standard output is a pipe that nobody reads: the next line it prints ends in an error."""
    path = str(_PROC / str(pid) / "fd" / "1")
    try:
        if not os.readlink(path).startswith("pipe:"):
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _polled(descriptor, 0)
    finally:
        os.close(descriptor)


def catches(pid: int, number: int) -> bool:
    """Whether it has a function of its own for that signal; only then may it be sent."""
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", _status(pid), re.MULTILINE)
    return found is not None and bool(int(found.group(1), 16) >> (number - 1) & 1)


def memory(pid: int) -> Memory:
    """What it has in memory; both None for no process."""
    said = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB", _status(pid), re.MULTILINE))
    rss, peak = (int(said[key]) << 10 if key in said else None for key in ("VmRSS", "VmHWM"))
    return Memory(rss, peak)


def folder(pid: int) -> Optional[Path]:
    """Where it works now; None where we may not see it."""
    try:
        return Path(os.readlink(str(_PROC / str(pid) / "cwd")))
    except OSError:
        return None


def threads(pid: int) -> List[Dict[str, object]]:
    """Its threads as the kernel sees them: name, state, where they wait; for root the kernel's frames."""
    found: List[Dict[str, object]] = []
    try:
        names = sorted((_PROC / str(pid) / "task").iterdir(), key=lambda path: int(path.name))
    except OSError:
        return found
    for task in names[:_THREADS]:
        fields = _split(_text(task / "stat"))
        if fields:
            frames = [
                {"file": "kernel", "line": None, "function": line.split("] ", 1)[-1], "code": None}
                for line in _text(task / "stack").splitlines()[:_FRAMES]
            ]
            found.append(
                {
                    "name": _text(task / "comm").strip(),
                    "main": task.name == str(pid),
                    "state": fields[_STATE],
                    "waits_in": _text(task / "wchan").strip("0\n") or None,
                    "frames": frames,
                }
            )
    return found


def waits_for(pid: int) -> str:
    """Why it may not answer, in a few words."""
    letter = state_letter(pid)
    known = {
        "T": "it is stopped (state T): `resume` lets it go on",
        "t": "a debugger holds it (state t)",
        "D": "it waits for the kernel (state D): a disk or a driver",
        "": "it is gone",
    }
    return known.get(letter, "it lives (state %s) but hangs or is busy" % letter)


def _pidfd(who: Identity) -> int:
    """A descriptor of that very process, -1 where kernel or Python have none, or it is another by now."""
    opened = getattr(os, "pidfd_open", None)
    if opened is None:
        return -1
    try:
        descriptor = int(opened(who.pid))
    except OSError:
        return -1
    if identity.same(who):
        return descriptor
    os.close(descriptor)
    return -1


def _polled(descriptor: int, event: int) -> bool:
    """Whether the event, an error or an end is there now."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(0))


def _fields(pid: int) -> List[str]:
    return _split(_text(_PROC / str(pid) / "stat"))


def _split(stat: str) -> List[str]:
    fields = stat.rpartition(")")[2].split()
    return fields if len(fields) > _START else []


def _status(pid: int) -> str:
    return _text(_PROC / str(pid) / "status")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
