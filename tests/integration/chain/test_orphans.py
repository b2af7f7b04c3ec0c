"""What outlives a killed chain is seen by one witness or another; nothing is launched beside it; stop ends it."""

import pytest
from integration.chain import cases
from integration.chain.rig import LONG, result
from waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("kind", cases.ORPHANS)
def test_an_orphan_is_seen_and_ended(make_run, kind):  # P1 R16
    cases.orphan(make_run, kind)


def test_running_orphaned_and_free_are_told_apart_by_the_locks(make_run):
    cases.moment_of_the_chain(make_run)


def test_what_no_witness_can_see(make_run):
    """The promise's limit: a clean environment AND closed descriptors AND a reset limit. Red when that changes."""
    run = make_run(train=f"{cases.RELIMITED} 8>&-; true")
    first = run.start("0")
    run.up()
    worker = run.trainer()
    run.crash_chain(first)
    from integration.chain.rig import alive, kill

    for pid in {*run.tagged(), *run.marked()}:
        kill(pid)
    wait_until(lambda: not run.tagged(), 60, "only the worker is left")
    second = run.start("1")
    run.up(2)
    run.trainer()
    assert alive(worker)
    assert run.collisions() == ["train"], "the second launch met the worker of the first"
    second.kill()


def test_when_the_orphan_ends_by_itself_a_resume_goes_on(make_run):
    run = make_run(prepare="work prep; over", train=LONG)
    first = run.start("0")
    run.up()
    run.crash_chain(first)
    assert run.result("1")[0] == 10
    run.open_gate()
    wait_until(lambda: run.verdict() == "free", 60, "the orphan has ended")
    again = run.start("1")
    run.up(2)
    run.open_gate()
    assert result(again)[0] == 0
    assert run.launches() == ["prep", "train", "train"]
    assert not run.collisions()
