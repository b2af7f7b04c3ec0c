"""What one visit to a box brought back: its own state and that of each run on it, or why nothing came."""

from enum import StrEnum

from msgspec import Struct

from fleet.model.reading import Missing, Reading
from fleet.model.usage import Usage


class Cause(StrEnum):
    """Why a box could not be asked. One word a cause; each has its own sentence and next command."""

    RESOLVE = "resolve"  # the name has no address
    REFUSED = "refused"  # nothing listens on the port
    NO_ROUTE = "no_route"  # the network says it cannot be reached
    TIMEOUT_CONNECT = "timeout_connect"  # no answer to TCP at all
    TIMEOUT_BANNER = "timeout_banner"  # the port is open, but no SSH greeting came
    TIMEOUT_HANDSHAKE = "timeout_handshake"  # it went silent between greeting and login
    TIMEOUT_COMMAND = "timeout_command"  # logged in, but the answer did not end in time
    CUT = "cut"  # the link ended in the middle of an answer
    THROTTLED = "throttled"  # sshd closed at the greeting (MaxStartups, a gateway's limit)
    PROTOCOL = "protocol"  # what answers is not usable SSH
    WEAK = "weak"  # it speaks only algorithms that are off here, or none that we know
    UNREADABLE = "unreadable"  # it answered, but not in our frame, or damaged
    AUTH = "auth"  # the box refused our key
    HOSTKEY_UNKNOWN = "hostkey_unknown"  # never seen this key for this box
    HOSTKEY_CHANGED = "hostkey_changed"  # another key than the pinned one
    WAY = "way"  # the proxy command or jump host on the way does not carry us
    WAY_AUTH = "way_auth"  # a jump host on the way refused our key
    WAY_HOSTKEY = "way_hostkey"  # a jump host's key is unknown or changed
    MOVED = "moved"  # the pinned key, at another address than the confirmed one


class Unreachable(Struct, frozen=True, tag="unreachable"):
    """The box did not answer: data, not an exception. `at` is host time, epoch seconds.

    `transient` says that trying again later, with nothing changed, may work. `known` and `offered`
    are host-key fingerprints (`SHA256:…`), only for the two host-key causes.
    """

    cause: Cause
    says: str
    transient: bool
    at: float
    took_s: float
    known: str | None = None
    offered: str | None = None


class Disk(Struct, frozen=True):
    """One mount, in percent from 0 to 100; `inode_used_pct` None where it counts no inodes."""

    path: str
    mount: str
    used_pct: float
    free_bytes: int
    inode_used_pct: float | None


class Memory(Struct, frozen=True):
    """The limit our processes meet: cgroup v2 or v1, else the machine. `limit_bytes` None: no limit."""

    used_bytes: int
    limit_bytes: int | None
    oom_kill_count: int | None


class Gpu(Struct, frozen=True):
    """One device as nvidia-smi tells it: percent of time busy, bytes of memory used and in all."""

    index: int
    name: str
    util_pct: float
    mem_used_bytes: int
    mem_total_bytes: int


class BoxFacts(Struct, frozen=True):
    """The box as a whole. `now` is its clock (epoch seconds), by which all its file times are judged.

    `init_born` is when its first process started, in ticks since the kernel did, as in an attempt's `born`.
    """

    now: float
    boot_id: Reading[str]
    box_id: Reading[str]
    uptime_s: Reading[float]
    disks: Reading[tuple[Disk, ...]]
    memory: Reading[Memory]
    gpus: Reading[tuple[Gpu, ...]]
    machine_id: Reading[str] = Missing("the answer does not hold it")
    init_born: Reading[int] = Missing("the answer does not hold it")


class Attempt(Struct, frozen=True):
    """The newest start of the chain, as its record says. `pid`, `born`, `boot`: the chain's identity."""

    number: int
    pid: int
    born: int
    boot: str
    started_at: float


class End(Struct, frozen=True):
    """How attempt `attempt` ended. `state` is done, failed or stopped.

    `rc` is the failing stage's status (None when there is none); `signal` only where the stage
    supervisor saw it, so that None means "not told apart", never "no signal". `why` is exit,
    signal, leftovers, stopped, or what could not be written.
    """

    state: str
    attempt: int
    stage: str | None
    rc: int | None
    signal: int | None
    why: str
    started_at: float
    ended_at: float
    leftovers: tuple[int, ...] = ()


class Stopping(Struct, frozen=True):
    """The wish to stop `attempt`, written down by `babysit stop` before it did anything. `at` is box time."""

    attempt: int
    at: float


class Marker(Struct, frozen=True):
    """One stage that ended well, in `attempt`."""

    stage: str
    attempt: int
    started_at: float
    ended_at: float


class Locks(Struct, frozen=True):
    """`chain_held`: the chain itself lives. `stage_held`: something that inherited its lock lives."""

    chain_held: bool
    stage_held: bool


class Alive(Struct, frozen=True):
    """One living process proven to be the run's. `witness` says how: lock, tag or mark."""

    pid: int
    witness: str
    comm: str


class LogSlice(Struct, frozen=True):
    """New bytes of the run's log since the offset that was asked for.

    `file_id` is device and inode; `size_bytes` and `mtime` are the file's. `start` is the offset of
    the first byte in `data`; it is greater than the offset asked for when the slice had to skip.
    """

    file_id: str
    size_bytes: int
    mtime: float
    start: int
    data: bytes


class Artifact(Struct, frozen=True):
    """One file that a glob of the run's `artifacts` matched, newest first in every tuple."""

    path: str
    size_bytes: int
    mtime: float


class Loop(Struct, frozen=True):
    """A living loop that can be asked: the outermost of its process, as its card and its state file say.

    `kind` is onbox, or loopmonitor or R for one that only the registry names. `iteration` counts finished
    ones, None before the first. `moved_at` is when its state was written last, before the first time when it
    began. `state_age_s` is told where a state that is not ours is older than its loop's pace explains.
    `tracked` are its scalars, numbers as numbers and what no number can be as text. `label` and the names in
    `tracked` are the program's words, untrusted. `tag` names the run it belongs to, None outside of one.
    """

    pid: int
    label: str
    tag: str | None
    rank: int | None
    iteration: int | None
    total: int | None
    eta_s: float | None
    moved_at: float
    paused: bool
    tracked: tuple[tuple[str, int | float | str], ...] = ()
    kind: str = "onbox"
    state_age_s: float | None = None


class Broken(Struct, frozen=True):
    """A loop that ended because `break` was asked for, as its own end record says. `ended_at` is box time.

    `iteration` counts finished ones. `exit_code` is what its program ended with, `stage` the NN-NAME in which
    it ran. `saved` is the path of its snapshot, the box's text and untrusted; None where it does not say.
    `started_at` is box time too, 0 where it was kept before anybody read it. `last`: no loop that began
    after this one's end is known of the stage.
    """

    stage: str
    iteration: int | None
    exit_code: int
    ended_at: float
    rank: int | None = None
    saved: str | None = None
    started_at: float = 0.0
    last: bool = True


class RunFacts(Struct, frozen=True):
    """One run as the box shows it. A Known None says "there is no such record", which Missing never does.

    `budget` is how many starts it allows in all, grants included.
    """

    exists: Reading[bool]
    attempt: Reading[Attempt | None]
    end: Reading[End | None]
    markers: Reading[tuple[Marker, ...]]
    locks: Reading[Locks]
    alive: Reading[tuple[Alive, ...]]
    log: Reading[LogSlice]
    artifacts: Reading[tuple[Artifact, ...]]
    stopping: Reading[Stopping | None] = Missing("the answer does not hold it")
    loops: Reading[tuple[Loop, ...]] = Missing("the answer does not hold it")
    broken: Reading[tuple[Broken, ...]] = Missing("the answer does not hold it")
    usage: Reading[Usage | None] = Missing("the answer does not hold it")
    budget: Reading[int] = Missing("the answer does not hold it")


class Reachable(Struct, frozen=True, tag="reachable"):
    """The box answered. `at` is host time of the answer; `skew_s` is box clock minus host clock.

    `strict_kex`: whether both sides kept the strict order of the key exchange; None: the link did not tell.
    """

    box: BoxFacts
    runs: dict[str, RunFacts]
    at: float
    took_s: float
    skew_s: float
    strict_kex: bool | None = None


Probe = Reachable | Unreachable
