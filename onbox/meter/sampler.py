"""Samples of a command and all that belongs to it, as lines; what they come to, and the record of its end."""

import contextlib
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from onbox import __version__
from onbox.meter import records
from onbox.meter.cgroup import Group, levels
from onbox.meter.ended import Ended, Known, exit_record
from onbox.meter.files import Files
from onbox.meter.kills import Kills
from onbox.meter.machine import Machine, environment
from onbox.meter.moment import Moments, content, program, words
from onbox.meter.records import Metrics
from onbox.meter.redact import redacted
from onbox.meter.shares import Shares
from onbox.meter.stat import Io, kib_of
from onbox.meter.summary import Summary
from onbox.meter.tree import Member, Tree
from onbox.wire.identity import boot_id

__all__ = ["Ended", "Options", "Sampler"]

_MOVED = 0.02
_SHORTEST_S = 0.001


class Options(NamedTuple):
    """What is sampled; intervals in milliseconds, which only the metadata repeats."""

    base_interval_ms: int = 100
    max_interval_ms: int = 1000
    since_process_start: bool = False
    include_children: bool = True
    gpu: bool = False
    max_children: Optional[int] = None
    env: bool = False
    stage: Optional[str] = None
    attempt: Optional[int] = None


class Sampler:
    """Begins with `zero` (a child at its gate) or `attach` (whoever runs already), ends with `end`.

    `alone`: every child of ours that is born from then on is the tree's, unless `not_ours` says otherwise.
    `mark`: what the command has as ONBOX_WATCH. A sample that is taken while the command waits to be
    collected has its last CPU and IO.
    """

    def __init__(
        self,
        options: Options,
        *,
        alone: bool = False,
        mark: Optional[str] = None,
        proc: str = "/proc",
    ) -> None:
        self._options, self._alone, self._mark, self._proc = options, alone, mark, proc
        self._files = Files()
        self._shares, self._summary = Shares(), Summary()
        self._known = Known()
        self._samples = self._processes = 0
        self._last = Metrics(0)
        self._extra: Dict[str, Any] = {}
        self._moved = False
        self._born = 0
        self._at = 0.0

    def zero(self, pid: int, command: Sequence[str], executable: str) -> List[bytes]:
        """Lines of metadata and of sample zero: `pid` is a fork of ours that has not become `command` yet.

        Raises ProcessLookupError.
        """
        self._begin(pid)
        root = self._tree.members[pid]
        self._moments.at_gate(root.stat.image)
        self._shares.begin(root, whole=self._options.since_process_start)
        self._known = Known(
            root.cpu_ns / 1e9,
            (root.stat.faults_cached, root.stat.faults_disk),
            self._switches(pid),
            root.io or Io(),
        )
        return [*self._head(pid, redacted(command), executable), *self._taken(0.0)]

    def attach(self, pid: int) -> List[bytes]:
        """The same for a process that runs already: what it uses counts from now, its memory as it is.

        Raises ProcessLookupError.
        """
        self._begin(pid)
        self._tree.look(force=True)
        for member in self._tree.members.values():
            self._shares.begin(member, whole=self._options.since_process_start)
        return [*self._head(pid, words(pid, self._proc), program(pid, self._proc)), *self._taken(0.0)]

    def sample(self) -> List[bytes]:
        """The lines of descendants that are new, then the one of this moment; each ends with a newline."""
        now = time.monotonic()
        elapsed, self._at = max(_SHORTEST_S, now - self._at), now
        self._tree.look()
        gone = self._tree.left()
        self._kills.look(now, self._below(gone))
        percent = self._shares.take(self._tree.members.values(), gone, os.getpid(), elapsed)
        return self._taken(percent, left=bool(gone))

    def moved(self) -> bool:
        """Whether memory differed by 2 %, or other processes were there, in the sample before the last."""
        return self._moved

    def living(self, *, fresh: bool = True) -> List[Tuple[int, str]]:
        """Pid and command of each process of the tree that has not ended; `fresh`: now, not as sampled."""
        if fresh:
            self._tree.look(force=True)
        return [(one.pid, one.name) for one in self._tree.members.values() if not one.stat.dead]

    def orphans(self) -> List[int]:
        """Pids of children of ours that are the tree's and not its root; those that have ended too."""
        return [member.pid for member in self._tree.orphans()]

    def not_ours(self, pid: int) -> None:
        """Nothing comes back: that child of ours is none of the command's."""
        self._tree.not_ours(pid)

    def end(self, ended: Ended) -> bytes:
        """The exit line; nothing is open afterwards, and `summary` is final."""
        now = time.monotonic()
        self._kills.look(now, self._below(self._tree.left()), last=True)
        known = self._known._replace(
            collected_io=self._shares.collected(),
            sampled_io=self._sampled_io(),
            sampled_hwm_kb=self._moments.hwm_kb,
            samples=self._samples,
            oom=self._kills.seen(),
            oom_hit=self._kills.hit(now, ended.signal),
        )
        record = exit_record(ended, known, int(time.time() * 1000))
        used = [record[name] for name in ("utime_s", "stime_s")]
        self._summary.exactly(
            elapsed_time=ended.wall_s,
            cpu_s=None if None in used else sum(used),
            max_rss_kb=record["max_rss_kb"],
            **{
                name: record[name]
                for name in ("minflt", "majflt", *Io._fields, "exit_code", "signal", "killed_by")
            },
        )
        use = self._group.use(float("inf"))
        if use is not None and use.peak_kb is not None:
            self._summary.cgroup_peak(use.peak_kb)
        self._tree.close()
        if self._gpu is not None:
            self._gpu.close()
        return records.line({**record, "summary": self.summary()})

    def summary(self) -> Dict[str, Any]:
        """What the samples came to so far; after `end`, with what the kernel says exactly."""
        return self._summary.as_dict()

    def status(self) -> Dict[str, Any]:
        """The last sample in a few figures, and the summary so far."""
        last, extra = self._last, self._extra
        return {
            "format": 1,
            "stage": self._options.stage,
            "attempt": self._options.attempt,
            "at_ms": last.ts_ms,
            "pid": self._tree.root,
            "cpu_usage": round(last.cpu_usage, 2),
            "mem_rss_kb": last.mem_rss_kb,
            "process_count": self._processes,
            "cgroup_used_kb": extra.get("cgroup_used_kb"),
            "cgroup_limit_kb": extra.get("cgroup_limit_kb"),
            "gpu_busy": None if self._gpu is None else self._gpu.busy(),
            "summary": self.summary(),
        }

    def _below(self, gone: Sequence[Member]) -> List[Member]:
        """Those who were not the command itself: how that ended is known better."""
        return [member for member in gone if member.pid != self._tree.root]

    def _begin(self, pid: int) -> None:
        options, proc = self._options, self._proc
        self._tree = Tree(pid, alone=self._alone, mark=self._mark, files=self._files, proc=proc)
        self._at = time.monotonic()
        machine = Machine(pid, self._files, proc)
        mounts = b""
        with contextlib.suppress(OSError):
            mounts = self._files.read_all(proc + "/self/mountinfo", kept=False)
        self._group = Group(levels(content("%s/%d/cgroup" % (proc, pid)), mounts), self._files)
        self._kills = Kills(self._group, machine, self._at)
        self._gpu: Any = None
        if options.gpu:
            from onbox.meter.gpu import Gpu  # noqa: PLC0415 - it brings ctypes, which not every Python has

            self._gpu = Gpu(self.not_ours)
        self._psi = machine.has_psi
        self._moments = Moments(
            self._tree, self._shares, machine, self._group, self._gpu, alone=not options.include_children,
            most=options.max_children, proc=proc,
        )  # fmt: skip

    def _taken(self, percent: float, *, left: bool = False) -> List[bytes]:
        before, born = self._last, self._born
        moment = self._moments.now(percent)
        self._last, self._extra = moment.total, moment.extra
        self._processes = moment.processes
        self._born = self._tree.born
        change = abs(self._last.mem_rss_kb - before.mem_rss_kb)
        self._moved = change > _MOVED * before.mem_rss_kb or left or self._born != born
        if moment.lines:
            self._samples += 1
            self._summary.add(moment.total, moment.processes, moment.extra)
        return moment.lines

    def _head(self, pid: int, command: List[str], executable: str) -> List[bytes]:
        options = self._options
        found = {
            "kind": "metadata",
            "pid": pid,
            "cmd": [records.clean(word) for word in command],
            "executable": records.clean(executable),
            "t0_ms": int(time.time() * 1000),
            "capabilities": self._capabilities(),
            "onbox": {
                "format": 1,
                "version": __version__,
                "host": os.uname().nodename,
                "boot_id": boot_id(),
                "start_ticks": self._tree.members[pid].start_ticks,
                "interval_ms": [options.base_interval_ms, options.max_interval_ms],
                "stage": options.stage,
                "attempt": options.attempt,
            },
        }
        if options.env:
            found["env"] = environment(pid)
        return [records.line(found)]

    def _capabilities(self) -> Dict[str, Any]:
        psi: Dict[str, Any] = {"system": self._psi, "per_process": False}
        if not self._psi:
            psi["reason"] = "no /proc/pressure/memory"
        return {
            "psi": psi,
            "perf_hw": {"available": False, "events": [], "reason": "not asked"},
            "rapl": {"available": False, "zones": 0, "reason": "not asked"},
            "cgroup": self._group.version,
            "children_lists": self._tree.lists,
            "gpu": None if self._gpu is None else self._gpu.method,
        }

    def _switches(self, pid: int) -> Tuple[int, int]:
        status = content("%s/%d/status" % (self._proc, pid))
        names = (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")
        return kib_of(status, names[0]) or 0, kib_of(status, names[1]) or 0

    def _sampled_io(self) -> Io:
        last = self._last
        return Io(
            last.syscall_read_bytes, last.syscall_write_bytes, last.disk_read_bytes, last.disk_write_bytes
        )
