from hypothesis import given
from hypothesis import strategies as st

from onbox.monitor import pace


def test_samples_are_due_by_the_clock_and_not_by_what_the_last_one_took():
    now = pace.first(0.1, 0.1, 100.0)
    due = []
    for _ in range(5):
        due.append(round(now.due, 6))
        now = pace.following(now, now.due + 0.07, 0.0001, moved=True)
    assert due == [100.1, 100.2, 100.3, 100.4, 100.5]
    assert now.dropped == 0


def test_moments_that_were_missed_are_counted_and_not_made_up():
    now = pace.following(pace.first(0.1, 0.1, 0.0), 0.55, 0.0, moved=True)
    assert (round(now.due, 6), now.dropped) == (0.6, 4)


def test_the_interval_grows_by_a_quarter_while_nothing_moves_and_is_the_base_again_when_something_does():
    now = pace.first(0.1, 0.25, 0.0)
    seen = []
    for moved in (False, False, False, False, False, True, False):
        now = pace.following(now, now.due, 0.0, moved=moved)
        seen.append(round(now.interval_s, 4))
    assert seen == [0.125, 0.1562, 0.1953, 0.2441, 0.25, 0.1, 0.125]


def test_a_slow_look_now_and_then_is_paid_from_what_was_saved():
    now = pace.first(1.0, 1.0, 0.0)
    for _ in range(40):
        now = pace.following(now, now.due, 0.0005, moved=True)
    after = pace.following(now, now.due, 0.25, moved=True)
    assert after.due - now.due <= 1.0 + 1e-9 and after.dropped == 0


@given(
    st.floats(0.01, 1),
    st.floats(0.01, 60),
    st.lists(st.tuples(st.floats(0, 2), st.booleans()), min_size=1, max_size=200),
)
def test_no_sampling_takes_more_than_its_share_of_a_core(base, most, samples):
    now, spent, began = pace.first(base, most, 0.0), 0.0, 0.0
    for cost, moved in samples:
        at = now.due + cost
        now = pace.following(now, at, cost, moved=moved)
        spent += cost
        assert now.due > at - 1e-6
        assert spent <= pace.SHARE * (now.due - began) + 0.05 + 1e-6


def test_a_watch_that_is_slowed_down_keeps_a_maximum_that_is_none_below_its_base():
    now = pace.slower(pace.slower(pace.first(10.0, 30.0, 0.0)))
    assert (now.base_s, now.max_s) == (40.0, 40.0)
