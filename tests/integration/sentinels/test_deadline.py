"""A watch's time is its own, however slow each look at the box is and whatever the wall clock does."""

import time

import msgspec
import pytest
from false_boxes import serving
from ledger_samples import a_run

from babysit.acts.here import Here
from babysit.acts.watch import watch
from fleet.model.spec import BoxSpec, Spec


@pytest.mark.timeout(180)
@pytest.mark.parametrize("step_s", [0, 7200, -7200])
def test_neither_slow_looks_nor_a_clock_that_is_set_stretch_the_wait(
    tmp_path, monkeypatch, step_s
):  # R9 R11 D15
    wall, told, looks = time.time, [], []
    with serving(looks.append) as port:
        box = BoxSpec("gpu1", "127.0.0.1", user="dev", port=port, identity="/nonexistent", limit_s=1.0)
        place = Here(tmp_path / "state", Spec())
        train = msgspec.structs.replace(a_run(), box=box)
        with place.ledger() as ledger:
            ledger.runs.put(train)
        began = time.monotonic()
        # From its second look on, the wall clock is two hours off.
        monkeypatch.setattr(time, "time", lambda: wall() + (step_s if told else 0))
        done = watch(place, train, for_s=6.0, tell=told.append)
        took_s = time.monotonic() - began
    assert (done.exit_code, done.verdict.row) == (124, "R-LINK-2")
    # A machine that stood still for all of it leaves no time for a second look, and nothing to tell.
    assert [verdict.row for verdict in told] == ["R-LINK-2"] or len(looks) == 1
    assert 1.0 < took_s < 60.0, "a stretched wait would be hours"
    assert done.verdict.next == ("babysit patrol --once",)
