"""Each guard is needed: without it, a named case goes wrong in the way that the guard is there to prevent."""

import functools

import pytest
from integration.chain import cases

pytestmark = pytest.mark.timeout(300)
orphan = functools.partial(cases.orphan, starts=3)
REMOVED = {
    "attempt fence": (("fence",), functools.partial(cases.parallel, body=cases.FAILS), "launches of 20 starts"),
    "fd 8": (("fd8",), functools.partial(orphan, kind="only the lock"), "beside a living worker"),
    "fd 9": (("fd9",), cases.moment_of_the_chain, r"verdicts \['(orphaned|free)', "),
    "environ scan": (("environ",), functools.partial(orphan, kind="only the tag"), "beside a living worker"),
    "limit mark": (("mark",), functools.partial(orphan, kind="only the mark"), "beside a living worker"),
    "limit mark, wiped title": (
        ("mark",), functools.partial(orphan, kind="wiped title"), "beside a living worker",
    ),
    "environ scan and limit mark": (
        ("environ", "mark"), functools.partial(orphan, kind="python subprocess"), "beside a living worker",
    ),
    "nonce": (("nonce",), cases.forged_markers, "believed a forged marker"),
    "plain-file check": (
        ("plain",), functools.partial(cases.marker_target, targets=("mkdir {m}",), early=(True,)), "launched",
    ),
    "leftovers": (
        ("leftovers",), functools.partial(cases.leftovers, how="nohup", policy="fail"), "ran beside a leftover",
    ),
    "chain identity": (("identity",), cases.locks_deleted, "launches"),
    "both locks": (("fd8", "fd9"), functools.partial(cases.parallel, body=cases.ENDS), "launches of 20 starts"),
}  # fmt: skip


@pytest.mark.parametrize("guard", REMOVED)
def test_without_its_guard_the_case_goes_wrong(make_run, guard):  # P1
    removed, case, message = REMOVED[guard]
    with pytest.raises(AssertionError, match=message):
        case(make_run, cripple=removed)
