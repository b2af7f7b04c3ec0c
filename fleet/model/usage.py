"""What a watched stage used, and how it ended, as its watcher on the box wrote it down last."""

from msgspec import Struct


class UsageEnd(Struct, frozen=True):
    """How the command of a watched stage ended. `exit_code` or `signal`, None for the other.

    `killed_by` is user, timeout, oom or unknown, None for a command that ended by itself. `oom_scope` says
    whose memory ran out, `cgroup` or `machine`, where that is what killed. `wall_s` is how long it ran.
    `left_running` counts processes of it that ran on.
    """

    exit_code: int | None
    signal: int | None
    killed_by: str | None
    wall_s: float | None = None
    oom_scope: str | None = None
    left_running: int = 0


class Usage(Struct, frozen=True):
    """Stage `stage` (NN-NAME) in attempt `attempt`, at `at` (box time); `end` None: it was under way then.

    Sizes are bytes, percents are of one core, or of a device's time for `gpu_pct`. None is what could not be
    measured, `limit_bytes` also where no cgroup limits it. `memory_bytes` is what all processes of the
    command hold, pages that they share counted for each; `cgroup_bytes` is the kernel's count for its
    cgroup, file cache included. `peak_*` are the greatest so far, `peak_at` is when `peak_bytes` was.
    `rising_since` is since when memory only went up, until `peak_at`; None where it did not.
    """

    stage: str
    attempt: int
    at: float
    cpu_pct: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    cgroup_bytes: int | None = None
    limit_bytes: int | None = None
    gpu_pct: float | None = None
    peak_bytes: int | None = None
    peak_at: float | None = None
    peak_cgroup_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    rising_since: float | None = None
    mean_cpu_pct: float | None = None
    end: UsageEnd | None = None

    @property
    def held_bytes(self) -> int | None:
        """What it holds by the lesser figure: one counts shared pages twice, the other file cache."""
        known = [count for count in (self.memory_bytes, self.cgroup_bytes) if count is not None]
        return min(known, default=None)
