"""What a user asked for: boxes, runs, stages, notices. Built by `fleet.spec`, or by `arm BOX RUN -- CMD`."""

from typing import Literal

from msgspec import Struct

Leftovers = Literal["fail", "end", "allow"]

DEFAULT_STALL_AFTER_S = 1800
DEFAULT_START_GRACE_S = 120
DEFAULT_BUDGET = 3
DEFAULT_BOX_LIMIT_S = 20.0
DEFAULT_TICK_LIMIT_S = 60.0
DEFAULT_DISK_PCT_MAX = 95.0


class Stage(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a chain.

    `command` is the only shell text a user gives; it is stored, shown and run exactly as written.
    `strict` runs it by `bash -eo pipefail`; without it by `sh`.
    `leftovers` says what happens when the stage returned 0 but left processes behind.
    """

    name: str
    command: str
    leftovers: Leftovers = "fail"
    strict: bool = True


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One job as its owner describes it; thresholds carry their units.

    `cwd` is a path on the box (None: the home folder). `artifacts` are globs on the box whose newest
    modification time witnesses progress (checkpoints). `results` are files shown when the run has
    finished. `heartbeat` adds patterns of log lines that prove a process but no progress.
    `budget` bounds all starts of the run together, a person's included.
    """

    name: str
    stages: tuple[Stage, ...]
    box: str | None = None
    cwd: str | None = None
    artifacts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    heartbeat: tuple[str, ...] = ()
    stall_after_s: int = DEFAULT_STALL_AFTER_S
    start_grace_s: int = DEFAULT_START_GRACE_S
    budget: int = DEFAULT_BUDGET


class BoxSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One rented box. `host` is an alias of the user's ssh_config or an address.

    None leaves a value to ssh_config. `state_dir` moves the records (default
    `~/.local/state/babysit` on the box); `lock_dir` names a local folder for the locks when the
    records lie on a network file system. `limit_s` bounds one visit to this box.
    """

    name: str
    host: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    state_dir: str | None = None
    lock_dir: str | None = None
    limit_s: float = DEFAULT_BOX_LIMIT_S
    disk_pct_max: float = DEFAULT_DISK_PCT_MAX


class TargetSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One receiver of notices. `url` is a reference to a secret (`env:NAME` or `file:PATH`), never a URL."""

    name: str
    url: str
    on: tuple[Literal["page", "note"], ...] = ("page", "note")


class Spec(Struct, frozen=True):
    """All of one babysit.toml. `path` is where it was read from; None when no file was found."""

    path: str | None
    boxes: dict[str, BoxSpec]
    runs: dict[str, RunSpec]
    targets: dict[str, TargetSpec]
