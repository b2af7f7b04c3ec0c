"""What each process of a tree took since the last sample, and those that came and went in between."""

from typing import Dict, Iterable, List, Optional, Tuple

from onbox.meter.records import compact, text
from onbox.meter.stat import NS_PER_TICK, Io, Stat
from onbox.meter.tree import Member

_Counters = Tuple[int, int, int, int, int, int]  # rchar, wchar, read, written, faults cached, faults disk
_NOTHING = (0, 0, 0, 0, 0, 0)


class Share:
    """One process as the last sample knew it; `percent` of one core since the sample before."""

    __slots__ = (
        "_command", "_counted", "_named", "_stat", "base", "cpu_ns", "image", "percent", "waited_ticks",
    )  # fmt: skip

    def __init__(self, base: _Counters, cpu_ns: int, waited_ticks: int) -> None:
        self.base, self.cpu_ns, self.waited_ticks = base, cpu_ns, waited_ticks
        self.percent = 0.0
        self.image = b""  # of the program that a line has named
        self._command: Optional[bytes] = None
        self._named = '""'
        self._stat: Optional[Stat] = None
        self._counted = _NOTHING

    def counted(self, member: Member) -> _Counters:
        """Its IO and faults since its base; they are read with its stat."""
        if self._stat is not member.stat:
            now = counters(member)
            self._stat, self._counted = member.stat, now if self.base is _NOTHING else _minus(now, self.base)
        return self._counted

    def named(self, command: bytes) -> str:
        """`command` as a JSON string."""
        if command != self._command:
            self._command, self._named = command, compact(text(command))
        return self._named


class Shares:
    """Shares by process. A process counts from its own beginning; `begin` says from where others do."""

    def __init__(self) -> None:
        self._known: Dict[Tuple[int, int], Share] = {}
        self._gone = _NOTHING  # of orphans that we collected: no parent has counted them
        self._most = _NOTHING
        self._before: Optional[List[_Counters]] = None  # what had that sum

    def begin(self, member: Member, *, whole: bool) -> None:
        """Nothing comes back: its CPU counts from now on, IO and faults too, or the `whole` of them."""
        base = _NOTHING if whole else counters(member)
        self._known[member.key] = Share(base, member.cpu_ns, member.stat.waited_ticks)

    def of(self, member: Member) -> Share:
        """Its share; a process that is new has taken nothing yet."""
        known = self._known.get(member.key)
        if known is None:
            known = self._known[member.key] = Share(_NOTHING, 0, 0)
        return known

    def take(self, members: Iterable[Member], gone: List[Member], us: int, elapsed_s: float) -> float:
        """The percent of one core that all of the tree took in `elapsed_s`; that of each stands in its share.

        A process that has ended counts where its parent waited for it: what the parent's counter gained
        beyond what was known of the child is the end of the child, or a child that nobody saw.
        """
        ended = self._ended(gone, us) if gone else {}
        scale = 1e-7 / elapsed_s
        total = 0
        for member in members:
            known = self.of(member)
            own = member.cpu_ns - known.cpu_ns
            if own:
                own = max(0, own)
                total += own
                known.cpu_ns = member.cpu_ns
            known.percent = own * scale
            waited = member.stat.waited_ticks
            if waited != known.waited_ticks:
                gained = (waited - known.waited_ticks) * NS_PER_TICK - ended.get(member.pid, 0)
                total += max(0, gained)
                known.waited_ticks = waited
        return total * scale

    def counted(self, member: Member) -> _Counters:
        """Its IO and faults since its base."""
        return self.of(member).counted(member)

    def total(self, counted: List[_Counters]) -> _Counters:
        """The sum, which never falls: what one counted goes to its parent only when that waits for it."""
        if counted == self._before:
            return self._most
        self._before = counted
        sums = [sum(column) for column in zip(self._gone, *counted)]
        self._most = (
            max(self._most[0], sums[0]), max(self._most[1], sums[1]), max(self._most[2], sums[2]),
            max(self._most[3], sums[3]), max(self._most[4], sums[4]), max(self._most[5], sums[5]),
        )  # fmt: skip
        return self._most

    def collected(self) -> Io:
        """The IO of orphans that we collected."""
        return Io(*self._gone[:4])

    def _ended(self, gone: List[Member], us: int) -> Dict[int, int]:
        """CPU in ns that was known of those who ended, by the pid of the nearest ancestor that did not."""
        self._before = None
        found: Dict[int, int] = {}
        by_pid = {member.pid: member for member in gone}
        for member in gone:
            known = self._known.pop(member.key, None)
            parent = member.stat.ppid
            while parent in by_pid:
                parent = by_pid[parent].stat.ppid
            if known is not None:
                used = known.cpu_ns + known.waited_ticks * NS_PER_TICK
                found[parent] = found.get(parent, 0) + used
            if member.stat.ppid == us:
                base = _NOTHING if known is None else known.base
                own = _minus(counters(member), base)
                before = self._gone
                self._gone = (
                    before[0] + own[0], before[1] + own[1], before[2] + own[2],
                    before[3] + own[3], before[4] + own[4], before[5] + own[5],
                )  # fmt: skip
        return found


def counters(member: Member) -> _Counters:
    """IO and faults of a process with the children it waited for; IO is 0 where we may not look."""
    io, stat = member.io, member.stat
    if io is None:
        return 0, 0, 0, 0, stat.faults_cached, stat.faults_disk
    return io.rchar, io.wchar, io.read_bytes, io.write_bytes, stat.faults_cached, stat.faults_disk


def _minus(one: _Counters, base: _Counters) -> _Counters:
    return (
        max(0, one[0] - base[0]), max(0, one[1] - base[1]), max(0, one[2] - base[2]),
        max(0, one[3] - base[3]), max(0, one[4] - base[4]), max(0, one[5] - base[5]),
    )  # fmt: skip
