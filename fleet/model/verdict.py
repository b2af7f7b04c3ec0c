"""What was decided about a run, what was seen to decide it, and what may be done about it."""

from enum import StrEnum

from msgspec import Struct

from fleet.model.probe import Broken, Loop
from fleet.model.usage import Usage


class Health(StrEnum):
    """A closed set of words for how a run is. Each verdict carries exactly one."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SLOW = "slow"
    STALLED = "stalled"
    AT_RISK = "at_risk"
    ORPHANED = "orphaned"
    FAILED = "failed"
    VANISHED = "vanished"
    INTERRUPTED = "interrupted"
    PREEMPTED = "preempted"
    FINISHED = "finished"
    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


TERMINAL = frozenset(
    {Health.FINISHED, Health.FAILED, Health.STOPPED, Health.SUPERSEDED, Health.LOST, Health.VANISHED}
    | {Health.INTERRUPTED, Health.PREEMPTED}
)


class Severity(StrEnum):
    """`quiet` needs nobody, `note` may wait for the morning, `page` needs somebody now."""

    QUIET = "quiet"
    NOTE = "note"
    PAGE = "page"


class Evidence(Struct, frozen=True):
    """One thing that was seen. `observed_at` is host time, epoch seconds. `says` holds no text of the box."""

    source: str
    observed_at: float
    says: str


class Progress(Struct, frozen=True):
    """How far the run says it is. None where it did not say.

    `index` of `total` `unit`s; `loss` and the like as the log printed them in `values`.
    `last_step_at` is box time, epoch seconds, of the newest advance; `usual_step_s` is learnt, or what a bar
    inside of the step says. `eta_s` is its own word at `last_step_at`. `part` of the step in work is done, 0
    to 1, where a bar inside of it says so.
    """

    index: int | None = None
    total: int | None = None
    unit: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    last_step_at: float | None = None
    usual_step_s: float | None = None
    eta_s: float | None = None
    part: float | None = None


class Verdict(Struct, frozen=True):
    """One run's health as one row of the table decided it.

    `summary` is the sentence a person reads, free of the box's text. `facts_at` is host time of the
    facts judged, None when there never were any. `since` is host time since when this health holds.
    `next` are commands to type, first one first. `last_line` and
    `last_lines` (the newest whole ones, oldest first) are the box's text, untrusted. `strict_kex` is the
    look's (see Reachable), None where the box did not answer or the link did not tell. `loops` are the run's
    living loops, whose words are untrusted. `broken` is the loop that was broken off and took its stage
    along: the run's end record says `failed` then. `usage` is the newest watched stage, also of an
    earlier attempt. `budget` is how many starts the box allows in all, None where it was not read.
    """

    run_id: str
    run: str
    box: str
    row: str
    health: Health
    severity: Severity
    exit_code: int
    summary: str
    since: float
    facts_at: float | None
    attempt: int | None
    evidence: tuple[Evidence, ...]
    next: tuple[str, ...]
    progress: Progress | None = None
    last_line: str | None = None
    last_lines: tuple[str, ...] = ()
    strict_kex: bool | None = None
    loops: tuple[Loop, ...] = ()
    broken: Broken | None = None
    usage: Usage | None = None
    budget: int | None = None
