"""The words in which the table's rows speak of a case. Pure; closed values and figures only."""

import signal

from fleet.model.probe import Disk
from fleet.model.reading import Known
from fleet.text.quote import sh
from fleet.text.say import ago, duration, plural
from patrol import pace
from patrol.case import Case
from patrol.link_words import LinkWords
from patrol.usage import UsageWords

_FAILED_WHY = {
    "cannot-stamp": "the stage ended well, but its marker could not be written",
    "marker-target": "what stands in the marker's place is no plain file",
    "disk": "the disk has no room for the records",
    "cwd": "its working folder cannot be entered",
}
_PIDS_SHOWN = 3
_SIGNAL_BASE = 128


class Words(LinkWords, UsageWords):
    """One case in words; rows name these in their `says` and `next`. An empty word leaves its piece out."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._end = case.end
        self._progress = case.history.progress

    @property
    def run(self) -> str:
        """The run's name, as a word of a shell."""
        return sh(self._case.run.name)

    @property
    def results(self) -> str:
        """The command that shows the result files, where the run names some."""
        return f"babysit results {self.box} {self.run}" if self._case.run.spec.results else ""

    @property
    def begin(self) -> str:
        """The command that begins what never started: an arming that was cut early goes on by arming."""
        if self._case.folder_absent:
            return f"babysit arm {self.box} {self.run}"
        return f"babysit resume {self.box} {self.run} --yes"

    # Progress

    @property
    def step(self) -> str:
        """`epoch 37/90`, `step 400`, `epoch 3 (37 % of it)`."""
        return pace.step(self._progress)

    @property
    def after(self) -> str:
        """`after epoch 52`."""
        return f"after {self.step}" if self.step else ""

    @property
    def values(self) -> str:
        """`loss 0.412, lr 0.001`: names of a closed set, figures as they were printed."""
        return ", ".join(f"{name} {number}" for name, number in self._progress.values[:2])

    @property
    def eta(self) -> str:
        """`ETA 3 h 10 min`."""
        left_s = pace.eta_s(self._case)
        return "" if left_s is None else f"ETA {duration(left_s)}"

    @property
    def gpu(self) -> str:
        """`GPU 94 %`, or the devices' figures side by side."""
        box = self._case.box
        if box is None or not isinstance(box.gpus, Known) or not box.gpus.value:
            return ""
        return "GPU " + "/".join(f"{gpu.util_pct:.0f}" for gpu in box.gpus.value[:8]) + " %"

    @property
    def silent(self) -> str:
        """How long there was no advance, at least."""
        return duration(self._case.silent_s)

    @property
    def silent_what(self) -> str:
        """What did not advance: `step` where the log names steps, else `line`."""
        return "step" if self._progress.index is not None else "line"

    @property
    def usual(self) -> str:
        """`usual: 40 s`."""
        usual_s = self._progress.usual_step_s
        return f" (usual: {duration(usual_s)})" if usual_s else ""

    @property
    def still(self) -> str:
        """What else was looked at and is as still."""
        return (
            "log, artifacts and markers still" if self._case.run.spec.artifacts else "log and markers still"
        )

    @property
    def breath(self) -> str:
        """When the newest heartbeat came."""
        at = self._case.history.breath_at
        stood = f", its counter moved {self.stood}" if self.stood else ""
        return "" if at is None else f"heartbeat {ago(self._case.box_now - at)}{stood}"

    @property
    def stood(self) -> str:
        """When the heartbeat's own counter moved last, where it says so: `35 min ago`."""
        at = self._case.history.stood_at
        return "" if at is None else ago(self._case.box_now - at)

    @property
    def lifetime(self) -> str:
        """`running for 3 h`, where the log does not say how far it is."""
        return "" if self.step else f"running for {duration(self._case.age_s)}"

    @property
    def armed(self) -> str:
        """When the run was armed."""
        return ago(self._case.armed_s)

    # The end, and what is left

    @property
    def stage(self) -> str:
        """The stage that the end record names."""
        return self._case.stage_label(self._end.stage) if self._end else ""

    @property
    def exit(self) -> str:
        """The failing stage's status, and what it may stand for."""
        rc = self._end.rc if self._end else None
        if rc is None:
            return "without a status"
        if _SIGNAL_BASE < rc <= _SIGNAL_BASE + 64:
            # A shell says 128 + N when signal N ended its program; a program may say so by itself, too.
            return f"with status {rc}, a shell's word for {_signal_name(rc - _SIGNAL_BASE)}"
        return f"with status {rc}"

    @property
    def signal(self) -> str:
        """`SIGKILL (9)`."""
        number = (self._end.signal if self._end else None) or 0
        return f"{_signal_name(number)} ({number})"

    @property
    def why(self) -> str:
        """Why the records could not be written."""
        return _FAILED_WHY.get(self._end.why, "it says no reason") if self._end else ""

    @property
    def oom(self) -> str:
        """How often the kernel killed for memory since this attempt started."""
        kills = self._case.history.oom_kills
        return f"the kernel killed {plural(kills, 'process')} for memory" if kills else ""

    @property
    def attempt(self) -> str:
        """`attempt 2`."""
        return f"attempt {self._case.attempt.number}" if self._case.attempt else "no attempt"

    @property
    def ended(self) -> str:
        """When the attempt ended."""
        return f"ended {ago(self._case.box_now - self._end.ended_at)}" if self._end else ""

    @property
    def took(self) -> str:
        """How long the attempt took."""
        return f"took {duration(self._end.ended_at - self._end.started_at)}" if self._end else ""

    @property
    def alive(self) -> str:
        """The pids that live, the first three of them; all are counted."""
        pids = self._case.others or self._case.pids
        if not pids:
            return "something that holds its lock" if self._case.stage_held else ""
        more = f" and {len(pids) - _PIDS_SHOWN} more" if len(pids) > _PIDS_SHOWN else ""
        return f"pid {', '.join(str(pid) for pid in pids[:_PIDS_SHOWN])}{more}"

    @property
    def alive_too(self) -> str:
        """What lives although the run failed."""
        return f"still alive: {self.alive}" if self._case.something_lives else ""

    @property
    def left(self) -> str:
        """The pids that the end record names as left over."""
        pids = self._end.leftovers if self._end else ()
        more = f" and {len(pids) - _PIDS_SHOWN} more" if len(pids) > _PIDS_SHOWN else ""
        return f"pid {', '.join(str(pid) for pid in pids[:_PIDS_SHOWN])}{more}" if pids else "processes"

    @property
    def stop_asked(self) -> str:
        """`stop was asked 3 min ago`."""
        wish = self._case.stop_asked
        return f"stop was asked {ago(self._case.box_now - wish.at)}" if wish else ""

    @property
    def rebooted(self) -> str:
        """What became of the boot in which the attempt ran, and when."""
        if self._case.moved:
            return "its files are on another machine now"
        if self._case.restarted:
            return "its container was started anew"
        box = self._case.box
        if box is not None and isinstance(box.uptime_s, Known):
            return f"the box rebooted {ago(box.uptime_s.value)}"
        return "the box rebooted at an unknown time"

    @property
    def full(self) -> str:
        """The mounts over their limit."""
        return ", ".join(full_words(self._case, disk) for disk in self._case.full_disks)


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def full_words(case: Case, disk: Disk) -> str:
    """`the state folder's disk is 97 % full`, with inodes when those are the fuller ones."""
    inodes = disk.inode_used_pct or 0.0
    label = case.disk_label(disk)
    if inodes > disk.used_pct:
        return f"{inodes:.0f} % of the inodes at {label} are used"
    return f"the disk of {label} is {disk.used_pct:.0f} % full"
