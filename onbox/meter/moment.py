"""One moment of a tree as lines: each process, their sum, and what only the sum has."""

import heapq
import os
import resource
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from onbox.meter import records
from onbox.meter.cgroup import Group
from onbox.meter.machine import Machine
from onbox.meter.pss import Pss
from onbox.meter.records import Metrics
from onbox.meter.redact import redacted
from onbox.meter.shares import Shares
from onbox.meter.stat import TICKS_PER_S
from onbox.meter.tree import Member, Tree

_WORDS_BYTES = 4096  # of a descendant's command line
_CONTENT_BYTES = 16384
_NO_IMAGE = b"0 0"  # it ends, or is in the middle of its exec: no other program yet, and without words
_YOUNG_S, _MARK_S = 2.0, 1.0
_GATE_S = 1.0  # a command that looks as it did at its gate for so long only looks so


class Moment(NamedTuple):
    """The lines of a moment, and what they say: the sum, of how many processes, and what only the sum has."""

    lines: List[bytes]
    total: Metrics
    processes: int
    extra: Dict[str, Any]


class Moments:
    """Turns members into lines, and remembers which programs were named, and the largest process."""

    def __init__(
        self,
        tree: Tree,
        shares: Shares,
        machine: Machine,
        group: Group,
        gpu: Any,
        *,
        alone: bool = False,
        most: Optional[int] = None,
        proc: str = "/proc",
    ) -> None:
        """`alone`: the command without descendants; of these the `most` largest have a place in a line."""
        self._tree, self._shares, self._machine, self._group, self._gpu = tree, shares, machine, group, gpu
        self._alone, self._most, self._proc = alone, most, proc
        self._pss = Pss(time.monotonic(), proc)
        self._floor_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._gate: Optional[bytes] = None
        self._gate_until = 0.0
        self._marked_at = float("-inf")
        self._young_until = time.monotonic() + _YOUNG_S
        self.hwm_kb = 0

    def at_gate(self, image: bytes) -> None:
        """Nothing comes back: the root is `image`, a fork of ours, until its exec; its memory is ours."""
        self._gate, self._gate_until = image, time.monotonic() + _GATE_S

    def now(self, percent: float) -> Moment:
        """This moment; `percent` of one core is what the tree took."""
        now, ts_ms = time.monotonic(), int(time.time() * 1000)
        self._machine.look(now)
        members = self._members()
        held = self._held(now)
        pss, pss_kb = self._pss.look(members, now)
        received, sent = self._machine.net()
        booted = time.clock_gettime(time.CLOCK_BOOTTIME)
        counted = [self._shares.counted(one) for one in members]
        figures: List[Metrics] = []
        resident = virtual = threads = uptime = alive = 0
        for one, own in zip(members, counted):
            stat = one.stat
            memory, mapped, age = stat.rss_kb, stat.vms_kb, int(booted - stat.start_ticks / TICKS_PER_S)
            if one.pid == self._tree.root:
                uptime = age
                if held:
                    memory = mapped = 0
            resident += memory
            virtual += mapped
            threads += stat.threads
            alive += not stat.dead
            taken = self._shares.of(one).percent
            read, written, fetched, stored, cached, disk = own
            storage = (fetched, stored, read, written, cached, disk, received, sent)
            figures.append(Metrics(ts_ms, taken, memory, mapped, *storage, stat.threads, age))
        if self._alone:
            percent = figures[0].cpu_usage if figures else 0.0
        io = self._shares.total(counted)
        total = Metrics(
            ts_ms,
            percent,
            resident,
            virtual,
            io[2],
            io[3],
            io[0],
            io[1],
            io[4],
            io[5],
            received,
            sent,
            threads,
            uptime,
        )
        self._look_at_largest(members, figures, now)
        moment = Moment([], total, alive, self._extra(now, pss_kb))
        moment.lines.extend(self._lines(members, figures, moment, pss))
        return moment

    def _members(self) -> List[Member]:
        root = self._tree.members.get(self._tree.root)
        if self._alone:
            return [] if root is None else [root]
        return [one for one in self._tree.members.values() if one is root or not one.stat.dead]

    def _held(self, now: float) -> bool:
        """Whether the root has not become its command yet."""
        if self._gate is not None:
            root = self._tree.members.get(self._tree.root)
            if root is None or root.stat.image != self._gate or now > self._gate_until:
                self._gate = None
        return self._gate is not None

    def _look_at_largest(self, members: Sequence[Member], figures: Sequence[Metrics], now: float) -> None:
        """Where the kernel's figure has ours in it, the largest process is known by its own mark alone."""
        if not figures:
            return
        sizes = [own.mem_rss_kb for own in figures]
        resident = max(sizes)
        seldom = now > self._young_until and now < self._marked_at + _MARK_S  # a mark never falls
        if resident and self.hwm_kb < self._floor_kb and not seldom:
            self._marked_at = now
            resident = max(resident, self._tree.high_water_kb(members[sizes.index(resident)]))
        self.hwm_kb = max(self.hwm_kb, resident)

    def _extra(self, now: float, pss_kb: Optional[int]) -> Dict[str, Any]:
        found: Dict[str, Any] = {}
        use = self._group.use(now)
        if use is not None:
            names = ("cgroup_used_kb", "cgroup_limit_kb", "cgroup_peak_kb")
            found.update({name: value for name, value in zip(names, use) if value is not None})
        if pss_kb is not None:
            found["mem_pss_kb"] = pss_kb
        if self._gpu is not None:
            gpu = self._gpu.look(now, self._tree.members)
            if gpu is not None:
                found["gpu"] = gpu
        return found

    def _lines(
        self,
        members: Sequence[Member],
        figures: Sequence[Metrics],
        moment: Moment,
        pss: Dict[int, int],
    ) -> List[bytes]:
        total, alive, extra, said = moment.total, moment.processes, moment.extra, self._machine.said
        parent = None
        shown = []
        for one, own in zip(members, figures):
            if one.pid == self._tree.root:
                parent = records.process(own, one.stat.core, pss.get(one.pid))
            else:
                shown.append((one, own))
        if self._alone:
            extra = {**extra, "process_count": alive}
            return [] if parent is None else [records.sample(parent, extra, said=said)]
        if self._most is not None and len(shown) > self._most:
            extra["children_left_out"] = len(shown) - self._most
            kept = heapq.nlargest(
                self._most, range(len(shown)), key=lambda number: shown[number][1].mem_rss_kb
            )
            shown = [shown[number] for number in sorted(kept)]
        lines, children = [], []
        for one, own in shown:
            share = self._shares.of(one)
            if share.image != one.stat.image and not (share.image and one.stat.image == _NO_IMAGE):
                share.image = one.stat.image
                line = records.child(
                    total.ts_ms,
                    one.pid,
                    one.stat.ppid,
                    words(one.pid, self._proc),
                    program(one.pid, self._proc),
                )
                lines.append(line)
            metrics = records.process(own, one.stat.core, pss.get(one.pid))
            children.append(records.Child(one.pid, share.named(one.stat.command), metrics))
        lines.append(records.tree(total, alive, parent, children, extra, said=said))
        return lines


def words(pid: int, proc: str = "/proc") -> List[str]:
    """The command line of a process, fit to be written down; empty when it is gone."""
    raw = content("%s/%d/cmdline" % (proc, pid))
    if not raw:
        return []
    return redacted([records.text(word) for word in raw.rstrip(b"\0").split(b"\0")], _WORDS_BYTES)


def program(pid: int, proc: str = "/proc") -> str:
    """The path of the program that it runs; empty where we may not look."""
    try:
        return records.text(os.fsencode(os.readlink("%s/%d/exe" % (proc, pid))))
    except OSError:
        return ""


def content(path: str) -> bytes:
    """The first 16 KiB at `path`; empty where nothing can be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the name is one already
            return file.read(_CONTENT_BYTES)
    except OSError:
        return b""
