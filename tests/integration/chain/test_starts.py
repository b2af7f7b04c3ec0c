"""Starts: however many, whoever asks, whatever they quote, at most one of them launches."""

import re
import signal
import subprocess
from pathlib import Path

import pytest
from integration.chain import cases
from integration.chain.rig import LONG, SHELLS, kill, proc, result
from waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    "body", [LONG, cases.FAILS, cases.ENDS], ids=["long", "fails in 0.3 s", "ends in 0.3 s"]
)
def test_20_parallel_starts_from_two_homes_launch_once(make_run, body):  # P1
    print(cases.parallel(make_run, body))


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "body", [LONG, cases.FAILS, cases.ENDS], ids=["long", "fails in 0.3 s", "ends in 0.3 s"]
)
def test_20_parallel_starts_again_and_again(make_run, body):  # P1
    for _ in range(5):
        cases.parallel(make_run, body)


def test_starts_that_quote_a_live_attempt_launch_nothing(make_run):  # P1
    print(cases.quoting_a_live_attempt(make_run))


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_chain_runs_its_stages_in_order_under_every_sh(make_run, shell):  # R23
    run = make_run(prepare="work prep; over", train=cases.ENDS, eval="work eval; over")
    assert run.result("0", shell=shell) == (0, "started: attempt 1")
    assert run.launches() == ["prep", "train", "eval"]
    assert run.stamped() == {"01-prepare", "02-train", "03-eval"}
    end = run.record("end")
    assert {key: end[key] for key in ("state", "attempt", "stage", "rc", "signal", "why", "leftovers")} == {
        "state": "done", "attempt": "1", "stage": "-", "rc": "0", "signal": "-", "why": "-", "leftovers": "-",
    }  # fmt: skip
    assert run.result("1", shell=shell) == (0, "already-so: 1:done")
    assert run.result("0", shell=shell) == (0, "already-so: 1:done")
    assert (run.dir / "end").stat().st_mode & 0o777 == 0o600
    assert not (run.dir / ".reserve").exists()


EXPECTS = {
    "": (2, "usage"),
    "one": (2, "usage"),
    "-1": (2, "usage"),
    "0;id": (2, "usage"),
    "1:lost": (2, "usage"),
    "0": (0, "already-so: 1:failed"),
    "1": (0, "already-so: 1:failed"),
    "1:stopped": (0, "already-so: 1:failed"),
    "2": (12, "unknown: records went back"),
    "2:failed": (12, "unknown: records went back"),
}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_the_caller_saw_is_fenced(make_run, shell):  # P1
    run = make_run(train="work train; over; exit 3")
    assert run.result("0") == (20, "started: attempt 1")
    for expect, (code, said) in EXPECTS.items():
        answer = run.result(expect, shell=shell)
        assert answer[0] == code, (expect, answer)
        assert answer[1].startswith(said), (expect, answer)
    assert run.launches() == ["train"]


def test_no_or_two_arguments_are_a_usage_error(make_run, tmp_path):
    run = make_run(train="work train; over")
    for arguments in ([], ["0", "0"]):
        done = subprocess.run(["sh", run.chain, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout[:6]) == (2, "usage:")
    assert not run.launches()


def test_the_chain_finds_its_folder_from_wherever_it_is_called(make_run, tmp_path):
    run = make_run(train="work train; over")
    link = tmp_path / "a link"
    link.symlink_to(run.dir)
    done = subprocess.run(["sh", run.chain.name, "0"], cwd=link, capture_output=True, text=True, check=False)
    assert done.stdout == "started: attempt 1\n", done
    done = subprocess.run(
        ["sh", link / run.chain.name, "0"], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.stdout == "already-so: 1:done\n", done


@pytest.mark.parametrize("name", ["attempt", "end"])
@pytest.mark.parametrize("content", ["", "nonce=0\nattempt=1\n", "attempt=1\n", "folder", "link"])
def test_records_that_cannot_be_believed_are_unknown(make_run, name, content):  # P1
    run = make_run(train="work train; over; exit 3")
    run.result("0")
    record = run.dir / name
    kept = record.read_text()
    record.unlink()
    if content == "folder":
        record.mkdir()
    elif content == "link":
        (run.dir / "elsewhere").write_text(kept)
        record.symlink_to("elsewhere")
    else:
        record.write_text(content)
    code, said = run.result("1:failed")
    assert (code, said[:8]) == (12, "unknown:")
    assert run.launches() == ["train"]


def test_an_end_record_newer_than_the_attempt_is_unknown(make_run):  # P1
    run = make_run(train="work train; over; exit 3")
    run.result("0")
    old = (run.dir / "attempt").read_text()
    run.result("1:failed")
    (run.dir / "attempt").write_text(old)
    assert run.result("1")[0] == 12
    assert len(run.launches()) == 2


@pytest.mark.parametrize("broken", ["plan", "nonce", "budget", "stages/01-train.sh"])
def test_a_missing_file_of_the_run_is_unknown(make_run, broken):
    run = make_run(train="work train; over")
    (run.dir / broken).unlink()
    code, said = run.result("0")
    assert (code, said[:8]) == (12, "unknown:"), said
    assert not run.launches()


def test_the_budget_bounds_all_starts(make_run):  # R90
    run = make_run(budget=3, train="work train; over; exit 3")
    assert [run.result()[0] for _ in range(5)] == [20, 20, 20, 5, 5]
    assert run.result()[1] == "budget: 3 of 3"
    (run.dir / "budget").write_text("4\n")
    assert run.result()[0] == 20
    assert run.launches() == ["train"] * 4
    assert {name for name in ("failed.1", "failed.2", "failed.3", "failed.4") if (run.dir / name).is_file()} == {
        "failed.1", "failed.2", "failed.3", "failed.4",
    }  # fmt: skip


def test_a_start_from_a_shell_that_carries_the_runs_own_tag_is_no_orphan(make_run):
    run = make_run(train="work train; over; echo tag=$BABYSIT_TAG")
    code, said = run.result("0", BABYSIT_TAG=f"{run.run.tag}/01-train")
    assert (code, said) == (0, "started: attempt 1")
    assert f"tag={run.run.tag}/01-train" in run.log()


def test_lock_files_deleted_under_a_live_chain_let_nobody_in(make_run):  # P1
    cases.locks_deleted(make_run)


def test_locks_in_a_folder_of_their_own_are_made_when_it_is_gone(make_run, tmp_path):
    run = make_run(lockdir=str(tmp_path / "locks"), train="work train; over; exit 3")
    folder = tmp_path / "locks" / run.run_id
    assert run.result("0")[0] == 20
    assert sorted(path.name for path in folder.iterdir()) == ["chain.lock", "stage.lock"]
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert run.result("1:failed")[0] == 20
    assert len(run.launches()) == 2


def waits_for_a_lock(pid):
    """Does the kernel show this process as waiting for an flock?"""
    return re.search(rf"-> FLOCK .* {pid} ", Path("/proc/locks").read_text())


def test_a_frozen_waiter_does_not_hinder_a_resume(make_run):  # P1
    run = make_run(train=LONG)
    first = run.start("0")
    run.up()
    waiter = subprocess.Popen(["flock", "-s", "-w", "600", str(run.dir / "chain.lock"), "true"])
    try:
        wait_until(lambda: waits_for_a_lock(waiter.pid), 60, "the waiter waits")
        kill(waiter.pid, signal.SIGSTOP)
        wait_until(
            lambda: proc(waiter.pid, "stat").rpartition(") ")[2][:1] == "T", 60, "the waiter is frozen"
        )
        run.crash_chain(first)
        run.end()
        (run.work / "alive").unlink()
        again = run.start("1")
        run.up(2)
        run.open_gate()
        assert result(again)[0] == 0
    finally:
        kill(waiter.pid)
        waiter.wait()


def test_somebody_frozen_with_the_lock_in_hand_makes_it_busy_and_no_more(make_run):
    run = make_run(train="work train; over")
    lock = run.dir / "chain.lock"
    lock.touch()
    holder = subprocess.Popen(["flock", "-s", "-F", str(lock), "cat"], stdin=subprocess.PIPE)
    try:
        wait_until(
            lambda: subprocess.run(["flock", "-n", lock, "true"], check=False).returncode, 60, "it is held"
        )
        kill(holder.pid, signal.SIGSTOP)
        assert run.result("0") == (75, "busy: chain lock")
        assert not run.launches()
    finally:
        kill(holder.pid)
        holder.wait()
        holder.stdin.close()
    assert run.result("0") == (0, "started: attempt 1")
