"""What is put into the ledger comes out of it: runs, intents, boxes, pins, waiters."""

import msgspec
import pytest
from ledger_samples import NOON, a_run

from fleet.errors import LedgerError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Pin
from fleet.model.spec import BoxSpec


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "state", write=True) as opened:
        yield opened


def test_a_run_comes_back_by_name_and_by_id(ledger):
    run = a_run()
    ledger.runs.put(run)
    assert ledger.runs.find("train") == ledger.runs.find("train-k3f9") == run
    assert ledger.runs.find("train", "gpu1") == run
    assert ledger.runs.find("train", "gpu2") is None
    assert ledger.runs.find("trian") is None


def test_putting_a_run_again_replaces_it(ledger):
    run = a_run()
    ledger.runs.put(run)
    later = msgspec.structs.replace(run, box_id="ab" * 16, launched=True)
    ledger.runs.put(later)
    assert ledger.runs.all() == (later,)


def test_a_name_means_the_newest_run_that_was_not_superseded(ledger):
    old = a_run("train-old1", at=NOON, newer="train-new1")
    new = a_run("train-new1", at=NOON + 60)
    for run in (new, old):
        ledger.runs.put(run)
    assert ledger.runs.find("train") == new
    assert ledger.runs.find("train-old1") == old, "an id finds even a superseded run"
    assert ledger.runs.all() == (new,)
    assert ledger.runs.all(current=False) == (old, new)


def test_an_id_wins_over_a_name_that_looks_like_it(ledger):
    named = a_run("x-1", at=NOON)
    other = msgspec.structs.replace(
        a_run("y-1", at=NOON + 9), spec=msgspec.structs.replace(named.spec, name="x-1")
    )
    ledger.runs.put(named)
    ledger.runs.put(other)
    assert ledger.runs.find("x-1") == named


def test_an_intent_is_open_until_its_outcome_is_known(ledger):  # P8
    first = ledger.intents.begin("train-k3f9", "launch", "expect 0", NOON)
    second = ledger.intents.begin("eval-9d2k", "stop", "attempt 1", NOON + 1)
    assert [intent.id for intent in ledger.intents.open()] == [first, second]
    ledger.intents.done(first, "started: attempt 1", NOON + 2)
    ledger.intents.done(first, "something else", NOON + 3)
    assert [intent.id for intent in ledger.intents.open()] == [second]
    assert ledger.intents.open("train-k3f9") == ()
    (left,) = ledger.intents.open("eval-9d2k")
    assert (left.kind, left.text, left.at, left.outcome) == ("stop", "attempt 1", NOON + 1, None)


def test_a_box_from_the_command_line_is_kept(ledger):
    box = BoxSpec("gpu9", "10.0.0.9", user="me", port=2222)
    ledger.boxes.put(BoxSpec("gpu9", "elsewhere"))
    ledger.boxes.put(box)
    assert ledger.boxes.find("gpu9") == box
    assert ledger.boxes.find("gpu8") is None
    assert ledger.boxes.all() == (box,)


def test_another_pin_keeps_the_old_one_as_history(ledger):  # S2
    old = Pin("gpu1", "ssh-ed25519", "AAAAold", NOON, "known_hosts")
    new = Pin("gpu1", "ssh-ed25519", "AAAAnew", NOON + 60, "trust")
    ledger.pins.put(old)
    ledger.pins.put(msgspec.structs.replace(old, at=NOON + 1))
    assert ledger.pins.before("gpu1") == (), "the same key again is no change"
    ledger.pins.put(new)
    assert ledger.pins.find("gpu1") == new
    assert [pin.key_b64 for pin in ledger.pins.before("gpu1")] == ["AAAAold"]
    assert ledger.pins.find("gpu2") is None


def test_waiters_line_up_in_order(ledger):
    first = ledger.waiters.register("train-k3f9", "4127 88 boot", NOON + 60, NOON)
    second = ledger.waiters.register("train-k3f9", "4200 99 boot", NOON + 70, NOON + 1)
    ledger.waiters.register("eval-9d2k", "4201 99 boot", NOON + 70, NOON + 2)
    assert [waiter.id for waiter in ledger.waiters.all("train-k3f9")] == [first, second]
    assert ledger.waiters.all("train-k3f9")[0].identity == "4127 88 boot"
    ledger.waiters.drop(first)
    ledger.waiters.drop(first)
    assert [waiter.run_id for waiter in ledger.waiters.all()] == ["train-k3f9", "eval-9d2k"]


def test_a_row_that_cannot_be_read_is_said_with_its_file(ledger, tmp_path):
    ledger.runs.put(a_run())
    ledger._store.change("UPDATE run SET content = ?", b'{"run_id": 5}')
    with pytest.raises(LedgerError, match=r"ledger\.db holds a Run that cannot be read") as caught:
        ledger.runs.all()
    assert caught.value.where == str(tmp_path / "state" / "ledger.db")


def test_a_disarmed_run_is_known_by_name_and_is_on_no_list(ledger):
    kept, leaving = a_run("eval-k3f9"), a_run("train-k3f9")
    for run in (kept, leaving):
        ledger.runs.put(run)
    gone = msgspec.structs.replace(leaving, disarmed_at=NOON)
    ledger.runs.disarm([gone], b"[]")
    assert ledger.runs.all() == (kept,) and ledger.runs.all(current=False) == (kept, gone)
    assert ledger.runs.find("train") == gone
    assert ledger.runs.disarmed() == {"train-k3f9"} and ledger.ticks.incidents() == b"[]"


def test_runs_are_disarmed_with_their_incidents_or_not_at_all(ledger):
    run = a_run()
    ledger.runs.put(run)

    def cut_short():
        yield msgspec.structs.replace(run, disarmed_at=NOON)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.runs.disarm(cut_short(), b"[]")
    assert ledger.runs.all() == (run,) and ledger.ticks.incidents() is None
