"""The runs of a box lie in one folder: in another one a run's name would be free, and it would be started again."""

import pytest
from ledger_samples import a_run, a_tick, a_verdict
from msgspec.structs import replace

from babysit.acts.owner import one_folder
from fleet.errors import UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import state_folder
from fleet.model.verdict import Health

MOVED = replace(a_run().box, state_dir="/data/babysit")


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BABYSIT_STATE", str(tmp_path / "state"))
    with Ledger.open(state_folder(), write=True) as ledger:
        ledger.runs.put(a_run())
        yield ledger


def test_a_moved_state_folder_is_refused_while_a_run_of_that_box_lies_in_the_old_one(ledger):
    with pytest.raises(UsageError, match=r"train keeps its records in ~/\.local/state/babysit") as refused:
        one_folder(ledger, MOVED)
    assert refused.value.where == "gpu1: state_dir /data/babysit"
    assert refused.value.next == ("babysit status gpu1 train", "babysit disarm gpu1 train")


@pytest.mark.parametrize("state_dir", [None, "~/.local/state/babysit/", ".local/state/babysit"])
def test_one_folder_has_several_spellings(ledger, state_dir):
    one_folder(ledger, replace(a_run().box, state_dir=state_dir))


def test_other_boxes_and_runs_that_are_over_or_left_alone_stand_in_nobodys_way(ledger):
    one_folder(ledger, replace(MOVED, name="gpu2"))
    over = a_verdict("train-k3f9", health=Health.FINISHED)
    ledger.ticks.commit(replace(a_tick(), verdicts=(over,)))
    one_folder(ledger, MOVED)
    ledger.runs.put(replace(a_run("eval-9d2k"), disarmed_at=1.0))
    one_folder(ledger, MOVED)
    ledger.runs.put(a_run("eval-9d2k"))
    with pytest.raises(UsageError, match="eval keeps"):
        one_folder(ledger, MOVED)
