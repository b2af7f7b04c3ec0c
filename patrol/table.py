"""The decision table: an ordered tuple of rows; the first that matches decides, the last matches all. Pure.

A row never guesses: what was not read is `unknown` or said. Records are believed before locks, locks before
processes, and only a record with the run's own nonce makes a run finished.
"""

from collections.abc import Callable

from msgspec import Struct

from fleet.model.probe import Cause
from fleet.model.verdict import Health, Severity
from patrol.case import Case
from patrol.usage import filling, killed_for_memory

_QUEUE_PATIENCE_S = 600.0
_CONSOLE = "only you can see the console: balance, power, preemption"


class Row(Struct, frozen=True):
    """One line of the table. `because` is the condition in a sentence; `when` is the condition.

    `says` are pieces of one sentence, `next` commands; both are format strings over `patrol.says.Words`
    as `c`, and a piece that comes out empty is left out.
    """

    id: str
    when: Callable[[Case], bool]
    health: Health
    severity: Severity
    exit_code: int
    because: str
    says: tuple[str, ...]
    next: tuple[str, ...]


def _away(*causes: Cause) -> Callable[[Case], bool]:
    return lambda case: case.away is not None and case.away.cause in causes


def _ended(state: str, *why: str) -> Callable[[Case], bool]:
    return lambda case: case.end is not None and case.end.state == state and (not why or case.end.why in why)


def _broken_off(case: Case) -> bool:
    """Nothing lives, and a loop that was broken off explains the failure better than a kill for memory."""
    if not _ended("failed", "exit")(case) or case.end is None or case.broken_off is None:
        return False
    told = case.broken_off.exit_code == case.end.rc
    return not case.something_lives and (told or not killed_for_memory(case))


def _never_started(case: Case) -> bool:
    """Not on the box yet, or there without an attempt; and nothing lives."""
    if case.folder_absent:
        return True
    return (
        case.records_read and case.attempt is None and case.liveness_read and not case.something_lives
    ) and not case.chain_lives


def _running(case: Case) -> bool:
    return case.chain_lives and case.end is None


def _gone(case: Case) -> bool:
    return case.attempt is not None and case.end is None and not case.chain_lives and not case.something_lives


TABLE: tuple[Row, ...] = (
    Row(
        "R-AUTH-1",
        _away(Cause.AUTH),
        Health.UNREACHABLE,
        Severity.PAGE,
        4,
        "The box refused our key.",
        ("{c.cause}", "{c.last_seen}"),
        ("ssh -v {c.ssh} true",),
    ),
    Row(
        "R-HOSTKEY-1",
        _away(Cause.HOSTKEY_UNKNOWN),
        Health.UNREACHABLE,
        Severity.PAGE,
        4,
        "The box shows a host key that nobody has confirmed yet; nothing was sent.",
        ("{c.cause}", "nothing was sent", "{c.last_seen}"),
        ("{c.trust}",),
    ),
    Row(
        "R-HOSTKEY-2",
        _away(Cause.HOSTKEY_CHANGED),
        Health.UNREACHABLE,
        Severity.PAGE,
        4,
        "The box shows another host key than the pinned one; nothing was sent.",
        (
            "{c.cause}",
            "nothing was sent; rented addresses are reused: this may be another machine",
            "{c.keys}",
            "{c.last_seen}",
        ),
        ("{c.trust}",),
    ),
    Row(
        "R-MOVED-1",
        _away(Cause.MOVED),
        Health.UNREACHABLE,
        Severity.PAGE,
        4,
        "The box shows its pinned key at an address that nobody has confirmed yet; nothing was asked.",
        ("{c.cause}", "nothing was asked; images share keys: this may be another machine", "{c.last_seen}"),
        ("{c.trust}",),
    ),
    Row(
        "R-WAY-1",
        _away(Cause.WAY_AUTH, Cause.WAY_HOSTKEY),
        Health.UNREACHABLE,
        Severity.PAGE,
        4,
        "A jump host on the way refused our key, or shows a host key that is unknown or changed.",
        ("{c.cause}", "nothing was sent to the box", "{c.last_seen}"),
        ("ssh {c.ssh}",),
    ),
    Row(
        "R-LINK-1",
        _away(Cause.REFUSED),
        Health.UNREACHABLE,
        Severity.NOTE,
        11,
        "The address answers, but nothing listens on the port.",
        ("{c.ticks}", "{c.cause}", "{c.last_seen}", _CONSOLE),
        ("babysit patrol --once",),
    ),
    Row(
        "R-LINK-2",
        _away(Cause.TIMEOUT_BANNER, Cause.PROTOCOL),
        Health.UNREACHABLE,
        Severity.NOTE,
        11,
        "The port is open, but no SSH answers on it.",
        ("{c.ticks}", "{c.cause}", "{c.last_seen}", _CONSOLE),
        ("babysit patrol --once",),
    ),
    Row(
        "R-PROBE-1",
        _away(Cause.UNREADABLE),
        Health.UNKNOWN,
        Severity.NOTE,
        12,
        "The box answered, but not in our frame, or damaged; nothing is claimed from it.",
        ("{c.ticks}", "{c.cause}, so nothing is claimed", "{c.last_seen}"),
        ("ssh {c.ssh} true", "babysit patrol --once"),
    ),
    Row(
        "R-LINK-3",
        lambda case: case.away is not None,
        Health.UNREACHABLE,
        Severity.NOTE,
        11,
        "The box did not answer for any other reason.",
        ("{c.ticks}", "{c.cause}", "{c.last_seen}", _CONSOLE),
        ("babysit patrol --once",),
    ),
    Row(
        "R-LOST-1",
        lambda case: case.other_box,
        Health.LOST,
        Severity.PAGE,
        10,
        "The box carries another id than the one that this run was armed on.",
        (
            "another box answers here: its id is not the one this run was armed on",
            "it may have been recycled",
        ),
        ("babysit handbook {c.box} {c.run}", "babysit disarm {c.box} {c.run}"),
    ),
    Row(
        "R-LOST-2",
        lambda case: case.folder_gone,
        Health.LOST,
        Severity.PAGE,
        10,
        "The run's folder was on the box and is no longer there.",
        ("the run's folder is gone from the box, and its records with it", "its home may have been wiped"),
        ("babysit handbook {c.box} {c.run}", "babysit disarm {c.box} {c.run}"),
    ),
    Row(
        "R-QUEUE-1",
        lambda case: _never_started(case) and case.armed_s < _QUEUE_PATIENCE_S,
        Health.QUEUED,
        Severity.NOTE,
        0,
        "The run was armed in the last ten minutes and has not started yet.",
        ("armed {c.armed}, not started yet",),
        ("babysit resume {c.box} {c.run}",),
    ),
    Row(
        "R-QUEUE-2",
        _never_started,
        Health.QUEUED,
        Severity.PAGE,
        10,
        "The run was armed more than ten minutes ago and never started.",
        ("armed {c.armed}, and never started",),
        ("{c.begin}",),
    ),
    Row(
        "R-RECORD-1",
        lambda case: not case.records_read,
        Health.UNKNOWN,
        Severity.PAGE,
        12,
        "The attempt or end record cannot be read, or carries another run's nonce.",
        ("its records cannot be read or are not to be believed, so nothing is claimed",),
        ("babysit logs {c.box} {c.run}", "babysit patrol --once"),
    ),
    Row(
        "R-RECORD-2",
        lambda case: case.records_went_back,
        Health.UNKNOWN,
        Severity.PAGE,
        12,
        "The end record belongs to a later attempt than the attempt record.",
        ("its records went back: the end record is newer than the attempt record",),
        ("babysit logs {c.box} {c.run}", "babysit patrol --once"),
    ),
    Row(
        "R-BREAK-1",
        _broken_off,
        Health.STOPPED,
        Severity.NOTE,
        0,
        "The end record says failed, but a loop broken off on request left with that status or just before.",
        ("{c.broken}", "{c.snapshot}", "{c.ended}", "the box is up and its meter runs"),
        ("babysit resume {c.box} {c.run} --yes", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-OOM-1",
        killed_for_memory,
        Health.FAILED,
        Severity.PAGE,
        20,
        "The end record says failed, and who watched the stage saw the kernel kill for memory as it ended.",
        ("{c.oom_killed}", "{c.after}", "{c.ended}", "{c.alive_too}"),
        (
            "babysit usage {c.box} {c.run}",
            "babysit logs {c.box} {c.run}",
            "babysit resume {c.box} {c.run} --yes",
        ),
    ),
    Row(
        "R-FAIL-2",
        lambda case: _ended("failed")(case) and case.end is not None and case.end.signal is not None,
        Health.FAILED,
        Severity.PAGE,
        20,
        "The end record says failed, and the stage was ended by a signal.",
        (
            "stage {c.stage} was ended by {c.signal}",
            "{c.oom}",
            "{c.peak}",
            "{c.after}",
            "{c.ended}",
            "{c.alive_too}",
        ),
        ("babysit logs {c.box} {c.run}", "babysit resume {c.box} {c.run} --yes"),
    ),
    Row(
        "R-FAIL-3",
        _ended("failed", "leftovers"),
        Health.FAILED,
        Severity.PAGE,
        20,
        "The end record says failed: the stage returned 0, but left processes behind.",
        ("stage {c.stage} returned, but left {c.left} behind", "{c.ended}", "{c.alive_too}"),
        ("babysit stop {c.box} {c.run}", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-FAIL-4",
        _ended("failed", "cannot-stamp", "marker-target", "disk", "cwd"),
        Health.FAILED,
        Severity.PAGE,
        20,
        "The end record says failed: the box could not carry on (records, disk, working folder).",
        ("stage {c.stage}: {c.why}", "{c.full}", "{c.ended}", "{c.alive_too}"),
        ("babysit logs {c.box} {c.run}", "babysit resume {c.box} {c.run} --yes"),
    ),
    Row(
        "R-FAIL-1",
        _ended("failed"),
        Health.FAILED,
        Severity.PAGE,
        20,
        "The end record says failed, with the stage's exit status.",
        ("stage {c.stage} ended {c.exit}", "{c.oom}", "{c.peak}", "{c.after}", "{c.ended}", "{c.alive_too}"),
        ("babysit logs {c.box} {c.run}", "babysit resume {c.box} {c.run} --yes"),
    ),
    Row(
        "R-SCAN-1",
        lambda case: not case.liveness_read,
        Health.UNKNOWN,
        Severity.NOTE,
        12,
        "Locks or processes could not be searched, so it is not known what lives.",
        ("what lives of it could not be searched, so nothing is claimed", "{c.attempt}"),
        ("babysit patrol --once",),
    ),
    Row(
        "R-FINISH-3",
        lambda case: _ended("done")(case) and case.just_ended and case.only_passes,
        Health.RUNNING,
        Severity.QUIET,
        0,
        "The end record says done, moments ago; what lives only has the lock open, as a late start has.",
        ("all stages ended well", "{c.alive} is just leaving", "{c.ended}"),
        ("babysit patrol --once",),
    ),
    Row(
        "R-FINISH-2",
        lambda case: _ended("done")(case) and case.something_lives,
        Health.ORPHANED,
        Severity.PAGE,
        10,
        "The end record says done, but something of the run still lives.",
        ("it finished, but {c.alive} still lives", "{c.ended}"),
        ("babysit stop {c.box} {c.run}",),
    ),
    Row(
        "R-FINISH-1",
        _ended("done"),
        Health.FINISHED,
        Severity.NOTE,
        0,
        "The end record says done, and nothing of the run lives.",
        ("all stages ended well", "{c.step}", "{c.values}", "{c.peak}", "{c.took}", "{c.ended}"),
        ("{c.results}", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-STOP-2",
        lambda case: case.stop_asked is not None and not case.chain_lives and case.something_lives,
        Health.ORPHANED,
        Severity.PAGE,
        10,
        "Stop was asked for this attempt and did not finish: its chain is gone, something of it lives.",
        ("{c.stop_asked} and did not finish: its chain is gone, but {c.alive} lives on", "{c.attempt}"),
        ("babysit stop {c.box} {c.run}",),
    ),
    Row(
        "R-ORPHAN-1",
        lambda case: case.something_lives and (not case.chain_lives or case.end is not None),
        Health.ORPHANED,
        Severity.PAGE,
        10,
        "The chain is gone, but something of the run still lives.",
        ("its chain is gone, but {c.alive} lives on", "{c.attempt}"),
        ("babysit stop {c.box} {c.run}",),
    ),
    Row(
        "R-STOP-1",
        _ended("stopped"),
        Health.STOPPED,
        Severity.QUIET,
        0,
        "The end record says stopped, and nothing of the run lives.",
        ("stopped as asked", "{c.after}", "{c.ended}"),
        ("babysit resume {c.box} {c.run} --yes",),
    ),
    Row(
        "R-BLIND-1",
        lambda case: _running(case) and case.silent and not case.progress_read,
        Health.UNKNOWN,
        Severity.NOTE,
        12,
        "The chain lives, nothing new was seen for the stall time, and not all that could show it was read.",
        ("its chain lives, but whether it advances could not be read for {c.silent}", "{c.gpu}"),
        ("babysit logs {c.box} {c.run}",),
    ),
    Row(
        "R-STALL-2",
        lambda case: _running(case) and case.silent and case.breathing,
        Health.STALLED,
        Severity.PAGE,
        10,
        "The chain lives and prints heartbeats, but nothing else is new for the stall time.",
        ("only heartbeats for {c.silent}{c.usual}", "{c.step}", "{c.breath}", "{c.gpu}"),
        ("babysit logs {c.box} {c.run}", "babysit stop {c.box} {c.run}"),
    ),
    Row(
        "R-STALL-1",
        lambda case: _running(case) and case.silent,
        Health.STALLED,
        Severity.PAGE,
        10,
        "The chain lives, but log, artifacts, markers and steps show nothing new for the stall time.",
        ("no new {c.silent_what} for {c.silent}{c.usual}", "{c.held}", "{c.step}", "{c.gpu}", "{c.still}"),
        ("{c.let_go}", "babysit logs {c.box} {c.run}", "babysit stop {c.box} {c.run}"),
    ),
    Row(
        "R-DISK-1",
        lambda case: _running(case) and bool(case.full_disks),
        Health.AT_RISK,
        Severity.PAGE,
        10,
        "The chain lives, but a disk is over its limit in bytes or inodes.",
        ("{c.full}", "{c.step}", "{c.eta}"),
        ("ssh {c.ssh}", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-MEM-1",
        lambda case: _running(case) and filling(case),
        Health.AT_RISK,
        Severity.PAGE,
        10,
        "The chain lives, but its watched stage holds over 90 % of its memory's limit, and still rises.",
        ("{c.filling}", "{c.full_in}", "{c.step}", "{c.eta}"),
        ("babysit usage {c.box} {c.run}", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-START-1",
        lambda case: _running(case) and case.silent_start,
        Health.STARTING,
        Severity.QUIET,
        0,
        "The chain lives, the attempt is younger than the start grace and has said nothing yet.",
        ("{c.attempt}, no output yet",),
        ("babysit logs {c.box} {c.run}",),
    ),
    Row(
        "R-RUN-1",
        _running,
        Health.RUNNING,
        Severity.QUIET,
        0,
        "The chain lives and something new was seen within the stall time.",
        (
            "{c.step}",
            "{c.held}",
            "{c.values}",
            "{c.eta}",
            "{c.state_age}",
            "{c.gpu}",
            "{c.memory}",
            "{c.lifetime}",
            "{c.stop_asked}",
        ),
        ("{c.let_go}", "babysit logs {c.box} {c.run}"),
    ),
    Row(
        "R-STOP-3",
        lambda case: _gone(case) and case.stop_asked is not None,
        Health.INTERRUPTED,
        Severity.PAGE,
        10,
        "Stop was asked for this attempt and did not finish: nothing of it lives, but no record says so.",
        (
            "{c.stop_asked} and did not finish; nothing of it lives",
            "{c.after}",
            "{c.attempt} has no end record",
        ),
        ("babysit stop {c.box} {c.run}",),
    ),
    Row(
        "R-INTERRUPT-1",
        lambda case: _gone(case) and (case.rebooted or case.restarted),
        Health.INTERRUPTED,
        Severity.PAGE,
        10,
        "The box was started anew after this attempt; there is no end record, and nothing lives.",
        ("{c.rebooted}", "{c.after}", "{c.attempt} has no end record"),
        ("babysit resume {c.box} {c.run} --yes",),
    ),
    Row(
        "R-VANISH-1",
        _gone,
        Health.VANISHED,
        Severity.PAGE,
        10,
        "The chain is gone without an end record, the box was not started anew, and nothing lives.",
        ("its chain is gone without an end record", "{c.oom}", "{c.after}", "{c.attempt}"),
        ("babysit logs {c.box} {c.run}", "babysit resume {c.box} {c.run} --yes"),
    ),
    Row(
        "R-UNKNOWN-9",
        lambda case: case is not None,
        Health.UNKNOWN,
        Severity.PAGE,
        12,
        "No other row matches.",
        ("what was seen fits no case we know, so nothing is claimed",),
        ("babysit logs {c.box} {c.run}", "babysit patrol --once"),
    ),
)
