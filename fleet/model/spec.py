"""What a user asked for: boxes, runs, stages, notices. Built by `fleet.spec`, or by `arm BOX RUN -- CMD`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Leftovers = Literal["fail", "end", "allow"]

# One grammar for every name that a user gives (S16): it can stand in a path, a URL, a shell word and a
# terminal without meaning anything else, and never looks like an option.
NAME_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]

DEFAULT_STALL_AFTER_S = 1800
DEFAULT_START_GRACE_S = 120
DEFAULT_BUDGET = 3
DEFAULT_CHECKPOINT_LIMIT_S = 60
SIGNAL_PREFIX = "signal:"  # of a checkpoint that is no command
CHECKPOINT_SIGNALS = ("USR1", "USR2", "HUP", "INT")
DEFAULT_BOX_LIMIT_S = 20.0
DEFAULT_TICK_LIMIT_S = 60.0
DEFAULT_DISK_PCT_MAX = 95.0
DEFAULT_STATE_DIR = "~/.local/state/babysit"


class Stage(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a chain.

    `command` is the only shell text a user gives; it is stored, shown and run exactly as written.
    `strict` runs it by `bash -eo pipefail`; without it by `sh`.
    `leftovers` says what happens when the stage returned 0 but left processes behind.
    `monitor` has its memory, CPU and end watched on the box; it makes no other job of it.
    """

    name: Name
    command: str
    leftovers: Leftovers = "fail"
    strict: bool = True
    monitor: bool = False


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One job as its owner describes it; thresholds carry their units.

    `cwd` is a path on the box (None: the home folder). `artifacts` are globs on the box whose newest
    modification time witnesses progress (checkpoints). `results` are files shown when the run has
    finished. `heartbeat` adds patterns of log lines that prove a process but no progress.
    `budget` bounds all starts of the run together, a person's included. `code` adds globs on the box to the
    scripts that the stages name: their hashes tell a resume what changed since the last start.
    `checkpoint` is what a stop does first, for `checkpoint_limit_s` at most: a line that the box's shell runs
    in `cwd`, or `signal:USR1` (USR2, HUP, INT) to those processes of the stage that listen to it; then an
    artifact must change.
    """

    name: Name
    stages: tuple[Stage, ...]
    box: str | None = None
    cwd: str | None = None
    artifacts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    heartbeat: tuple[str, ...] = ()
    stall_after_s: Annotated[int, Meta(ge=1)] = DEFAULT_STALL_AFTER_S
    start_grace_s: Annotated[int, Meta(ge=1)] = DEFAULT_START_GRACE_S
    budget: Annotated[int, Meta(ge=1, le=1000)] = DEFAULT_BUDGET
    code: tuple[str, ...] = ()
    checkpoint: str | None = None
    checkpoint_limit_s: Annotated[int, Meta(ge=1, le=3600)] = DEFAULT_CHECKPOINT_LIMIT_S


class BoxSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One rented box. `host` is an alias of the user's ssh_config or an address.

    None leaves a value to ssh_config. `state_dir` moves the records (default
    `~/.local/state/babysit` on the box); `lock_dir` names a local folder for the locks when the
    records lie on a network file system. `limit_s` bounds one visit to this box.
    `link` is the transport: `ssh` is the system's own ssh program, for what the library lacks (Kerberos,
    hardware keys, host certificates). `ipc_link` names a folder on the box, such as /usr/local/bin, in which
    arming may put a link to the command `ipc`. `loops` moves the folder of loops that can be steered (default
    `~/.ipc` on the box): stages find it in LOOPCTL_DIR.
    """

    name: Name
    host: str
    user: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    identity: str | None = None
    state_dir: str | None = None
    lock_dir: str | None = None
    limit_s: Annotated[float, Meta(ge=1, le=600)] = DEFAULT_BOX_LIMIT_S
    disk_pct_max: Annotated[float, Meta(gt=0, le=100)] = DEFAULT_DISK_PCT_MAX
    link: Literal["fabric", "ssh"] = "fabric"
    ipc_link: str | None = None
    loops: str | None = None


class TargetSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One receiver of notices.

    `url` is a reference to a secret (`env:NAME`, `file:PATH`, `cmd:PROGRAM WORD…`), never a URL.
    """

    name: Name
    url: Annotated[str, Meta(pattern="^(env|file|cmd):.+")]
    on: tuple[Literal["page", "note"], ...] = ("page", "note")


class Spec(Struct, frozen=True):
    """All of one babysit.toml.

    `path` is where it was read from, None when no file was found. `lines` tells in which line a
    section such as `run.train` begins.
    """

    path: str | None = None
    boxes: dict[str, BoxSpec] = {}
    runs: dict[str, RunSpec] = {}
    targets: dict[str, TargetSpec] = {}
    lines: dict[str, int] = {}
