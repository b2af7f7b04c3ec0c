"""Sleep and clock jumps by the numbers: what is named, what is counted, and when the next firing is due."""

import time

import pytest

from sentinels.pulse import Beat, Gap, gap, says, too_late

HALF_HOUR, MINUTE, HOUR = 1800.0, 60.0, 3600.0
FIRED = Beat(1_000_000.0, 500.0)


def after(beat, wall_s, boot_s=None):
    return Beat(beat.wall + wall_s, beat.boot + (wall_s if boot_s is None else boot_s))


def noticed(before, now):
    return gap(before, now, FIRED, every_s=HALF_HOUR, beat_s=MINUTE)


@pytest.mark.parametrize("late_s", [0, 30, 119])
def test_a_beat_that_comes_a_little_late_is_no_gap(late_s):
    before = after(FIRED, 1700)
    assert noticed(before, after(before, MINUTE + late_s)) is None


def test_a_night_is_named_with_every_check_that_was_due_in_it():  # P7
    before = after(FIRED, 300)
    found = noticed(before, after(before, 8 * HOUR))
    assert found == Gap("asleep", before.wall, before.wall + 8 * HOUR, 16)


def test_a_sleep_in_which_nothing_was_due_is_not_worth_a_word():
    before = after(FIRED, 120)
    assert noticed(before, after(before, 900)) is None


@pytest.mark.parametrize("jump_s", [8 * HOUR, -8 * HOUR])
def test_a_clock_that_was_set_is_named_and_nothing_counts_as_missed(jump_s):
    before = after(FIRED, 300)
    found = noticed(before, after(before, MINUTE + jump_s, MINUTE))
    assert found == Gap("clock", before.wall, before.wall + MINUTE + jump_s, 0)


def test_a_clock_that_is_corrected_by_seconds_is_not_news():
    before = after(FIRED, 300)
    assert noticed(before, after(before, MINUTE + 20, MINUTE)) is None


def test_a_clock_that_was_set_back_does_not_put_the_next_firing_off():
    next_at = FIRED.wall + HALF_HOUR
    now = after(FIRED, 600 - 8 * HOUR, 600)
    assert too_late(next_at, now, FIRED, wait_s=HALF_HOUR) == pytest.approx(now.wall + 1200)
    over = after(FIRED, 2000 - 8 * HOUR, 2000)
    assert too_late(next_at, over, FIRED, wait_s=HALF_HOUR) == over.wall


@pytest.mark.parametrize("passed_s", [0, 900, 1799, 1801, 9 * HOUR])
def test_a_clock_that_runs_true_moves_nothing(passed_s):
    assert too_late(FIRED.wall + HALF_HOUR, after(FIRED, passed_s), FIRED, wait_s=HALF_HOUR) is None


def test_what_is_said_is_local_time_and_whole():
    def at(day, hour, minute):
        return time.mktime((2026, 11, day, hour, minute, 0, 0, 0, -1))

    night = Gap("asleep", at(21, 23, 10), at(22, 7, 10), 16)
    assert says(night) == "asleep 23:10\N{EN DASH}07:10: 16 checks missed"
    days = says(Gap("asleep", at(19, 23, 10), at(22, 7, 10), 112))
    assert "Nov 19 23:10" in days and "Nov 22 07:10" in days and "112 checks" in days
    assert says(Gap("asleep", at(22, 7, 0), at(22, 7, 10), 1)).endswith("1 check missed")
    assert says(Gap("clock", at(22, 7, 10), at(22, 15, 10), 0)) == (
        "the clock was set ahead by 8 h, to Nov 22 15:10"
    )
    assert "back by 8 h" in says(Gap("clock", at(22, 15, 10), at(22, 7, 10), 0))
