"""What was begun here and cut short: the box's own records close it at the next look."""

import contextlib
import sqlite3

from fleet.ledger.ledger import Ledger


def test_an_effect_that_nobody_saw_end_is_answered_by_the_box_at_the_next_tick(night):  # P8
    laptop, job = night
    armed = laptop.run("arm", "gpu1", job.run, "--json", "--", job.waiting()).json
    job.up()
    with Ledger.open(laptop.state, write=True) as ledger:
        run_id = armed["id"]
        ledger.intents.begin(run_id, "launch", "start from 0", 1.0)
        ledger.intents.begin(run_id, "launch", "start from 1", 1.0)
        ledger.intents.begin(run_id, "arm", f"arm {job.run} on gpu1", 1.0)
        stop = ledger.intents.begin(run_id, "stop", "stop attempt 1", 1.0)
        ledger.intents.begin(run_id, "grant", "raise the budget from 3 to 4", 1.0)
    laptop.patrol()
    with contextlib.closing(sqlite3.connect(laptop.state / "ledger.db")) as raw:
        told = dict(raw.execute("SELECT text, outcome FROM intent WHERE at = 1.0"))
        assert told == {
            "start from 0": "seen on the box: attempt 1",
            "start from 1": None,  # its chain is held: whoever began it might still come to it
            f"arm {job.run} on gpu1": "seen on the box: it was placed",
            "stop attempt 1": "seen on the box: attempt 1 was not stopped",
            "raise the budget from 3 to 4": "seen on the box: the budget is 3, it was not raised",
        }
    with Ledger.open(laptop.state, write=True) as ledger:
        ledger.intents.done(stop, "asked again", 2.0)
    said = laptop.run("patrol", "--once").stderr
    assert f"{job.run}: start from 1" in said
    assert f"next: babysit resume gpu1 {job.run}\n" in said
    with Ledger.open(laptop.state, write=True) as ledger:
        ledger.patrollers.register("4127 1 another-boot", every_s=1800, at=1.0, next_at=2.0)
    taken = " ".join(laptop.run("resume", job.run).stdout.split())
    assert "patrol --every 30m (pid 4127): gone" in taken, taken
    assert "again: babysit patrol --every 30m" in taken
    with Ledger.open(laptop.state, write=False) as ledger:
        assert ledger.patrollers.all() == (), "said once, and true from now on"
        assert [left.text for left in ledger.intents.open()] == ["start from 1"]
    job.release()
    job.ended()
    laptop.patrol()
    with Ledger.open(laptop.state, write=False) as ledger:
        assert ledger.intents.open() == ()
