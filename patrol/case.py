"""One run at one moment, with the questions that the decision table asks about it. Pure, no judgement."""

from functools import cached_property

from fleet.model.probe import (
    Attempt,
    BoxFacts,
    Broken,
    Disk,
    End,
    Loop,
    Probe,
    Reachable,
    RunFacts,
    Stopping,
    Unreachable,
)
from fleet.model.reading import Known, Missing
from fleet.model.run import Run
from patrol.history import History

_LEAVING_S = 60.0
_RECORD_S = 2.0  # the chain's records count whole seconds, a loop's parts of one
# torchrun gives the ranks that are left 30 s after a TERM; the program has its own way out before that.
# Source: timeout of close() in torch.distributed.elastic.multiprocessing.api, torch 2.
_LAUNCHER_S = 120.0
_UNCAUGHT = 1  # Python's status for any exception: it names no loop, though one may be told to leave by it
_NO_LAUNCHER = 124  # from here on: time ran out (timeout), no such command, a signal
_NOT_ASKED = Missing("the answer holds nothing on this run")
_NOTHING = RunFacts(*[_NOT_ASKED] * 8)


class Case:
    """What is known about `run` when it is judged at `now` (host time). Box times meet box time only."""

    def __init__(self, run: Run, probe: Probe, history: History, now: float) -> None:
        self.run = run
        self.probe = probe
        self.history = history
        self.now = now

    @property
    def away(self) -> Unreachable | None:
        """Why the box did not answer, or None when it did."""
        return self.probe if isinstance(self.probe, Unreachable) else None

    @property
    def box(self) -> BoxFacts | None:
        """The box as a whole, when it answered."""
        return self.probe.box if isinstance(self.probe, Reachable) else None

    @cached_property
    def facts(self) -> RunFacts:
        """The run as the box showed it; all Missing when nothing came."""
        return (
            self.probe.runs.get(self.run.run_id, _NOTHING) if isinstance(self.probe, Reachable) else _NOTHING
        )

    @property
    def box_now(self) -> float:
        """The box's clock at the look; host time when it did not answer."""
        return self.box.now if self.box else self.now

    # Records

    @cached_property
    def attempt(self) -> Attempt | None:
        """The newest attempt, when its record was read."""
        return self.facts.attempt.value if isinstance(self.facts.attempt, Known) else None

    @cached_property
    def end(self) -> End | None:
        """The end record of the newest attempt; one of an earlier attempt is history."""
        match self.facts.end, self.attempt:
            case Known(value=End() as end), Attempt(number=number) if end.attempt == number:
                return end
        return None

    @property
    def records_read(self) -> bool:
        """Whether attempt and end record were read, or are known not to be there."""
        return isinstance(self.facts.attempt, Known) and isinstance(self.facts.end, Known)

    @property
    def records_went_back(self) -> bool:
        """Whether the end record is of a later attempt than the attempt record, which no chain writes."""
        match self.facts.end, self.facts.attempt:
            case Known(value=End() as end), Known(value=attempt):
                return attempt is None or end.attempt > attempt.number
        return False

    @property
    def stop_asked(self) -> Stopping | None:
        """The wish to stop the newest attempt, as long as that has no end record."""
        match self.facts.stopping, self.attempt:
            case Known(value=Stopping() as wish), Attempt(number=number) if wish.attempt == number:
                return wish if self.end is None else None
        return None

    @property
    def broken_off(self) -> Broken | None:
        """The loop whose `break` ended the newest attempt's stage: the stage has that very status.

        Or a launcher made another of it: then the stage ended soon after the loop, no loop of it began in
        between, and the status is none that says more. The lowest rank speaks for all. An end of another
        attempt or stage is none.
        """
        if self.end is None or self.attempt is None or isinstance(self.facts.broken, Missing):
            return None
        first, last, rc = self.attempt.started_at, self.end.ended_at + _RECORD_S, self.end.rc
        for loop in self.facts.broken.value:
            here = loop.stage == self.end.stage and first <= loop.started_at and loop.ended_at <= last
            told = loop.exit_code == rc != _UNCAUGHT
            soon = loop.last and self.end.ended_at - loop.ended_at <= _LAUNCHER_S
            if here and (told or (soon and rc is not None and rc < _NO_LAUNCHER)):
                return loop
        return None

    @property
    def folder_absent(self) -> bool:
        """Whether the run's folder is not on the box, and never was as far as we know."""
        return isinstance(self.facts.exists, Known) and not self.facts.exists.value and not self.folder_gone

    @property
    def folder_gone(self) -> bool:
        """Whether the run's folder is missing although it was there."""
        was = self.run.launched or self.history.attempt is not None
        return was and isinstance(self.facts.exists, Known) and not self.facts.exists.value

    @property
    def other_box(self) -> bool:
        """Whether the box carries another id than the one this run was armed on."""
        return (
            self.box is not None
            and self.run.box_id is not None
            and isinstance(self.box.box_id, Known)
            and self.box.box_id.value != self.run.box_id
        )

    @property
    def rebooted(self) -> bool:
        """Whether the kernel was started anew after this attempt."""
        return (
            self.box is not None
            and self.attempt is not None
            and isinstance(self.box.boot_id, Known)
            and self.box.boot_id.value != self.attempt.boot
        )

    @property
    def restarted(self) -> bool:
        """Whether the box is a container that was started anew after this attempt, under the same kernel."""
        return (
            self.box is not None
            and self.attempt is not None
            and not self.rebooted
            and isinstance(self.box.boot_id, Known)
            and isinstance(self.box.init_born, Known)
            and self.box.init_born.value > self.attempt.born
        )

    @property
    def moved(self) -> bool:
        """Whether this attempt was first seen on another machine: a home may be a volume that moves."""
        return (
            self.box is not None
            and self.history.machine_id is not None
            and isinstance(self.box.machine_id, Known)
            and self.box.machine_id.value != self.history.machine_id
        )

    # What lives

    @property
    def chain_lives(self) -> bool:
        """By its lock, or by its own pid among the run's processes (a lock file can be deleted under it)."""
        return self.chain_held or (self.attempt is not None and self.attempt.pid in self.pids)

    @property
    def chain_held(self) -> bool:
        """Whether the chain's lock was seen held."""
        return isinstance(self.facts.locks, Known) and self.facts.locks.value.chain_held

    @property
    def stage_held(self) -> bool:
        """Whether the stage lock was seen held."""
        return isinstance(self.facts.locks, Known) and self.facts.locks.value.stage_held

    @property
    def pids(self) -> tuple[int, ...]:
        """Living processes proven to be the run's; empty too when they could not be searched."""
        return (
            tuple(alive.pid for alive in self.facts.alive.value)
            if isinstance(self.facts.alive, Known)
            else ()
        )

    @cached_property
    def others(self) -> tuple[int, ...]:
        """Living processes of the run apart from the chain itself."""
        return tuple(pid for pid in self.pids if self.attempt is None or pid != self.attempt.pid)

    @property
    def liveness_read(self) -> bool:
        """Whether it is known what lives: by the locks, and by a search unless the chain runs."""
        if isinstance(self.facts.locks, Missing):
            return False
        return isinstance(self.facts.alive, Known) or (self.chain_held and self.end is None)

    @property
    def just_ended(self) -> bool:
        """Whether the end record is so young that its chain may still be leaving."""
        return self.end is not None and self.box_now - self.end.ended_at < _LEAVING_S

    @property
    def something_lives(self) -> bool:
        """Whether anything but a chain that is just leaving lives of the run."""
        if self.others:
            return True
        if self.chain_lives:
            # Locks are asked before the records are read: the chain may have ended in between.
            return bool(self.pids) and not self.just_ended
        return self.stage_held and not self.just_ended

    @property
    def only_passes(self) -> bool:
        """Whether all that lives only has the lock file open, as a start has that finds the run over."""
        found = self.facts.alive.value if isinstance(self.facts.alive, Known) else ()
        return bool(self.others) and all(one.witness == "lock" for one in found)

    # Progress

    @property
    def progress_read(self) -> bool:
        """Whether everything that could show an advance was read."""
        readings = (self.facts.log, self.facts.artifacts, self.facts.markers)
        return all(isinstance(reading, Known) for reading in readings)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The run's living loops; empty too when they could not be read."""
        return self.facts.loops.value if isinstance(self.facts.loops, Known) else ()

    @property
    def silent_s(self) -> float:
        """Seconds since the newest advance, at least; 0 when there was none to count from."""
        at = self.history.advanced_at
        return max(0.0, self.box_now - at) if at is not None else 0.0

    @property
    def silent(self) -> bool:
        """Whether there was no advance for longer than the run allows."""
        return self.silent_s >= self.run.spec.stall_after_s

    @property
    def breathing(self) -> bool:
        """Whether heartbeats came after the newest advance, the last of them lately."""
        breath, advance = self.history.breath_at, self.history.advanced_at
        if breath is None or advance is None or breath <= advance:
            return False
        return self.box_now - breath < self.run.spec.stall_after_s

    @property
    def age_s(self) -> float:
        """Seconds since this attempt started, by the box's clock."""
        return max(0.0, self.box_now - self.attempt.started_at) if self.attempt else 0.0

    @property
    def silent_start(self) -> bool:
        """Whether the attempt is young and has said nothing yet."""
        silent = self.history.last_line is None and self.history.loop is None
        return self.age_s < self.run.spec.start_grace_s and silent

    @property
    def armed_s(self) -> float:
        """Seconds since the run was armed, by the host's clock."""
        return max(0.0, self.now - self.run.armed_at)

    # Room

    @cached_property
    def full_disks(self) -> tuple[Disk, ...]:
        """Mounts over the box's limit, in bytes or in inodes."""
        if self.box is None or isinstance(self.box.disks, Missing):
            return ()
        limit = self.run.box.disk_pct_max
        return tuple(
            disk for disk in self.box.disks.value if max(disk.used_pct, disk.inode_used_pct or 0.0) >= limit
        )

    def disk_label(self, disk: Disk) -> str:
        """A name for a mount that is ours to say: the folder that was asked for, never the box's word."""
        return disk.path if disk.path == self.run.spec.cwd else "the state folder"

    def stage_label(self, stage: str | None) -> str:
        """A stage's name by its number, as the spec has it; never the box's word."""
        number = int(stage[:2]) if stage and stage[:2].isdigit() else 0
        stages = self.run.spec.stages
        return stages[number - 1].name if 0 < number <= len(stages) else "an unknown stage"
