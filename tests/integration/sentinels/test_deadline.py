"""A watch's time is its own, however slow each look at the box is and whatever the wall clock does."""

import time

import msgspec
import pytest
from false_boxes import says, serving
from ledger_samples import a_run

from babysit.acts.here import Here
from babysit.acts.watch import watch
from fleet.model.spec import BoxSpec, Spec


@pytest.mark.parametrize("step_s", [0, 7200, -7200])
def test_neither_slow_looks_nor_a_clock_that_is_set_stretch_the_wait(
    tmp_path, monkeypatch, step_s
):  # R9 R11 D15
    wall, told = time.time, []
    with serving(says(b"")) as port:
        box = BoxSpec("gpu1", "127.0.0.1", user="dev", port=port, identity="/nonexistent", limit_s=1.0)
        place = Here(tmp_path / "state", Spec())
        with place.ledger() as ledger:
            ledger.runs.put(msgspec.structs.replace(a_run(), box=box))
        began = time.monotonic()
        # From its second look on, the wall clock is two hours off.
        monkeypatch.setattr(time, "time", lambda: wall() + (step_s if told else 0))
        done = watch(place, "gpu1", "train", for_s=4.0, tell=told.append)
        took_s = time.monotonic() - began
    assert (done.exit_code, [verdict.row for verdict in told]) == (124, ["R-LINK-2"])
    assert 1.0 < took_s < 4.0 + 1.0 + 1.5
    assert done.verdict.next == ("babysit patrol --once",)
