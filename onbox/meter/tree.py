"""The processes of a command: itself, what descends from it, and orphans that came to us."""

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from onbox.meter.files import Files
from onbox.meter.newest import Newest
from onbox.meter.stat import NS_PER_TICK, Io, Stat, io_of, kib_of, stat_of

# Who did not run is read again this often: the kernel may have taken its memory, its parent ended.
_IDLE_S = 1.0
_WALK_S = 1.0  # a list of children may miss one while another ends: it is asked for again, whatever was new
_FEW_THREADS = 16  # each thread lists its own children; the lists of more are read only every _WALK_S
_STATUS_BYTES = 4096
_ENVIRON_BYTES = 1 << 20
_BECOMING_S, _BECOMING_LOOKS = 0.002, 50  # how long one in the middle of its exec is waited for
_CPU_OF_PROCESS = 2  # CPUCLOCK_SCHED: time on a CPU in ns. Source: posix-timers of the kernel


class Member:
    """One process as it was last read; `cpu_ns` is what it used itself, `io` None where we may not look."""

    __slots__ = (
        "cpu_ns",
        "io",
        "io_path",
        "pid",
        "read_at",
        "start_ticks",
        "stat",
        "stat_path",
        "status_path",
        "tasks",
    )

    def __init__(self, pid: int, proc: str) -> None:
        self.pid = pid
        self.stat_path = "%s/%d/stat" % (proc, pid)
        self.io_path = "%s/%d/io" % (proc, pid)
        self.status_path = "%s/%d/status" % (proc, pid)
        self.tasks = "%s/%d/task" % (proc, pid)
        self.start_ticks = -1
        self.read_at = 0.0
        self.cpu_ns = 0
        self.io: Optional[Io] = None
        self.stat: Stat

    @property
    def key(self) -> Tuple[int, int]:
        """Which process it is, whoever has its number later."""
        return self.pid, self.start_ticks

    @property
    def name(self) -> str:
        """Its command as the kernel shortens it."""
        return self.stat.command.decode("utf-8", "replace")


class Tree:
    """The members by pid, as `look()` last found them; those that ended stay until collected."""

    def __init__(
        self,
        root: int,
        *,
        alone: bool,
        mark: Optional[str] = None,
        files: Optional[Files] = None,
        proc: str = "/proc",
        lists: Optional[bool] = None,
    ) -> None:
        """`alone`: every child of ours that comes from now on is the tree's. `mark`: its ONBOX_WATCH.

        Raises ProcessLookupError where there is no such process. `lists=False` does without the kernel's
        lists of children, as where it has none.
        """
        self.members: Dict[int, Member] = {}
        self.born = 0
        self._gone: List[Member] = []
        self.root = root
        self.files = Files() if files is None else files
        self._proc, self._alone = proc, alone
        self._mark = b"ONBOX_WATCH=" + mark.encode() if mark else b""  # which no environment holds
        self._us = os.getpid()
        own = "%s/%d/task/%d/children" % (proc, self._us, self._us)
        self.lists = Path(own).exists() if lists is None else lists
        # Children of ours that are not the tree's, as long as they are listed.
        self._strangers: Set[int] = set()
        self._walk_at = self._threads_at = 0.0
        self._newest = Newest(proc, root)
        self._ran = False
        self._ns = _cpu_ns(root) is not None
        first = self._join(root)
        if first is None:
            raise ProcessLookupError(3, "no such process: %d" % root)
        session = first.stat.session
        self._session = None if session == os.getsid(0) else session
        for pid in self._children_of()(self._us):
            if alone or not self._belongs(pid):  # it may have begun before we looked, and left an orphan
                self.not_ours(pid)

    def not_ours(self, pid: int) -> None:
        """Nothing comes back: that child of ours has nothing to do with the command."""
        if pid not in self.members:
            self._strangers.add(pid)

    def look(self, *, force: bool = False) -> None:
        """Nothing comes back: `members` are those of now; those that went since `left` was asked stand there.

        Without `force` lists of children are read only where a member ran and a process was started since, or
        a second passed: who did not run started nothing, and left nobody behind.
        """
        now = time.monotonic()
        self._ran = False
        gone = [member for member in self.members.values() if not self._again(member, now, force=force)]
        for member in gone:
            del self.members[member.pid]
            self._forget(member)
        self._gone += gone
        if gone or force or now >= self._walk_at or (self._ran and self._newest.moved()):
            self._walk(now, force=force)

    def left(self) -> List[Member]:
        """The members that went since this was asked before, as they were last seen."""
        gone, self._gone = self._gone, []
        return gone

    def orphans(self) -> List[Member]:
        """Direct children of ours that belong to the tree and are not its root; those that have ended too."""
        found = []
        for pid in self._ours(self._children_of()):
            member = self.members.get(pid)
            if member is None:
                member = self._join(pid)
            if member is not None and pid != self.root and self._again(member, time.monotonic(), force=True):
                found.append(member)
        return found

    def high_water_kb(self, member: Member) -> int:
        """The most memory it ever had, 0 where nobody says."""
        try:
            return kib_of(self.files.read(member.status_path, _STATUS_BYTES), b"VmHWM") or 0
        except OSError:
            return 0

    def close(self) -> None:
        """Nothing comes back: what was open is closed."""
        self.files.close()
        self._newest.close()

    def _again(self, member: Member, now: float, *, force: bool) -> bool:
        """Whether it is still there; then it is as it is now."""
        cpu = _cpu_ns(member.pid) if self._ns else None
        if cpu is not None and cpu == member.cpu_ns and not force and now < member.read_at + _IDLE_S:
            return True  # nothing of it ran
        self._ran = True
        try:
            stat = stat_of(self.files.read(member.stat_path))
        except (FileNotFoundError, ProcessLookupError):
            return False
        except OSError:
            return member.start_ticks >= 0  # we are out of descriptors or memory, which says nothing of it
        if stat is None or (stat.start_ticks != member.start_ticks and member.start_ticks >= 0):
            return False
        member.stat, member.start_ticks, member.read_at = stat, stat.start_ticks, now
        member.cpu_ns = stat.ticks * NS_PER_TICK if cpu is None else cpu
        with contextlib.suppress(OSError):  # another user's, or just gone: what was known stands
            member.io = io_of(self.files.read(member.io_path))
        return True

    def _join(self, pid: int, parents: Tuple[int, ...] = ()) -> Optional[Member]:
        member = Member(pid, self._proc)
        if not self._again(member, time.monotonic(), force=True) or (
            parents and member.stat.ppid not in parents
        ):
            self._forget(member)
            return None
        self.members[pid] = member
        self.born += 1
        return member

    def _forget(self, member: Member) -> None:
        self.files.forget(member.stat_path)
        self.files.forget(member.io_path)
        self.files.forget(member.status_path)
        self.files.forget("%s/%d/children" % (member.tasks, member.pid))

    def _walk(self, now: float, *, force: bool) -> None:
        threads = force or now >= self._threads_at
        if threads:
            self._threads_at = now + _WALK_S
        self._walk_at = now + _WALK_S
        children = self._children_of(threads=threads)
        waiting = list(self.members.values())
        while waiting:
            while waiting:
                parent = waiting.pop()
                if not parent.stat.dead:
                    waiting += self._joined(children(parent.pid), (parent.pid, self._us))
            # Last of all, and again: whose parent ended while we looked has come to us.
            if force and not self.lists:
                children = self._scanned()
            waiting = self._joined(self._ours(children), (self._us,))

    def _joined(self, pids: Iterable[int], parents: Tuple[int, ...]) -> List[Member]:
        """Those of `pids` that are new, and members from now on."""
        found = [self._join(pid, parents) for pid in pids if pid not in self.members]
        return [member for member in found if member is not None]

    def _ours(self, children: Callable[[int], Iterable[int]]) -> List[int]:
        """Those of our children that are the tree's."""
        listed = list(children(self._us))
        self._strangers.intersection_update(listed)
        return [
            pid
            for pid in listed
            if pid not in self._strangers and (pid in self.members or self._belongs(pid))
        ]

    def _belongs(self, pid: int) -> bool:
        """Whether a child of ours is an orphan of the tree."""
        stat = self._stat("%s/%d/stat" % (self._proc, pid))
        if stat is None or stat.ppid != self._us:
            return False
        if self._alone or stat.session == self._session:
            return True
        environment = self._environment(pid)
        if environment and self._mark not in environment:
            self._strangers.add(pid)
        return self._mark in environment

    def _environment(self, pid: int) -> List[bytes]:
        """What it was started with; nothing when it has ended. In the middle of its exec it is waited for."""
        for _ in range(_BECOMING_LOOKS):
            found, stat = self._words(pid, "environ"), self._stat("%s/%d/stat" % (self._proc, pid))
            if found or stat is None or stat.dead or self._words(pid, "cmdline"):
                return found
            time.sleep(_BECOMING_S)
        return []

    def _words(self, pid: int, name: str) -> List[bytes]:
        try:
            with Path(self._proc, str(pid), name).open("rb") as file:
                return [word for word in file.read(_ENVIRON_BYTES).split(b"\0") if word]
        except OSError:
            return []

    def _stat(self, path: str) -> Optional[Stat]:
        try:
            return stat_of(Path(path).read_bytes())
        except OSError:
            return None

    def _children_of(self, *, threads: bool = True) -> Callable[[int], Iterable[int]]:
        """What gives the children of a pid: the kernel's lists, else one scan of all processes."""
        if not self.lists:
            return self._scanned()
        return lambda pid: self._listed(pid, threads=threads)

    def _listed(self, pid: int, *, threads: bool) -> List[int]:
        member = self.members.get(pid)
        if member is None or member.stat.threads == 1:
            return self._list("%s/%d/task/%d/children" % (self._proc, pid, pid), kept=True)
        if member.stat.threads > _FEW_THREADS and not threads:
            return self._list("%s/%d/children" % (member.tasks, pid), kept=True)
        try:
            names = os.listdir(member.tasks)  # noqa: PTH208 - names, and no object a thread
        except OSError:
            return []
        found = []
        for name in names:
            found += self._list("%s/%s/children" % (member.tasks, name), kept=False)
        return found

    def _list(self, path: str, *, kept: bool) -> List[int]:
        try:
            return list(map(int, self.files.read_all(path, kept=kept).split()))
        except (OSError, ValueError):
            return []

    def _scanned(self) -> Callable[[int], Iterable[int]]:
        by_parent: Dict[int, List[int]] = {}
        for name in os.listdir(self._proc):  # noqa: PTH208 - as above
            if name.isdigit():
                stat = self._stat("%s/%s/stat" % (self._proc, name))
                if stat is not None:
                    by_parent.setdefault(stat.ppid, []).append(int(name))
        return lambda pid: by_parent.get(pid, ())


def _cpu_ns(pid: int) -> Optional[int]:
    """What the process used of all CPUs, in ns; None where it is gone or the kernel does not tell."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPU_OF_PROCESS)
    except OSError:
        return None
