"""A start that the budget does not allow is not offered: whoever acts on `next` alone would be sent round in a circle."""

import pytest
from unit.patrol.build import GONE, MISSING, NOW, attempt, case, end, facts, known, probe, run

from patrol.decide import decide

LOGS = "babysit logs gpu1 train"
RESUME = "babysit resume gpu1 train --yes"


THREE = known(3)


def said(row_facts, number, budget=THREE):
    there = facts(attempt=known(attempt(number=number)), budget=budget, **{**GONE, **row_facts})
    seen = case(run(), probe(there))
    return decide(seen.run, seen.probe, seen.history, NOW)


@pytest.mark.parametrize(
    ("left_by", "then"),
    [
        (
            lambda n: {"end": known(end("failed", number=n, stage="02-train", rc=1, why="exit"))},
            (LOGS, RESUME),
        ),
        (lambda n: {"end": known(end("stopped", number=n, why="stopped"))}, (RESUME,)),
        (lambda _: {}, (LOGS, RESUME)),
    ],
    ids=["failed", "stopped", "vanished"],
)
def test_the_last_start_that_the_budget_allows_is_offered_and_none_after_it(left_by, then):
    before, after = said(left_by(2), 2), said(left_by(3), 3)
    assert set(then) == set(before.next), before
    assert after.next == (LOGS,) and after.row == before.row
    assert "all 3 starts are used" in after.summary and "starts are used" not in before.summary
    granted, unread = said(left_by(3), 3, known(4)), said(left_by(3), 3, MISSING)
    assert granted.next == unread.next == before.next and (granted.budget, unread.budget) == (4, None)
    assert said(left_by(4), 4, known(4)).next == (LOGS,)
