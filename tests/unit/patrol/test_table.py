import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from unit.patrol.build import (
    BOOT,
    BOX_NOW,
    CHAIN_PID,
    FREE,
    GONE,
    MISSING,
    NOW,
    alive,
    artifact,
    attempt,
    away,
    box,
    broken,
    case,
    disk,
    end,
    facts,
    known,
    log,
    marker,
    probe,
    run,
)

from fleet.errors import EXIT_CODES, TICK_PRECEDENCE
from fleet.model.probe import Alive, Cause, Locks, Loop, Stopping
from fleet.model.usage import Usage, UsageEnd
from fleet.model.verdict import Health, Severity
from patrol.decide import decide, first_match
from patrol.history import History
from patrol.report import document, lines
from patrol.table import TABLE

OLD = 4000.0  # seconds: longer than the default stall time
BEAT = b"[HEARTBEAT 10:00:01]\n"
SILENT = {"attempt": known(attempt(ago_s=9000)), "log": log(ago_s=OLD)}
BEATING = History(
    attempt=1, log_id="1:2", log_offset=100, log_size=100, advanced_at=BOX_NOW - OLD, advanced_by="log"
)
BEATS = log(BEAT * 9, ago_s=20, start=100)
SEEN = History(attempt=1, facts_at=NOW - 1860, seen_as="running")
RISING = Usage(
    "02-train",
    1,
    BOX_NOW - 5,
    memory_bytes=31,
    cgroup_bytes=31,
    limit_bytes=32,
    peak_bytes=31,
    rising_since=BOX_NOW - 600,
)
OOM = replace(RISING, end=UsageEnd(None, 9, "oom", oom_scope="cgroup"))
FAILED = {**GONE, "end": known(end("failed", stage="02-train", rc=3, why="exit"))}


def failed(why="exit", rc=3, signal=None, **more):
    return {**GONE, "end": known(end("failed", stage="02-train", rc=rc, signal=signal, why=why)), **more}


def seen(**changed):
    return {"seen": probe(facts(**changed))}


# Row -> a case that reaches it, and a neighbour that it must let pass, with the row that takes the neighbour.
CASES = {
    "R-AUTH-1": ({"seen": away(Cause.AUTH)}, {"seen": away(Cause.THROTTLED)}, "R-LINK-3"),
    "R-HOSTKEY-1": ({"seen": away(Cause.HOSTKEY_UNKNOWN)}, {"seen": away(Cause.AUTH)}, "R-AUTH-1"),
    "R-HOSTKEY-2": ({"seen": away(Cause.HOSTKEY_CHANGED)}, {"seen": away(Cause.HOSTKEY_UNKNOWN)}, "R-HOSTKEY-1"),
    "R-MOVED-1": ({"seen": away(Cause.MOVED)}, {"seen": away(Cause.HOSTKEY_CHANGED)}, "R-HOSTKEY-2"),
    "R-WAY-1": ({"seen": away(Cause.WAY_HOSTKEY)}, {"seen": away(Cause.WAY)}, "R-LINK-3"),
    "R-LINK-1": ({"seen": away(Cause.REFUSED)}, {"seen": away(Cause.NO_ROUTE)}, "R-LINK-3"),
    "R-LINK-2": ({"seen": away(Cause.TIMEOUT_BANNER)}, {"seen": away(Cause.TIMEOUT_CONNECT)}, "R-LINK-3"),
    "R-PROBE-1": ({"seen": away(Cause.UNREADABLE)}, {"seen": away(Cause.TIMEOUT_COMMAND)}, "R-LINK-3"),
    "R-LINK-3": ({"seen": away(Cause.CUT)}, {"seen": away(Cause.PROTOCOL)}, "R-LINK-2"),
    "R-LOST-1": (
        {"seen": probe(facts(), box(box_id=known("c" * 32)))},
        {"seen": probe(facts(), box(box_id=MISSING))},
        "R-RUN-1",
    ),
    "R-LOST-2": (
        {"seen": probe(facts(exists=known(False), attempt=MISSING, end=MISSING))},
        seen(exists=MISSING, attempt=MISSING, end=MISSING),
        "R-RECORD-1",
    ),
    "R-QUEUE-1": (
        {"of_run": run(armed_ago_s=30), **seen(attempt=known(None), **GONE)},
        {"of_run": run(armed_ago_s=601), **seen(attempt=known(None), **GONE)},
        "R-QUEUE-2",
    ),
    "R-QUEUE-2": (
        {"of_run": run(launched=False, armed_ago_s=700), **seen(exists=known(False), attempt=MISSING, end=MISSING)},
        {"of_run": run(armed_ago_s=700), **seen(attempt=known(None))},
        "R-RUN-1",
    ),
    "R-RECORD-1": (seen(attempt=MISSING), seen(), "R-RUN-1"),
    "R-RECORD-2": (
        seen(end=known(end("done", number=2)), **GONE),
        seen(end=known(end("done", number=1)), **GONE),
        "R-FINISH-1",
    ),
    "R-BREAK-1": (
        seen(**failed(rc=88), broken=known((broken(),))),
        # An exit status alone is no wish of anybody.
        seen(**failed(rc=88), broken=known(())),
        "R-FAIL-1",
    ),
    "R-OOM-1": (
        seen(**failed("signal", rc=137, signal=9, usage=known(OOM))),
        # Another stage's end says nothing of this one.
        seen(**failed("signal", rc=137, signal=9, usage=known(replace(OOM, stage="01-prepare")))),
        "R-FAIL-2",
    ),
    "R-MEM-1": (seen(usage=known(RISING)), seen(usage=known(replace(RISING, rising_since=None))), "R-RUN-1"),
    "R-FAIL-2": (seen(**failed("signal", rc=137, signal=9)), seen(**failed("exit", rc=137)), "R-FAIL-1"),
    "R-FAIL-3": (seen(**failed("leftovers", rc=0)), seen(**failed("exit")), "R-FAIL-1"),
    "R-FAIL-4": (seen(**failed("disk", rc=None)), seen(**failed("leftovers")), "R-FAIL-3"),
    "R-FAIL-1": (seen(**failed()), seen(end=known(end("failed", number=1, why="exit")), attempt=known(attempt(2))), "R-RUN-1"),
    "R-SCAN-1": (seen(locks=FREE, alive=MISSING), seen(alive=MISSING), "R-RUN-1"),
    "R-FINISH-3": (
        seen(end=known(end(ago_s=1)), alive=known((Alive(4200, "lock", "sh"),))),
        # The same a while later, when a start that found the run over has long left.
        seen(end=known(end(ago_s=300)), locks=FREE, alive=known((Alive(4200, "lock", "sh"),))),
        "R-FINISH-2",
    ),
    "R-FINISH-2": (
        seen(end=known(end()), locks=FREE, alive=alive(4200)),
        # The chain itself, which wrote its record a moment ago and is just leaving.
        seen(end=known(end(ago_s=1)), alive=alive(CHAIN_PID)),
        "R-FINISH-1",
    ),
    "R-FINISH-1": (seen(end=known(end()), **GONE), seen(end=known(end()), locks=FREE, alive=MISSING), "R-SCAN-1"),
    "R-STOP-2": (
        seen(locks=FREE, alive=alive(4200), stopping=known(Stopping(1, BOX_NOW - 90))),
        # The chain lives: the stop may still be under way, and whether it advances is what matters.
        seen(stopping=known(Stopping(1, BOX_NOW - 90))),
        "R-RUN-1",
    ),
    "R-ORPHAN-1": (seen(locks=FREE, alive=alive(4200)), seen(locks=FREE, alive=alive(4200, CHAIN_PID)), "R-RUN-1"),
    "R-STOP-1": (
        seen(end=known(end("stopped", why="stopped")), **GONE),
        seen(end=known(end("stopped", why="stopped")), locks=FREE, alive=alive(4200)),
        "R-ORPHAN-1",
    ),
    "R-BLIND-1": (
        seen(**{**SILENT, "log": MISSING}),
        seen(**{**SILENT, "log": MISSING}, markers=known((marker(ago_s=100),))),
        "R-RUN-1",
    ),
    "R-STALL-2": (
        {"history": BEATING, **seen(attempt=known(attempt(ago_s=9000)), log=BEATS)},
        {"history": BEATING, **seen(attempt=known(attempt(ago_s=9000)), log=log(b"step 4\n", ago_s=20, start=100))},
        "R-RUN-1",
    ),
    "R-STALL-1": (seen(**SILENT), {"of_run": run(artifacts=("*.pt",)), **seen(**SILENT, artifacts=known((artifact(ago_s=60),)))}, "R-RUN-1"),
    "R-DISK-1": (
        {"seen": probe(facts(), box(disks=known((disk(40.0, 96.0),))))},
        {"seen": probe(facts(), box(disks=known((disk(94.9, None),))))},
        "R-RUN-1",
    ),
    "R-START-1": (seen(attempt=known(attempt(ago_s=100)), log=log(b"")), seen(attempt=known(attempt(ago_s=130)), log=log(b"")), "R-RUN-1"),
    "R-RUN-1": (seen(), seen(**SILENT), "R-STALL-1"),
    "R-STOP-3": (
        seen(**GONE, stopping=known(Stopping(1, BOX_NOW - 90))),
        # The wish was for the attempt before this one.
        seen(**GONE, attempt=known(attempt(2)), stopping=known(Stopping(1, BOX_NOW - 9000))),
        "R-VANISH-1",
    ),
    "R-INTERRUPT-1": (seen(**GONE, attempt=known(attempt(boot="99999999"))), seen(**GONE), "R-VANISH-1"),
    "R-VANISH-1": (seen(**GONE), seen(locks=known(Locks(chain_held=False, stage_held=True)), alive=alive()), "R-ORPHAN-1"),
}  # fmt: skip


def test_every_row_but_the_last_has_a_case_and_a_neighbour():
    assert [row.id for row in TABLE if row.id not in CASES] == ["R-UNKNOWN-9"]
    assert set(CASES) <= {row.id for row in TABLE}


@pytest.mark.parametrize("row", CASES)
def test_each_row_is_reached(row):  # R34 R28 R87 R88
    reached, _, _ = CASES[row]
    assert first_match(case(**reached)).id == row


@pytest.mark.parametrize("row", CASES)
def test_a_neighbour_is_not_taken(row):
    _, neighbour, taken_by = CASES[row]
    assert first_match(case(**neighbour)).id == taken_by != row


def test_the_last_row_takes_what_no_other_row_knows():
    # No attempt, no folder missing, and the chain is just leaving: nothing that a real chain writes.
    odd = case(seen=probe(facts(end=known(end("paused")), **GONE)))
    assert first_match(odd).id == "R-UNKNOWN-9" == TABLE[-1].id


def test_rows_have_ids_of_their_own_exit_codes_that_exist_and_sentences_without_holes():
    ids = [row.id for row in TABLE]
    assert len(set(ids)) == len(ids)
    for row in TABLE:
        assert re.fullmatch(r"R-[A-Z]+-\d", row.id)
        assert row.exit_code in EXIT_CODES
        assert row.exit_code in TICK_PRECEDENCE
        assert row.because.endswith(".")
        assert "{" not in row.because
        assert row.next, row.id
        assert (row.severity is Severity.PAGE) or row.exit_code in {0, 11, 12}, row.id


@pytest.mark.parametrize("row", CASES)
def test_every_verdict_has_a_sentence_a_command_and_no_hole(row):
    reached = case(**CASES[row][0])
    verdict = decide(reached.run, reached.probe, reached.history, NOW)
    assert verdict.row == row
    assert verdict.summary
    assert verdict.evidence
    for text in (verdict.summary, *verdict.next, *(seen.says for seen in verdict.evidence)):
        assert text.strip() == text != ""
        assert "None" not in text
        assert "{" not in text
    assert all(
        re.match(r"(babysit (patrol|logs|stop|resume|trust|arm|usage|handbook|disarm)|ssh) ?", command)
        for command in verdict.next
    )


def test_what_is_proposed_leads_out_of_where_it_is_proposed():
    """A start of what never came to the box, and one more look at what is lost, lead nowhere."""
    proposed = {
        row: decide(reached.run, reached.probe, reached.history, NOW).next
        for row in ("R-QUEUE-2", "R-LOST-1", "R-LOST-2")
        for reached in [case(**CASES[row][0])]
    }
    assert proposed["R-QUEUE-2"] == ("babysit arm gpu1 train",)
    there = case(run(armed_ago_s=700), probe(facts(attempt=known(None), **GONE)))
    assert decide(there.run, there.probe, there.history, NOW).next == ("babysit resume gpu1 train --yes",)
    for row in ("R-LOST-1", "R-LOST-2"):
        assert proposed[row] == ("babysit handbook gpu1 train", "babysit disarm gpu1 train")


@pytest.mark.parametrize(
    ("changed", "row"),
    [
        ({"locks": FREE, "alive": alive(4200)}, "R-ORPHAN-1"),
        (GONE, "R-VANISH-1"),
        ({**GONE, "end": known(end("stopped", why="stopped"))}, "R-STOP-1"),
        ({**GONE, "end": known(end())}, "R-FINISH-1"),
    ],
)
def test_a_wish_to_stop_counts_only_when_it_was_read_and_nothing_has_ended_the_attempt(changed, row):
    wish = {} if row in {"R-ORPHAN-1", "R-VANISH-1"} else {"stopping": known(Stopping(1, BOX_NOW - 90))}
    assert first_match(case(**seen(**changed, **wish))).id == row
    unread = {**changed, "stopping": MISSING}
    assert first_match(case(**seen(**unread))).id == row


def test_a_run_that_is_asked_to_stop_and_still_runs_says_so():
    asked = case(**seen(stopping=known(Stopping(1, BOX_NOW - 90))))
    verdict = decide(asked.run, asked.probe, asked.history, NOW)
    assert verdict.row == "R-RUN-1" and "stop was asked 1 min ago" in verdict.summary


@pytest.mark.parametrize(
    ("still", "ago_s", "row", "eta"), [({}, 5, "R-RUN-1", True), (SILENT, 2400, "R-STALL-1", False)]
)
def test_a_paused_loop_is_named_with_the_command_that_lets_it_go_on_and_has_no_eta(still, ago_s, row, eta):
    def told(*, paused, tag="train-k3f9-0/01-train"):
        loop = Loop(71, "x", tag, None, 34, 100, 66.0, BOX_NOW - ago_s, paused)
        asked = case(**seen(**still, loops=known((loop,))))
        verdict = decide(asked.run, asked.probe, asked.history, NOW)
        assert verdict.row == row
        return verdict

    assert "its loop is paused" in told(paused=True).summary and "ETA" not in told(paused=True).summary
    assert told(paused=True).next[0] == "babysit ipc gpu1 resume --run train"
    assert told(paused=True, tag=None).next[0] == "babysit ipc gpu1 resume 71"
    assert "paused" not in told(paused=False).summary and ("ETA" in told(paused=False).summary) is eta
    assert not any("resume" in command for command in told(paused=False).next)


@pytest.mark.parametrize(
    ("first_seen", "now", "says"),
    [
        ("a" * 32, known("a" * 32), "the box rebooted"),
        ("a" * 32, known("b" * 32), "its files are on another machine now"),
        ("a" * 32, MISSING, "the box rebooted"),
        (None, known("b" * 32), "the box rebooted"),
    ],
)
def test_a_home_that_moved_to_another_machine_is_no_reboot(first_seen, now, says):
    gone = facts(**GONE, attempt=known(attempt(boot="99999999")))
    found = case(seen=probe(gone, box(machine_id=now)), history=History(attempt=1, machine_id=first_seen))
    verdict = decide(found.run, found.probe, found.history, NOW)
    assert verdict.row == "R-INTERRUPT-1" and verdict.summary.startswith(says)


@pytest.mark.parametrize(
    ("init", "boot", "row", "says"),
    [
        (known(78), BOOT, "R-INTERRUPT-1", "its container was started anew"),
        (known(77), BOOT, "R-VANISH-1", "its chain is gone"),
        (MISSING, BOOT, "R-VANISH-1", "its chain is gone"),  # a box that hides other users' processes
        (known(78), "99999999", "R-INTERRUPT-1", "the box rebooted"),
    ],
)
def test_a_first_process_younger_than_the_attempt_is_a_container_started_anew(init, boot, row, says):  # R53
    gone = facts(**GONE, attempt=known(attempt(boot=boot)))
    found = case(seen=probe(gone, box(init_born=init)))
    verdict = decide(found.run, found.probe, found.history, NOW)
    assert verdict.row == row and verdict.summary.startswith(says)
    assert ("first process" in {seen.source for seen in verdict.evidence}) is ("container" in says)
    assert judged_alive(init) == "R-RUN-1"  # whoever lives was not started anew


def judged_alive(init):
    found = case(seen=probe(box_facts=box(init_born=init)))
    return decide(found.run, found.probe, found.history, NOW).row


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        ((broken("01-prepare"),), failed(rc=88)),
        ((broken("01-prepare"),), failed(rc=1)),
        ((broken(ago_s=290),), failed(rc=88)),  # after the stage's own end
        ((broken(began_s=3700),), failed(rc=88)),  # of an attempt before this one, in its last second
        ((broken(began_s=3700),), failed(rc=1)),
        ((broken(),), failed(rc=88) | {"alive": alive(4200), "locks": FREE}),
        ((broken(),), failed(rc=1) | {"alive": alive(4200), "locks": FREE}),
        ((broken(ago_s=430),), failed(rc=1)),  # the script went on, and crashed later
        ((broken(exit_code=1, ago_s=430),), failed(rc=1)),  # any exception leaves with 1
        ((broken(exit_code=87, ago_s=430),), failed(rc=88)),
        ((broken(last=False),), failed(rc=1)),  # it went on to another loop
        ((broken(last=False, ago_s=302), broken(ago_s=430)), failed(rc=1)),
        ((broken(),), failed(rc=127)),
        ((broken(),), failed(rc=137)),
        ((broken(exit_code=0),), failed(rc=None)),
    ],
)
def test_a_status_that_no_loop_explains_or_with_something_left_alive_stays_a_failure(found, ended):
    assert first_match(case(**seen(**ended, broken=known(found)))).id == "R-FAIL-1"
    unread = seen(**failed(rc=88), broken=MISSING)
    assert first_match(case(**unread)).id == "R-FAIL-1"


@pytest.mark.parametrize(
    ("found", "rc"),
    [
        ((broken(),), 1),
        ((broken(exit_code=87),), 88),
        ((broken(exit_code=1),), 1),
        ((broken(ago_s=400),), 1),  # ranks that were given time to end
        ((broken(ago_s=3000, last=False), broken(ago_s=302)), 1),  # of two, the one at the end
        ((broken(ago_s=3000, last=False),), 88),  # its own status speaks for itself
    ],
)
def test_a_launcher_that_makes_another_status_of_a_break_has_made_no_failure_of_it(found, rc):  # R34
    asked = case(**seen(**failed(rc=rc), broken=known(found)))
    verdict = decide(asked.run, asked.probe, asked.history, NOW)
    assert (verdict.row, verdict.severity) == ("R-BREAK-1", Severity.NOTE)
    own = found[-1].exit_code
    assert (f", whose launcher made {rc} of {own} · " in verdict.summary) == (rc != own)
    # Whatever a box writes there: what is proposed is what a failure would propose.
    failure = case(**seen(**failed(rc=rc), broken=known(())))
    assert set(verdict.next) == set(decide(failure.run, failure.probe, failure.history, NOW).next)


def test_a_kill_for_memory_explains_a_launchers_status_better_than_a_break():  # R34
    for rc, row in ((1, "R-OOM-1"), (88, "R-BREAK-1")):
        found = seen(**failed(rc=rc), broken=known((broken(),)), usage=known(OOM))
        assert first_match(case(**found)).id == row


SNAPSHOT = "loopmonitor_break_71_20270115T075459Z.json"


@pytest.mark.parametrize(
    ("cwd", "saved", "says"),
    [
        ("/w", f"/w/{SNAPSHOT}", f"snapshot {SNAPSHOT} in its working folder · "),
        ("/w", f"/tmp/\x1b[2J/{SNAPSHOT}", f"snapshot {SNAPSHOT} · "),
        (None, "/w/next: babysit stop all", "a snapshot was saved · "),
        ("/w", None, ""),
    ],
)
def test_what_its_owner_broke_off_is_no_failure_and_its_meter_runs(cwd, saved, says):  # R34 S25
    asked = case(run(cwd=cwd), **seen(**failed(rc=88), broken=known((broken(saved=saved),))))
    verdict = decide(asked.run, asked.probe, asked.history, NOW)
    assert (verdict.health, verdict.severity, verdict.exit_code) == (Health.STOPPED, Severity.NOTE, 0)
    where = "stopped on request by break after iteration 3421 of stage train"
    assert verdict.summary == f"{where} · {says}ended 5 min ago · the box is up and its meter runs"
    assert verdict.next[0] == "babysit resume gpu1 train --yes" and verdict.broken.saved == saved
    assert any(seen.source == "loop's end" and "status 88" in seen.says for seen in verdict.evidence)
    shown = "\n".join(lines([verdict], NOW))
    assert "\x1b" not in shown and max(map(len, shown.splitlines())) <= 80
    assert ('snapshot  "' in shown) == (saved is not None)
    told = document([verdict], at=NOW, cursor=None, exit_code=0)["runs"][0]["broken_off"]
    assert told["iteration"] == 3421 and (told["untrusted_saved"] is None) == (saved is None)


def test_the_table_is_the_only_judge():
    # Health is decided in one place: nobody else in the patrol builds a Verdict.
    builders = [
        path.name
        for path in Path(__import__("patrol").__path__[0]).rglob("*.py")
        if " Verdict(" in path.read_text()
    ]
    assert builders == ["decide.py"]
