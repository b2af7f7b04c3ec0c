import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.patrol.build import GONE, NOW, attempt, away, broken, end, facts, known, log, probe, run

from fleet.model.probe import Cause
from fleet.model.verdict import Health, Severity
from patrol.decide import decide
from patrol.history import History, fold
from patrol.incidents import Incident, incidents

HOUR = 3600.0
MIN = 60.0


def verdict(row="R-RUN-1", name="train", number=1):
    """A verdict of this row as the table gives it."""
    seen = {
        "R-RUN-1": probe(facts(attempt=known(attempt(number)))),
        "R-STALL-1": probe(facts(attempt=known(attempt(number, ago_s=9000)), log=log(b"Epoch 1/9\n", ago_s=9000))),
        "R-VANISH-1": probe(facts(**GONE, attempt=known(attempt(number)))),
        "R-FAIL-1": probe(facts(**GONE, attempt=known(attempt(number)), end=known(end("failed", number=number, rc=3, why="exit")))),
        "R-BREAK-1": probe(facts(**GONE, attempt=known(attempt(number)), end=known(end("failed", number=number, stage="02-train", rc=88, why="exit")), broken=known((broken(),)))),
        "R-FINISH-1": probe(facts(**GONE, attempt=known(attempt(number)), end=known(end(number=number)))),
        "R-STOP-1": probe(facts(**GONE, attempt=known(attempt(number)), end=known(end("stopped", number=number, why="stopped")))),
        "R-LINK-1": away(),
        "R-LINK-2": away(Cause.TIMEOUT_BANNER),
        "R-LINK-3": away(Cause.TIMEOUT_COMMAND),
        "R-PROBE-1": away(Cause.UNREADABLE),
    }[row]  # fmt: skip
    if hasattr(seen, "runs"):
        seen = msgspec.structs.replace(seen, runs={f"{name}-k3f9": next(iter(seen.runs.values()))})
    found = decide(run(name), seen, fold(History(attempt=number), run(name), seen, NOW), NOW)
    assert found.row == row
    return found


def told(timeline, repeat_s=HOUR):
    """(minute, kind, row) of all that is told over a timeline of (minute, row)."""
    open_now, out = (), []
    for minute, row in timeline:
        open_now, tells = incidents(open_now, [verdict(row)], NOW + minute * MIN, repeat_s)
        out += [(minute, tell.kind, tell.event_id.split(".")[1]) for tell in tells]
    return out


def test_a_page_is_told_first_then_after_one_two_four_and_every_six_hours():
    timeline = [(minute, "R-STALL-1") for minute in range(0, 26 * 60, 30)]
    hours = [minute / 60 for minute, _, _ in told(timeline)]
    assert hours == [0, 1, 3, 7, 13, 19, 25]


def test_one_second_before_the_interval_nothing_is_told():
    open_now, _ = incidents((), [verdict("R-STALL-1")], NOW, HOUR)
    assert incidents(open_now, [verdict("R-STALL-1")], NOW + HOUR - 1, HOUR)[1] == ()
    assert [tell.kind for tell in incidents(open_now, [verdict("R-STALL-1")], NOW + HOUR, HOUR)[1]] == [
        "repeat"
    ]


def test_a_clock_that_was_set_back_silences_no_page():
    """Told while the clock was a day ahead: the next look with the right one begins its hours anew."""
    open_now, _ = incidents((), [verdict("R-STALL-1")], NOW + 24 * HOUR, HOUR)
    open_now, tells = incidents(open_now, [verdict("R-STALL-1")], NOW, HOUR)
    assert [tell.kind for tell in tells] == ["repeat"]
    assert incidents(open_now, [verdict("R-STALL-1")], NOW + 60, HOUR)[1] == ()


STORIES = {
    "a healthy run is not told": (["R-RUN-1"] * 3, []),
    "over is told once": (["R-STALL-1", "R-RUN-1", "R-RUN-1"], [(0, "first", "R-STALL-1"), (1, "resolved", "R-STALL-1")]),
    "worse": (["R-STALL-1", "R-FAIL-1"], [(0, "first", "R-STALL-1"), (1, "worse", "R-FAIL-1")]),
    "good news once": (["R-RUN-1", "R-FINISH-1", "R-FINISH-1"], [(1, "first", "R-FINISH-1")]),
    "a page that ends in good news is over, too": (["R-STALL-1", "R-FINISH-1"], [(0, "first", "R-STALL-1"), (1, "resolved", "R-STALL-1"), (1, "first", "R-FINISH-1")]),
    "stopped by hand ends a page": (["R-STALL-1", "R-STOP-1"], [(0, "first", "R-STALL-1"), (1, "resolved", "R-STALL-1")]),
    "what its owner broke off is a note, and it is not over when it goes on": (["R-STALL-1", "R-BREAK-1", "R-BREAK-1", "R-RUN-1"], [(0, "first", "R-STALL-1"), (1, "resolved", "R-STALL-1"), (1, "first", "R-BREAK-1")]),
    "a link that flaps is not told": (["R-LINK-1", "R-RUN-1"] * 10, []),
    "a link that stays away is told at the second look": (["R-LINK-1"] * 5, [(1, "first", "R-LINK-1")]),
    "a link that is away now so and now so is told at the second look, and once": (["R-LINK-1", "R-LINK-2", "R-LINK-3", "R-LINK-1", "R-RUN-1"], [(1, "first", "R-LINK-2"), (4, "resolved", "R-LINK-1")]),
    "away, then an answer that cannot be read, is told at the second look": (["R-LINK-1", "R-PROBE-1", "R-PROBE-1"], [(1, "first", "R-PROBE-1")]),
    "and when it is back": (["R-LINK-1", "R-LINK-1", "R-RUN-1"], [(1, "first", "R-LINK-1"), (2, "resolved", "R-LINK-1")]),
    "an outage is not the end of a stall": (["R-STALL-1", "R-LINK-1", "R-STALL-1"], [(0, "first", "R-STALL-1")]),
    "stalled, away, finished": (["R-STALL-1", "R-LINK-1", "R-LINK-1", "R-FINISH-1"], [(0, "first", "R-STALL-1"), (2, "first", "R-LINK-1"), (3, "resolved", "R-STALL-1"), (3, "first", "R-FINISH-1")]),
    "away, then failed": (["R-LINK-1", "R-LINK-1", "R-FAIL-1"], [(1, "first", "R-LINK-1"), (2, "worse", "R-FAIL-1")]),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_stories(story):
    rows, want = STORIES[story]
    assert told(list(enumerate(rows))) == want


def test_the_same_row_of_another_attempt_is_another_incident():
    open_now, first = incidents((), [verdict("R-FAIL-1", number=1)], NOW, HOUR)
    _, second = incidents(open_now, [verdict("R-FAIL-1", number=2)], NOW + 60, HOUR)
    assert first[0].event_id != second[0].event_id


def test_an_event_has_one_id_however_often_it_is_computed():  # P4
    first = incidents((), [verdict("R-FAIL-1")], NOW, HOUR)
    assert first == incidents((), [verdict("R-FAIL-1")], NOW, HOUR)
    assert first[1][0].event_id == f"train-k3f9.R-FAIL-1.1.{NOW:.0f}.first"
    repeat = incidents(first[0], [verdict("R-FAIL-1")], NOW + HOUR, HOUR)[1][0]
    assert repeat.event_id == f"train-k3f9.R-FAIL-1.1.{NOW:.0f}.repeat.2"


def test_runs_without_a_verdict_keep_their_incidents_and_others_do_not_mix():
    open_now, _ = incidents((), [verdict("R-STALL-1", "a"), verdict("R-STALL-1", "b")], NOW, HOUR)
    open_now, tells = incidents(open_now, [verdict("R-RUN-1", "b")], NOW + 60, HOUR)
    assert [incident.run_id for incident in open_now] == ["a-k3f9"]
    assert [(tell.kind, tell.verdict.run) for tell in tells] == [("resolved", "b")]


def test_a_resolved_page_goes_to_those_who_were_paged():
    open_now, _ = incidents((), [verdict("R-STALL-1")], NOW, HOUR)
    _, tells = incidents(open_now, [verdict("R-RUN-1")], NOW + 60, HOUR)
    assert [(tell.severity, tell.verdict.health) for tell in tells] == [(Severity.PAGE, Health.RUNNING)]


ROWS = [
    "R-RUN-1",
    "R-STALL-1",
    "R-VANISH-1",
    "R-FAIL-1",
    "R-FINISH-1",
    "R-STOP-1",
    "R-BREAK-1",
    "R-LINK-1",
    "R-LINK-2",
    "R-PROBE-1",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 90), st.sampled_from(ROWS)), max_size=12))
def test_whatever_happens_ids_are_told_once_and_what_is_open_can_be_stored(steps):  # P4
    open_now, ids, minute = (), [], 0
    for wait, row in steps:
        minute += wait
        open_now, tells = incidents(open_now, [verdict(row)], NOW + minute * MIN, HOUR)
        ids += [tell.event_id for tell in tells]
        assert msgspec.json.decode(msgspec.json.encode(open_now), type=tuple[Incident, ...]) == open_now
        assert (row in {incident.row for incident in open_now}) == (row not in {"R-RUN-1", "R-STOP-1"})
        assert len(open_now) <= 2
    assert len(set(ids)) == len(ids)
