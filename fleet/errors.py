"""Every way in which babysit itself can fail, with its exit code, and the table of all exit codes.

Bad news about a run is a Verdict, never one of these. A message says what failed, on which thing,
observed against expected, and the next command to type.
"""

from typing import ClassVar

from fleet.model.probe import Unreachable

EXIT_CODES: dict[int, str] = {
    0: "fine (also: already so)",
    1: "a bug in babysit",
    2: "usage or spec: what was typed or written cannot be done",
    3: "not found: no such box, run or file",
    4: "auth or host key: the box refused us, or we refused the box",
    5: "needs approval: the budget of starts is used up, or a confirmation is missing",
    10: "needs attention: a run is stalled, orphaned, gone or at risk",
    11: "unreachable: the box did not answer",
    12: "unknown: the answer could not be read, so nothing is claimed",
    20: "a run failed",
    21: "superseded: a newer run or waiter took over",
    22: "refused by the loop",
    23: "died while we waited",
    75: "busy: another of us is at it",
    124: "the wait ran out",
    130: "interrupted (SIGINT)",
    141: "the reader of our output went away (SIGPIPE)",
    143: "terminated (SIGTERM)",
}

# When one tick holds several, the first that applies is its exit code.
TICK_PRECEDENCE = (20, 10, 4, 11, 12, 0)


class BabysitError(Exception):
    """Babysit cannot do its work. `where` is the thing, `next` the commands that help, first one first."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "BS-BUG"
    transient: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", hint: str = "", next: tuple[str, ...] = ()) -> None:  # noqa: A002 - the JSON key users see
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.next = next


class UsageError(BabysitError):
    """What was typed cannot be done as typed."""

    exit_code = 2
    code = "BS-USAGE"


class SpecError(BabysitError):
    """babysit.toml holds mistakes; `problems` has all of them, each with key path and hint."""

    exit_code = 2
    code = "BS-SPEC"

    def __init__(self, what: str, *, where: str = "", problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = problems


class NotFound(BabysitError):
    """No such box, run or file."""

    exit_code = 3
    code = "BS-NOT-FOUND"


class NeedsApproval(BabysitError):
    """It can be done, but a person must say so."""

    exit_code = 5
    code = "BS-APPROVAL"


class Busy(BabysitError):
    """Another babysit is at it now."""

    exit_code = 75
    code = "BS-BUSY"
    transient = True


class StillAlive(BabysitError):
    """Something of the run lives, so that nothing may be started."""

    exit_code = 10
    code = "BS-ALIVE"


class BoxRefused(BabysitError):
    """The box cannot carry the run as it is (no lock tool, disk full, locks on a network file system)."""

    exit_code = 2
    code = "BS-BOX"


class ProbeUnreadable(BabysitError):
    """An answer came, but not one that can be read; nothing is claimed from it."""

    exit_code = 12
    code = "BS-PROBE"


class LedgerError(BabysitError):
    """The local ledger cannot be read or written."""

    exit_code = 2
    code = "BS-LEDGER"


class DeliveryError(BabysitError):
    """A notice could not be handed to its receiver."""

    exit_code = 10
    code = "BS-DELIVERY"
    transient = True


class LinkError(BabysitError):
    """The box could not be asked. `away` has the cause, as data."""

    exit_code = 11
    code = "BS-LINK"
    transient = True

    def __init__(self, away: Unreachable, *, where: str, next: tuple[str, ...] = ()) -> None:  # noqa: A002 - the JSON key users see
        super().__init__(away.says, where=where, next=next)
        self.away = away


class LinkTimeout(LinkError):
    """The box, or the way to it, was silent for longer than we wait."""

    code = "BS-LINK-TIMEOUT"


class AuthRefused(LinkError):
    """The box refused our key."""

    exit_code = 4
    code = "BS-AUTH"
    transient = False


class HostKeyUnknown(LinkError):
    """The box showed a key that nobody has confirmed yet. Nothing was sent."""

    exit_code = 4
    code = "BS-HOSTKEY-UNKNOWN"
    transient = False


class HostKeyChanged(LinkError):
    """The box showed another key than the one pinned for it. Nothing was sent."""

    exit_code = 4
    code = "BS-HOSTKEY-CHANGED"
    transient = False
