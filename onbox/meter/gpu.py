"""GPUs beside the samples of a tree: each device, and what of it is the tree's."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Container, Dict, List, Optional

from onbox.meter.nvml import Nvml, Seen, Use, driver_library

_EVERY_S = 1.0  # the driver itself renews its figures no more often
_BEGIN_S = 1.0  # what a command waits at its gate for a driver's first answer
_COMMAND_EVERY_S = 5.0
_COMMAND_LIMIT_S = 10.0
_ANSWER_BYTES = 65536
_FIRST_NAMESPACE = (
    0xEFFFFFFC  # of pids: the kernel's own, so that the driver's pids are ours. linux/proc_ns.h
)
_MIB = 1 << 20
_COLUMNS = (
    ("device_index", 1), ("name", 0), ("system_utilization_gpu", 1), ("system_utilization_memory", 1),
    ("memory_total", _MIB), ("memory_used", _MIB), ("memory_free", _MIB), ("temperature", 1),
    ("power_usage", 1.0),
)  # fmt: skip
_QUERY = (
    "--query-gpu=index,name,utilization.gpu,utilization.memory,memory.total,memory.used,memory.free,"
    "temperature.gpu,power.draw"
)
_QUERY_PROCESSES = "--query-compute-apps=pid,used_memory"
_FORMAT = "--format=csv,noheader,nounits"


class Gpu:
    """The newest figures of all devices; `method` is how they come, None where there is no way to any."""

    def __init__(
        self,
        not_ours: Callable[[int], None],
        library: Any = None,
        command: str = "nvidia-smi",
        *,
        contained: Optional[bool] = None,
    ) -> None:
        """`not_ours` is told of a child of ours that asks; `contained`: the driver's pids are not ours."""
        self._contained = contained_here() if contained is None else contained
        self._source: Any = None
        try:
            self._source = _Asked(driver_library() if library is None else library)
            self.method: Optional[str] = "nvml"
        except (OSError, AttributeError):
            self._source = _Command(command, not_ours)
            self.method = "nvidia-smi" if self._source.there else None
        self._first: Dict[int, int] = {}
        self._newest: Optional[Seen] = None
        self._at = 0.0

    def look(self, now: float, members: Container[int]) -> Optional[Dict[str, Any]]:
        """What a line says of the GPUs, with pids of `members` the tree's; None where nothing is new."""
        seen = self._source.newest(now)
        if seen is None or seen is self._newest:
            return None
        self._newest = seen
        for device in seen.devices:
            if device["memory_used"] is not None:
                self._first.setdefault(device["device_index"], device["memory_used"])
        return figures(seen, members, self._first, self.method or "", contained=self._contained)

    def busy(self) -> Optional[float]:
        """Percent of the busiest device, at the last look; None where no device tells."""
        devices = self._newest.devices if self._newest else []
        told = [one["system_utilization_gpu"] for one in devices if one["system_utilization_gpu"] is not None]
        return max(told, default=None)

    def close(self) -> None:
        """Nothing comes back: nothing of ours asks any longer."""
        self._source.close()


def figures(
    seen: Seen, members: Container[int], first: Dict[int, int], method: str, *, contained: bool
) -> Dict[str, Any]:
    """The `gpu` of a line: denet's keys; in a container whose pids the driver does not know, `device_delta`.

    That is what each device gained since `first`, whoever took it, and `collection_method` says so.
    """
    own = [one for one in seen.processes if one.pid in members]
    found: Dict[str, Any] = {
        "system_metrics": seen.devices,
        "process_data": [_process(one, seen) for one in own],
        "has_process_data": bool(own) or not contained,
        "collection_method": method,
    }
    if contained and not own:
        found["collection_method"] = method + "-device-delta"
        found["device_delta"] = [
            {
                "device_index": one["device_index"],
                "memory_used": one["memory_used"] - first[one["device_index"]],
            }
            for one in seen.devices
            if one["memory_used"] is not None and one["device_index"] in first
        ]
    return found


def contained_here() -> bool:
    """Whether we have pids of our own, so that those which the driver tells mean others."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != _FIRST_NAMESPACE
    except OSError:
        return True


def devices_of(answer: str) -> List[Dict[str, Any]]:
    """The devices of nvidia-smi's CSV; what it does not tell is None, a line that is none is passed over."""
    found = []
    for line in answer.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == len(_COLUMNS) and words[0].isdigit():
            device: Dict[str, Any] = {}
            for word, (name, unit) in zip(words, _COLUMNS):
                device[name] = word if unit == 0 else _number(word, unit)
            found.append(device)
    return found


def uses_of(answer: str) -> List[Use]:
    """The processes of nvidia-smi's CSV; it names no device that we could match."""
    found = []
    for line in answer.splitlines():
        pid, _, memory = line.partition(",")
        if pid.strip().isdigit():
            found.append(Use(int(pid), -1, _number(memory.strip(), _MIB), None))
    return found


def _number(word: str, unit: float) -> Any:
    try:
        return type(unit)(float(word) * unit)
    except (ValueError, OverflowError):
        return None  # [N/A], [Not Supported]


def _process(use: Use, seen: Seen) -> Dict[str, Any]:
    total = next((one["memory_total"] for one in seen.devices if one["device_index"] == use.device), None)
    part = None if not total or use.memory_bytes is None else round(100 * use.memory_bytes / total, 2)
    return {
        "pid": use.pid,
        "gpu_utilization": use.busy,
        "memory_usage": use.memory_bytes or 0,
        "memory_utilization_pct": part,
    }


class _Asked:
    """Asks the library in a thread of its own: a driver that hangs must not hold who watches.

    Raises what `Nvml` does, where that is known before long.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._seen: Optional[Seen] = None
        self._error: Optional[Exception] = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask, name="onbox-gpu", daemon=True)
        self._thread.start()
        self._begun.wait(_BEGIN_S)
        if self._error is not None:
            raise self._error

    def newest(self, _now: float) -> Optional[Seen]:
        return self._seen

    def close(self) -> None:
        self._over.set()
        self._thread.join(_EVERY_S)

    def _ask(self) -> None:
        try:
            nvml = Nvml(self._library)
            self._seen = nvml.read()
        except (OSError, AttributeError) as error:
            self._error = error
            return
        finally:
            self._begun.set()
        while not self._over.wait(_EVERY_S):
            self._seen = nvml.read()
        nvml.close()


class _Command:
    """Asks nvidia-smi, one question after the other, and never waits for an answer."""

    def __init__(self, command: str, not_ours: Callable[[int], None]) -> None:
        self._command, self._not_ours = command, not_ours
        self._asked: Optional["subprocess.Popen[bytes]"] = None
        self._until = self._due = 0.0
        self._devices: List[Dict[str, Any]] = []
        self._seen: Optional[Seen] = None
        self._question = _QUERY
        self.there = True
        self._ask(time.monotonic())

    def newest(self, now: float) -> Optional[Seen]:
        if self._asked is not None:
            self._hear(now)
        if self._asked is None and self.there and now >= self._due:
            self._ask(now)
        return self._seen

    def close(self) -> None:
        if self._asked is not None:
            self._kill(self._asked.pid)
            self._end()

    def _ask(self, now: float) -> None:
        try:
            self._asked = subprocess.Popen(
                [self._command, self._question, _FORMAT],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self.there = False
            return
        self._not_ours(self._asked.pid)
        self._until = now + _COMMAND_LIMIT_S

    def _hear(self, now: float) -> None:
        asked = self._asked
        if asked is None or asked.stdout is None:
            return
        if asked.poll() is None:
            if now > self._until:
                self._kill(asked.pid)  # collected by a later look, or never: it may hang in the kernel
            return
        answer = os.read(asked.stdout.fileno(), _ANSWER_BYTES).decode("utf-8", "replace")
        self._end()
        if self._question == _QUERY:
            self._devices, self._question = devices_of(answer), _QUERY_PROCESSES
            self._due = now
        else:
            self._seen, self._question = Seen(self._devices, uses_of(answer)), _QUERY
            self._due = now + _COMMAND_EVERY_S

    @staticmethod
    def _kill(pid: int) -> None:
        """With what it has started: it may be a script around the real one, whose orphan would come to us."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def _end(self) -> None:
        if self._asked is not None and self._asked.stdout is not None:
            self._asked.stdout.close()
            if self._asked.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._asked.wait(0.2)
        self._asked = None
