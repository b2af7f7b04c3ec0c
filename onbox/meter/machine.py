"""What is the whole machine's: network, memory pressure, room on the disk, and what it is built of."""

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from onbox.meter.cgroup import kills_of
from onbox.meter.files import Files
from onbox.meter.records import more

_OFTEN_S = 1.0
_SELDOM_S = 30.0
# What may hang for ever when its server does; asking it could hold the watcher.
_REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "fuse",
    "9p",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "afs",
    "ncp",
    "moosefs",
    "gluster",
)


class Machine:
    """Figures of the machine as one process sees it, each read no more often than it changes.

    `said` is what a line's sum says of it: JSON, each key behind a comma.
    """

    def __init__(self, pid: int, files: Files, proc: str = "/proc") -> None:
        self._files, self._proc = files, proc
        self._own = "%s/%d" % (proc, pid)
        self._often_at = self._seldom_at = 0.0
        self._net = self._net_base = (0, 0)
        self._psi: Optional[Dict[str, float]] = None
        self._disk: Optional[int] = None
        self.said = ""
        self._read_often()
        self._net_base = self._net
        self.has_psi = self._psi is not None

    def look(self, now: float) -> None:
        """Nothing comes back: what is older than its time is read anew."""
        if now >= self._often_at:
            self._often_at = now + _OFTEN_S
            if now >= self._seldom_at:
                self._seldom_at = now + _SELDOM_S
                self._disk = _free_kb(self._own)
            self._read_often()

    def net(self) -> Tuple[int, int]:
        """Bytes that came in and went out since the first look, over all but the loopback."""
        return max(0, self._net[0] - self._net_base[0]), max(0, self._net[1] - self._net_base[1])

    def kills(self) -> Optional[int]:
        """How many processes the OOM killer has ended since boot; None where the kernel does not count."""
        try:
            return kills_of(Path(self._proc, "vmstat").read_bytes())
        except OSError:
            return None

    def _read_often(self) -> None:
        with contextlib.suppress(OSError):  # the process is gone: what was counted stands
            self._net = net_of(self._files.read_all(self._own + "/net/dev", kept=True))
        try:
            self._psi = psi_of(self._files.read(self._proc + "/pressure/memory"))
        except OSError:
            self._psi = None
        known = {"disk_free_kb": self._disk, "psi_mem": self._psi}
        self.said = more({name: value for name, value in known.items() if value is not None})


def net_of(raw: bytes) -> Tuple[int, int]:
    """Bytes received and sent over every interface but the loopback. Source: proc(5), net/dev."""
    received = sent = 0
    for line in raw.splitlines():
        name, colon, rest = line.partition(b":")
        words = rest.split()
        if colon and name.strip() != b"lo" and len(words) >= 9 and words[0].isdigit() and words[8].isdigit():
            received += int(words[0])
            sent += int(words[8])
    return received, sent


def psi_of(raw: bytes) -> Optional[Dict[str, float]]:
    """Percent of the last 10 s in which some, and all, waited for memory; None for anything else."""
    found: Dict[str, float] = {}
    for line in raw.split(b"\n"):
        words = line.split()
        if len(words) > 1 and words[1].startswith(b"avg10="):
            try:
                found[words[0].decode("ascii") + "_avg10"] = float(words[1][6:])
            except ValueError:
                return None
    return found if set(found) == {"some_avg10", "full_avg10"} else None


def environment(pid: int) -> Dict[str, Any]:
    """Host, kernel, processors, memory nodes, and where the command may run, in denet's words."""
    name = os.uname()
    cpuinfo = _text("/proc/cpuinfo")
    return {
        "host": name.nodename,
        "kernel": name.release,
        "lscpu": lscpu(cpuinfo),
        "numa": _numa(Path("/sys/devices/system/node")),
        "affinity_inherited": ranges(sorted(os.sched_getaffinity(pid))),
    }


def lscpu(cpuinfo: str) -> Dict[str, Any]:
    """Sockets, cores of each, threads of each, model, of /proc/cpuinfo; no cores told: each is one."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in cpuinfo.split("\n\n")
    ]
    blocks = [block for block in blocks if "processor" in block]
    cores = {(block.get("physical id", "0"), block.get("core id", block["processor"])) for block in blocks}
    sockets = {socket for socket, _ in cores}
    model = next((block["model name"] for block in blocks if "model name" in block), "")
    return {
        "sockets": max(1, len(sockets)),
        "cores_per_socket": max(1, len(cores) // max(1, len(sockets))),
        "threads_per_core": max(1, len(blocks) // max(1, len(cores))),
        "model": model,
    }


def ranges(numbers: List[int]) -> str:
    """Sorted numbers as `0-3,7`."""
    parts: List[List[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join("%d" % low if low == high else "%d-%d" % (low, high) for low, high in parts)


def _numa(folder: Path) -> Dict[str, Any]:
    nodes = sorted(int(path.name[4:]) for path in folder.glob("node[0-9]*") if path.name[4:].isdigit())
    distances, sizes = [], []
    for node in nodes:
        own = folder / ("node%d" % node)
        distances.append([int(word) for word in _text(own / "distance").split() if word.isdigit()])
        total = _text(own / "meminfo").partition("MemTotal:")[2].split()
        sizes.append(int(total[0]) // 1024 if total and total[0].isdigit() else 0)
    return {"nodes": len(nodes), "distances": distances, "node_sizes_mb": sizes}


def _free_kb(own: str) -> Optional[int]:
    """What is free where the process stands, in KiB; None where a server far away would have to tell."""
    try:
        kind = kind_at(os.fsencode(os.readlink(own + "/cwd")), Path(own, "mountinfo").read_bytes())
        if kind is None or kind.startswith(_REMOTE):
            return None
        seen = os.statvfs(own + "/cwd")
    except OSError:
        return None
    return seen.f_bavail * seen.f_frsize // 1024


def kind_at(path: bytes, mounts: bytes) -> Optional[str]:
    """The kind of filesystem that `path` lies on, of /proc/PID/mountinfo; None where it does not say."""
    best, found = -1, None
    for line in mounts.splitlines():
        before, _, behind = line.partition(b" - ")
        words = before.split(b" ")
        if len(words) < 5:
            continue
        point = words[4].replace(b"\\040", b" ").rstrip(b"/")
        if len(point) >= best and (path == point or path.startswith(point + b"/")):
            best, found = len(point), behind.split(b" ")[0].decode("ascii", "replace")
    return found


def _text(path: Any) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
