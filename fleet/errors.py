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
    """Babysit cannot do its work. `where` is the thing, `next` the commands that help, first one first.

    `remedy` is what helps against every error of its kind; `next` knows the thing and is more exact.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "BS-BUG"
    transient: ClassVar[bool] = False
    remedy: ClassVar[str] = "run the command again; if it fails again, report it with what it printed"
    # Whether `what` and `hint` may repeat words of the box: documents then show them as untrusted.
    quotes_box: bool = False

    def __init__(self, what: str, *, where: str = "", hint: str = "", next: tuple[str, ...] = ()) -> None:  # noqa: A002 - the JSON key users see
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.next = next
        # Lines that a box wrote, to be shown as such and never as ours.
        self.untrusted: tuple[str, ...] = ()


class UsageError(BabysitError):
    """What was typed cannot be done as typed."""

    exit_code = 2
    code = "BS-USAGE"
    remedy = "mend what was typed: the message names it, babysit VERB --help shows what fits"


class SpecError(BabysitError):
    """babysit.toml holds mistakes; `problems` has all of them, each with key path and hint."""

    exit_code = 2
    code = "BS-SPEC"
    remedy = "mend babysit.toml: every mistake is listed with its key"

    def __init__(self, what: str, *, where: str = "", problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = problems


class NotFound(BabysitError):
    """No such box, run or file."""

    exit_code = 3
    code = "BS-NOT-FOUND"
    remedy = "check the name against babysit status; the nearest one is named"


class NeedsApproval(BabysitError):
    """It can be done, but a person must say so."""

    exit_code = 5
    code = "BS-APPROVAL"
    remedy = "look at the run first, then give the yes that the message names"


class Busy(BabysitError):
    """Another babysit is at it now."""

    exit_code = 75
    code = "BS-BUSY"
    transient = True
    remedy = "wait for it to end, or end the process whose pid is named"


class StillAlive(BabysitError):
    """Something of the run lives, so that nothing may be started."""

    exit_code = 10
    code = "BS-ALIVE"
    remedy = "babysit stop RUN ends what lives; or leave it to finish"


class Superseded(BabysitError):
    """What was armed from here has lost its name to a newer run."""

    exit_code = 21
    code = "BS-SUPERSEDED"
    remedy = "see what runs under the name now; arm with --again only if yours shall take its place"


class CheckpointFailed(BabysitError):
    """What had to be saved before a stop was not, so nothing was stopped."""

    exit_code = 10
    code = "BS-CHECKPOINT"


class BoxRefused(BabysitError):
    """The box cannot carry the run as it is (no lock tool, disk full, locks on a network file system)."""

    exit_code = 2
    code = "BS-BOX"
    quotes_box = True
    remedy = "give the box what the message names (space, a lock tool, a local lock_dir), then arm again"


class ProbeUnreadable(BabysitError):
    """An answer came, but not one that can be read; nothing is claimed from it."""

    exit_code = 12
    code = "BS-PROBE"
    quotes_box = True
    remedy = "ask again: babysit patrol --once; if it stays, look by hand: ssh BOX true"


class LedgerError(BabysitError):
    """The local ledger cannot be read or written."""

    exit_code = 2
    code = "BS-LEDGER"
    remedy = "mend the file or folder that the message names; the runs do not depend on it"


class LedgerDamaged(LedgerError):
    """The ledger's file is there, but not whole: it can be moved aside and rebuilt."""

    code = "BS-LEDGER-DAMAGED"
    remedy = "babysit check --repair moves it aside and keeps what can be read"


class LedgerNewer(LedgerError):
    """The ledger was written by a newer babysit: it may be read here, not written."""

    code = "BS-LEDGER-NEWER"
    remedy = "install the newer babysit again; until then babysit status reads it"


class LedgerRepaired(LedgerError):
    """The ledger was damaged and rebuilt; something may be missing from it."""

    exit_code = 10
    code = "BS-LEDGER-REPAIRED"


class Unfinished(BabysitError):
    """Something was begun and cut short, and nobody knows yet whether it happened."""

    exit_code = 10
    code = "BS-UNFINISHED"


class MachineShort(BabysitError):
    """This machine has no descriptor, thread, memory or room left for us; that says nothing about any run."""

    exit_code = 2
    code = "BS-MACHINE"
    transient = True
    remedy = "free what the message names (ulimit -a, df -h), then run the same command again"


class DeliveryError(BabysitError):
    """A notice could not be handed to its receiver."""

    exit_code = 10
    code = "BS-DELIVERY"
    transient = True
    remedy = "mend the target's url or its receiver; the notice is tried again"


class LinkError(BabysitError):
    """The box could not be asked. `away` has the cause, as data."""

    exit_code = 11
    code = "BS-LINK"
    transient = True
    remedy = "look at the provider's console, then ask again: babysit patrol --once"

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
    remedy = "see which key is offered: ssh -v BOX true"


class WayRefused(LinkError):
    """A jump host on the way refused our key, or we refused its host key. Nothing was sent to the box."""

    exit_code = 4
    code = "BS-WAY"
    transient = False
    remedy = "try the whole way by hand: ssh -v BOX true"


class BoxMoved(LinkError):
    """The box shows its pinned key at an address that nobody has confirmed yet. Nothing is judged from it."""

    exit_code = 4
    code = "BS-MOVED"
    transient = False
    remedy = "compare the address with the provider's console, then: babysit trust BOX"


class HostKeyUnknown(LinkError):
    """The box showed a key that nobody has confirmed yet. Nothing was sent."""

    exit_code = 4
    code = "BS-HOSTKEY-UNKNOWN"
    transient = False
    remedy = "read the fingerprint at the provider's console, then: babysit trust BOX"


class HostKeyChanged(LinkError):
    """The box showed another key than the one pinned for it. Nothing was sent."""

    exit_code = 4
    code = "BS-HOSTKEY-CHANGED"
    transient = False
    remedy = "ask the provider whether it is the same machine before: babysit trust BOX"
