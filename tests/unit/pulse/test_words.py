import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onbox.pulse import words
from patrol.progress import read_news


@pytest.mark.parametrize(
    ("place", "values", "rate", "left_s", "line"),
    [
        (("batch", 15, 20), {"loss": 0.4987}, 3.21, 2, "Batch 15/20 - loss: 0.4987 - 3.21/s - ETA 0:00:02"),
        (("batch", 7, None), {}, 0.0213, None, "Batch 7 - 0.0213/s"),
        (("epoch", 1, 3), {}, 0.0, None, "Epoch 1/3"),
        (("epoch 3 batch", 1, 3), {}, 1000.0, 0.2, "Epoch 3 batch 1/3 - 1e+03/s - ETA 0:00:00"),
        (("batch", 25, 20), {"loss": math.nan}, 2.0, None, "Batch 25 - loss: nan - 2/s"),
        (("a\nb\x1b[2J", 1, 2), {"x\ny": "p\rq\u2028r"}, 0.0, None, "A b [2J 1/2 - x y: p q r"),
        (
            ("batch", 1, 2),
            {"a": None, "b": [1, 2], "c": {}, "d": 2**200, "e": True, "f": -math.inf, "g": 7},
            0.0,
            None,
            "Batch 1/2 - e: True, f: -inf, g: 7",
        ),
        (("", 3, 4), {}, 0.0, None, "3/4"),
    ],
)
def test_the_line_of_a_turn(place, values, rate, left_s, line):  # R145
    assert words.turn_line(place, values, rate, left_s) == line


@pytest.mark.parametrize(
    ("epoch", "epochs", "values", "line"),
    [
        (
            1,
            100,
            {"train_loss": 0.5, "val_loss": 0.51},
            "[PROGRESS] Epoch 1/100 - train_loss: 0.5, val_loss: 0.51 - 0:01:12",
        ),
        (7, None, {}, "[PROGRESS] Epoch 7 - 0:01:12"),
        ("1\n2", 3, {"val_loss": None}, "[PROGRESS] Epoch 1 2/3 - 0:01:12"),
    ],
)
def test_the_line_of_an_epoch(epoch, epochs, values, line):  # R145
    assert words.epoch_line(epoch, epochs, values, 72.9) == line


@pytest.mark.parametrize(
    ("places", "age_s", "line"),
    [
        ([("batch", 15, 20)], 4.9, "[HEARTBEAT 12:00:31] batch 15/20, 4 s ago"),
        ([("epoch", 2, 9), ("batch", 15, None)], 0, "[HEARTBEAT 12:00:31] epoch 2/9, batch 15, 0 s ago"),
        ([("batch", 0, 20)], 119.9, "[HEARTBEAT 12:00:31] batch 0/20, 119 s ago"),
        ([("batch", 0, 20)], 7199, "[HEARTBEAT 12:00:31] batch 0/20, 119 min ago"),
        ([("batch", 0, 20)], 7200, "[HEARTBEAT 12:00:31] batch 0/20, 2 h ago"),
        ([], None, "[HEARTBEAT 12:00:31]"),
    ],
)
def test_the_line_of_a_heartbeat(places, age_s, line):  # R146
    assert words.beat_line("12:00:31", places, age_s) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (3661.9, "1:01:01"), (360_000, "100:00:00"), (-5, "0:00:00")]
)
def test_a_length_of_time(seconds, text):
    assert words.clock(seconds) == text


def test_at_most_eight_values_stand_in_a_line():
    assert words.figures({f"v{n}": n for n in range(20)}).count(":") == words.SHOWN


_VALUES = st.dictionaries(
    st.text(max_size=200),
    st.one_of(st.floats(), st.integers(), st.text(max_size=300), st.none(), st.binary(), st.booleans()),
    max_size=12,
)


@settings(max_examples=40)
@given(st.text(max_size=200), st.integers(0, 10**12), st.none() | st.integers(0, 10**12), _VALUES)
def test_a_line_is_one_line_whatever_stands_in_it(label, done, total, values):  # R145
    for line in (
        words.turn_line((label, done, total), values, 1.5, 3.0),
        words.epoch_line(done, total, values, 3.0),
        words.beat_line("12:00:31", [(label, done, total)], 3.0),
    ):
        assert line.splitlines() == [line]
        assert line.isprintable()
        assert len(line) < 1500


# What the patrol makes of our own lines: the reader of the log and this module agree.


def test_the_patrol_reads_our_lines():  # R145 R147
    turn = words.turn_line(("batch", 15, 20), {"loss": 0.4987}, 3.21, 2)
    epoch = words.epoch_line(1, 100, {"train_loss": 0.5, "val_loss": math.nan}, 72)
    found = read_news(turn.encode() + b"\n").progress
    assert (found.unit, found.index, found.total, found.values) == ("batch", 15, 20, (("loss", "0.4987"),))
    found = read_news(f"{epoch}\n{turn}\n".encode()).progress
    assert (found.unit, found.index, found.total) == ("epoch", 1, 100)
    found = read_news(epoch.encode() + b"\n").progress
    assert found.values == (("train_loss", "0.5"), ("val_loss", "nan"))


@pytest.mark.parametrize("places", [[("batch", 15, 20)], [("epoch", 2, 9), ("batch", 15, None)], []])
def test_a_heartbeat_of_ours_is_no_progress(places):  # R146 D9
    news = read_news(words.beat_line("12:00:31", places, 4.0).encode() + b"\n")
    assert (news.lines, news.heartbeats, news.progress) == (0, 1, None)
