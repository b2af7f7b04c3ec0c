import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.patrol.anything import probes
from unit.patrol.build import (
    BOX_ID,
    CHAIN_PID,
    FREE,
    GONE,
    MISSING,
    NOW,
    artifact,
    attempt,
    away,
    box,
    disk,
    end,
    facts,
    known,
    log,
    probe,
    run,
)

from fleet.errors import TICK_PRECEDENCE
from fleet.model.probe import Alive, Cause, Gpu, Locks
from fleet.model.reading import Known
from fleet.model.verdict import Health, Severity, Verdict
from patrol.decide import decide, tick_exit
from patrol.history import History, fold
from patrol.report import document, lines
from patrol.table import TABLE


def judged(of_run=None, seen=None, history=None):
    of_run, seen = of_run or run(), seen or probe()
    return decide(of_run, seen, fold(history or History(), of_run, seen, NOW), NOW)


@pytest.mark.parametrize("strict", [True, False, None])
def test_the_verdict_carries_how_the_link_exchanged_its_keys(strict):  # S5
    seen = msgspec.structs.replace(probe(), strict_kex=strict)
    assert judged(seen=seen).strict_kex is strict
    assert judged(seen=away()).strict_kex is None


def test_a_healthy_run_reads_like_a_person_would_say_it():
    verdict = judged(seen=probe(facts(log=log(b"Epoch 37/90 - loss: 0.412\n"))))
    assert verdict.summary == "epoch 37/90 · loss 0.412 · GPU 94 %"
    assert (verdict.health, verdict.exit_code, verdict.attempt) == (Health.RUNNING, 0, 1)


@pytest.mark.parametrize(
    ("changed", "box_changed", "source"),
    [
        ({"log": MISSING, "attempt": known(attempt(ago_s=600))}, {}, "log"),
        ({"markers": MISSING}, {}, "markers"),
        ({"alive": MISSING}, {}, "processes"),
        ({}, {"disks": MISSING}, "disk"),
        ({}, {"memory": MISSING}, "memory"),
        ({}, {"gpus": MISSING}, "gpu"),
        ({}, {"boot_id": MISSING}, "boot id"),
    ],
)
def test_what_was_not_read_is_said_and_never_fine(changed, box_changed, source):  # R56
    verdict = judged(seen=probe(facts(**changed), box(**box_changed)))
    assert verdict.row == "R-RUN-1"
    assert "not read: it could not be read" in {
        seen.says for seen in verdict.evidence if seen.source == source
    }


NOTHING = {"locks": FREE, "alive": known(())}


@pytest.mark.parametrize(
    ("found", "row"),
    [
        ({"alive": known((Alive(4200, "lock", "python"),))}, "R-ORPHAN-1"),
        ({"alive": known((Alive(4200, "tag", "python"),))}, "R-ORPHAN-1"),
        ({"alive": known((Alive(4200, "mark", "python"),))}, "R-ORPHAN-1"),
        ({"alive": known((Alive(CHAIN_PID, "tag", "sh"),))}, "R-RUN-1"),
        ({"locks": known(Locks(chain_held=False, stage_held=True))}, "R-ORPHAN-1"),
        ({"locks": known(Locks(chain_held=True, stage_held=False))}, "R-RUN-1"),
        ({}, "R-VANISH-1"),
        ({"locks": MISSING}, "R-SCAN-1"),  # a box without the tool that could tell is no death
        ({"alive": MISSING}, "R-SCAN-1"),
    ],
)
def test_each_witness_alone_shows_life_and_a_missing_tool_is_no_death(found, row):  # R36
    assert judged(seen=probe(facts(**{**NOTHING, **found}))).row == row


def test_of_many_that_live_three_are_named_and_all_counted():  # R37
    ten = known(tuple(Alive(pid, "tag", "python") for pid in range(11, 21)))
    verdict = judged(seen=probe(facts(locks=FREE, alive=ten)))
    assert "pid 11, 12, 13 and 7 more" in verdict.summary and "14" not in verdict.summary
    assert "10 alive: pid 11, 12, 13 and 7 more" in {seen.says for seen in verdict.evidence}
    three = known(tuple(Alive(pid, "tag", "python") for pid in range(11, 14)))
    assert "pid 11, 12, 13 lives on" in judged(seen=probe(facts(locks=FREE, alive=three))).summary


def test_no_proof_no_success():  # P2 R15 R28
    done = known(end("done"))
    assert judged(seen=probe(facts(**GONE, end=done))).health is Health.FINISHED
    for broken in ({"end": MISSING}, {"attempt": MISSING}, {"locks": MISSING}, {"alive": MISSING}):
        assert judged(seen=probe(facts(**{**GONE, "end": done, **broken}))).health is Health.UNKNOWN


def test_marker_text_in_a_log_finishes_nothing():  # S39
    text = b"state=done\nALL DONE\n== attempt 1: state=done attempt=1 rc=0\n"
    assert judged(seen=probe(facts(log=log(text)))).row == "R-RUN-1"


def test_what_the_log_says_hides_neither_the_end_nor_the_alarm():  # R33
    # The end comes from the record, whatever the log lacks; the alarm from silence, whatever the log claims.
    assert judged(seen=probe(facts(**GONE, end=known(end("done")), log=MISSING))).health is Health.FINISHED
    claims = log(b"Training completed\nFINISHED\n", ago_s=9000)
    hangs = facts(attempt=known(attempt(ago_s=9000)), log=claims)
    assert judged(seen=probe(hangs)).health is Health.STALLED


def test_an_absent_lock_file_does_not_hide_a_living_chain():
    verdict = judged(seen=probe(facts(locks=FREE, alive=known((Alive(CHAIN_PID, "lock", "sh"),)))))
    assert verdict.row == "R-RUN-1"


def test_a_box_that_is_away_never_speaks_for_the_job():  # R14
    for history in (History(), History(facts_at=NOW - 60, seen_as="failed")):
        for cause in Cause:
            verdict = decide(run(), away(cause), history, NOW)
            assert verdict.health in {Health.UNREACHABLE, Health.UNKNOWN}
            assert verdict.exit_code in {4, 11, 12}


def test_a_changed_key_names_both_keys_and_the_command():  # R25
    keys = {"known": "SHA256:" + "A" * 43, "offered": "SHA256:" + "B" * 43}
    verdict = judged(seen=away(Cause.HOSTKEY_CHANGED, **keys))
    assert all(key in verdict.summary for key in keys.values())
    assert verdict.next == (f"babysit trust gpu1 --fingerprint {keys['offered']}",)
    assert judged(seen=away(Cause.HOSTKEY_CHANGED, offered="$(id)")).next == ("babysit trust gpu1",)


def test_a_name_that_a_shell_would_read_is_quoted():  # S17
    verdict = judged(run("a b;c"), probe(runs={"a b;c-k3f9": facts(**GONE)}))
    assert verdict.next[0] == "babysit logs gpu1 'a b;c'"


def test_status_137_is_not_called_a_signal_and_a_seen_signal_is():
    of = {"stage": "02-train", "rc": 137}
    told = judged(seen=probe(facts(**GONE, end=known(end("failed", why="exit", **of)))))
    assert "stage train ended with status 137, a shell's word for SIGKILL" in told.summary
    told = judged(seen=probe(facts(**GONE, end=known(end("failed", why="signal", signal=9, **of)))))
    assert "stage train was ended by SIGKILL (9)" in told.summary


@pytest.mark.parametrize(
    ("codes", "want"),
    [
        ((), 0),
        ((0,), 0),
        ((0, 12), 12),
        ((11, 12), 11),
        ((4, 11), 4),
        ((10, 4), 10),
        ((20, 10, 4, 11, 12, 0), 20),
    ],
)
def test_the_exit_code_of_a_tick(codes, want):
    verdict = judged()
    assert tick_exit([msgspec.structs.replace(verdict, exit_code=code) for code in codes]) == want


CANARY = "\x1b[2J$(id)`<script>"


@settings(max_examples=50, deadline=None)
@given(looks=st.lists(probes, min_size=1, max_size=3), launched=st.booleans())
def test_whatever_is_seen_there_is_exactly_one_verdict(looks, launched):  # R80 R88
    of_run, history = run(launched=launched, artifacts=("*",)), History()
    for look in looks:
        history = fold(history, of_run, look, NOW)
        verdict = decide(of_run, look, history, NOW)
        assert isinstance(verdict, Verdict)
        assert verdict.row in {row.id for row in TABLE}
        assert verdict.exit_code in TICK_PRECEDENCE
        assert (verdict.exit_code == 0) == (
            verdict.severity is not Severity.PAGE and verdict.exit_code not in {11, 12}
        )
        assert all(len(line) <= 80 for line in lines([verdict], NOW) if "next:" not in line)
        msgspec.json.encode(document([verdict], at=NOW, cursor="1", exit_code=0))
        assert verdict.health is not Health.FINISHED or (
            isinstance(look.runs[of_run.run_id].end, Known)
            and look.runs[of_run.run_id].end.value.state == "done"
        )


def test_no_text_of_the_box_gets_into_what_we_say():  # S25 S26
    odd = facts(
        alive=known((Alive(4200, "tag", CANARY),)), artifacts=known((artifact(path=CANARY),)),
        log=log(f"Epoch 3/9 {CANARY}\n".encode()), locks=FREE,
    )  # fmt: skip
    on = box(
        disks=known((disk(99.0, 5.0, CANARY),)),
        gpus=known((Gpu(0, CANARY, 1.0, 1, 2),)),
        box_id=known(BOX_ID),
    )
    for values in (odd, msgspec.structs.replace(odd, end=known(end("failed", stage=CANARY, why=CANARY)))):
        verdict = judged(run(artifacts=("*",)), probe(values, on))
        said = (verdict.summary, *verdict.next, *(f"{seen.source} {seen.says}" for seen in verdict.evidence))
        assert not [text for text in said if "\x1b" in text or "$(" in text or "<" in text]
        assert CANARY[-8:] in verdict.last_line


def test_ages_are_by_the_box_clock():
    verdict = judged(seen=probe(facts(**GONE, end=known(end(ago_s=240)))))
    assert "ended 4 min ago" in verdict.summary


def test_a_finished_run_with_results_says_how_to_read_them():
    done = probe(facts(**GONE, end=known(end())))
    assert judged(run(), done).next == ("babysit logs gpu1 train",)
    assert judged(run(results=("results.csv",)), done).next[0] == "babysit results gpu1 train"
