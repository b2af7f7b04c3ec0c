"""The parts of a loop on their own: histories, credits for signals, who is in a group, what a program prints."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onbox.loop import console, ends, looks, ranks, signals
from onbox.loop.faults import Faults
from onbox.loop.history import POINTS, Series, fitting, newest
from onbox.loop.pace import Pace, gap
from onbox.loop.ranks import Held
from onbox.loop.running import Loop
from onbox.loop.stretch import Stretch


def series_of(count):
    one = Series()
    for n in range(1, count + 1):
        one.take(n, float(n))
    return one


@pytest.mark.parametrize("count", [1, POINTS - 1, POINTS, POINTS + 1, 5000, 200_000])
def test_a_history_is_bounded_and_spread_over_all_of_it(count):  # R152
    one = series_of(count)
    points = one.points
    assert len(points) < POINTS
    assert points[0] == (1, 1.0)
    steps = {behind[0] - before[0] for before, behind in pairwise(points)}
    assert steps <= {one.stride}
    assert count - points[-1][0] < one.stride
    assert count < POINTS or len(points) >= POINTS // 2 - 1


def test_only_numbers_are_points():
    one = Series()
    for value in (True, "1", None, [1], (1,), {"a": 1}, b"1", 2**2000):
        one.take(1, value)
        one.settle()
    assert one.points == []
    for value in (1, 1.5, float("nan")):
        one.take(2, value)
    assert len(one.points) == 3


def test_of_foreign_numbers_only_the_newest_waits():
    class Tensor:
        ndim = 0

        def __init__(self, value):
            self.value = value

        def item(self):
            return self.value

    one = Series()
    for n in (1, 2, 3):
        one.take(n, Tensor(n / 2))
    assert one.points == []
    one.settle()
    one.settle()
    assert one.points == [(3, 1.5)]


@settings(max_examples=40)
@given(st.integers(0, 3000), st.integers(200, 40_000))
def test_what_is_too_long_is_thinned_to_the_newest(count, cap):
    history = newest({"a": series_of(count), "b": series_of(count // 2)}, 0)
    kept = fitting(history, cap)
    assert len(json.dumps(kept)) <= cap
    for key, points in kept.items():
        assert points[-1] == history[key][-1]
        assert points[0][0] <= history[key][len(history[key]) // 2][0] or len(points) == 1


def test_a_rare_value_is_in_the_history_of_a_fast_loop():  # R152
    loop = Loop("l", None, 0, 1, None, 88)
    loop.begun()
    loop.pace(1e6)
    for index in range(50_000):
        loop.tracked["loss"] = float(index)
        if index % 1000 == 999:
            loop.tracked["rare"] = float(index)
        loop.index = index
        if index >= loop.stop_at:
            assert loop.boundary() == ""
    assert len(loop.series["loss"].points) < 200
    assert len(loop.series["rare"].points) >= 49  # the last one may lie behind the last sample


@pytest.mark.parametrize(
    ("environment", "said", "group"),
    [
        ({}, (None, None, None), (None, None, None)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (None, None, None), (None, None, None)),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "2"},
            (None, None, None),
            ("a:2", 1, 4),
        ),
        (
            {
                "RANK": "1",
                "WORLD_SIZE": "4",
                "TORCHELASTIC_RUN_ID": "r",
                "MASTER_ADDR": "a",
                "MASTER_PORT": "2",
            },
            (None, None, None),
            ("r", 1, 4),
        ),
        (
            {
                "RANK": "1",
                "WORLD_SIZE": "4",
                "TORCHELASTIC_RUN_ID": "none",
                "MASTER_ADDR": "a",
                "MASTER_PORT": "2",
            },
            (None, None, None),
            ("a:2", 1, 4),
        ),
        ({}, ("mine", -1, 1), ("mine", None, 1)),
        (
            {"RANK": "x", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "r"},
            (None, None, None),
            (None, None, None),
        ),
        ({"RANK": "1", "WORLD_SIZE": "4"}, ("mine", None, 8), ("mine", 1, 8)),
    ],
)
def test_who_is_in_a_group(monkeypatch, environment, said, group):  # R152
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.group(*said) == group


def test_the_first_word_stands(tmp_path):  # R152
    tmp_path.chmod(0o700)
    assert ranks.cast(tmp_path, "a" * 16, ranks.GO) == "go"
    assert ranks.cast(tmp_path, "a" * 16, ranks.VOID) == "go"
    assert ranks.decided(tmp_path, "a" * 16) == "go"
    assert ranks.decided(tmp_path, "b" * 16, within_s=0.01) == "void"
    assert ranks.cast(tmp_path, "b" * 16, ranks.GO) == "void"
    assert sorted(path.name for path in (tmp_path / "onbox/votes").iterdir()) == ["a" * 16, "b" * 16]


@pytest.fixture
def earlier():
    """A handler of the program's own, and ours in front of it; what was there before the test comes back."""
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: heard.append(number))
    try:
        assert not signals.installed()
        yield heard
    finally:
        signals.heard_by(None)
        signals.forked()
        signal.signal(signal.SIGUSR1, before)


def test_each_line_covers_one_signal_and_no_more(earlier):  # R152
    signals.heard_by(lambda: None)
    credit = signals.Credits()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (signals.arrived(), earlier) == (1, [])
    credit.lines(1)
    credit.settle(signals.arrived())
    assert (credit.open(), earlier) == (0, [])
    os.kill(os.getpid(), signal.SIGUSR1)
    credit.settle(signals.arrived())
    assert earlier == [signal.SIGUSR1]


def test_a_credit_that_is_left_over_is_let_go_when_the_program_moved(earlier):  # R152
    signals.heard_by(lambda: None)
    credit = signals.Credits()
    credit.lines(2)
    credit._read_at = type(credit._read_at)([time.monotonic() + 60] * 2)  # or we might be late
    credit.moved()
    assert credit.open() == 2
    credit._read_at = type(credit._read_at)([time.monotonic() - 2] * 2)
    credit.moved()
    assert credit.open() == 0


def test_the_earlier_handler_is_put_back(earlier):  # R152
    signals.heard_by(lambda: None)
    signals.put_back(signals.Credits())
    os.kill(os.getpid(), signal.SIGUSR1)
    assert earlier == [signal.SIGUSR1]


def test_a_signal_of_nobody_runs_no_line_of_python():  # R152
    """So that no flood can pile up calls on the program's stack."""
    ran = []
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        assert not signals.installed()
        sys.setprofile(lambda frame, event, _arg: ran.append((event, frame.f_code.co_filename)))
        os.kill(os.getpid(), signal.SIGUSR1)
        sys.setprofile(None)
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)
    assert [one for one in ran if one[0] == "call"] == []


def test_a_stretch_that_is_cut_ends_behind_the_turn_that_runs():  # R152
    stretch = Stretch(10, 20)
    assert stretch.finished() == 9  # nothing is said of the first before it began
    assert [next(stretch.turns) for _ in range(3)] == [10, 11, 12]
    assert stretch.finished() == 12
    stretch.cut()
    assert (list(stretch.turns), stretch.finished()) == ([], 12)
    stretch.cut()
    assert stretch.finished() == 12


def test_a_loop_over_a_range_that_is_held_looks_up_in_time():  # R152
    """Whoever holds it learns truly whether the iteration has passed; the loop stands at it."""
    loop = Loop("l", None, 0, 1, None, 88)
    loop.begun()
    loop.pace(1e6)
    loop.stop, loop.index = 1000, 0
    assert loop.boundary() == ""
    taken = [next(loop.stretch.turns) for _ in range(40)]
    assert (taken[-1], loop.iteration()) == (40, 40)
    assert not loop.hold(Held(40, "a" * 16, "continued"))
    assert list(loop.stretch.turns) == []
    loop.index = 40
    assert loop.boundary() == ""
    assert loop.hold(Held(45, "a" * 16, "continued"))
    assert list(loop.stretch.turns) == []
    assert loop.boundary() == ""
    assert list(loop.stretch.turns)[-1] == 44


def test_a_fast_loop_is_soon_looked_at_seldom():
    def settled():
        pace = Pace()
        pace.started()
        for turns in range(1, 65):
            pace.counted(turns)
        return pace.gap

    assert gap(1e6) in [settled() for _ in range(100)]  # one of them at least is not interrupted
    assert [gap(rate) for rate in (10, 19_999, 20_000, 60_000, 200_000)] == [1, 1, 13, 101, 499]


@pytest.mark.parametrize("stream", [None, object(), io.StringIO(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_whatever_standard_output_is_nothing_is_raised(monkeypatch, stream):  # R152
    monkeypatch.setattr(sys, "stdout", stream)
    faults = Faults()
    console.say("a \u2014 b\ud800", faults)
    assert faults.count == (0 if hasattr(stream, "write") else 1)
    if isinstance(stream, io.TextIOWrapper):
        assert stream.buffer.getvalue() == b"a ? b?\n"


def test_a_closed_standard_output_is_counted(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    faults = Faults()
    console.say("a", faults)
    assert faults.count == 1


def test_a_stack_names_the_line_that_runs():
    frames = next(one for one in looks.threads() if one["main"])["frames"]
    assert "test_a_stack_names_the_line_that_runs" in [frame["function"] for frame in frames]
    assert len(frames) <= 50


def test_a_fault_whose_text_raises_is_counted():
    class Evil(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError

    faults = Faults()
    faults.note(Evil())
    assert (faults.count, faults.newest) == (1, "Evil")


def test_importing_onbox_imports_no_loop():
    root = str(Path(console.__file__).parents[2])
    words = "import sys, onbox; assert 'onbox.loop' not in sys.modules; onbox.ipc_range; onbox.IPCStep"
    subprocess.run([sys.executable, "-c", words], env={"PYTHONPATH": root}, check=True)


def test_ends_by_request_outlive_the_short_loops_of_other_programs(tmp_path):  # R152 R34
    tmp_path.chmod(0o700)

    def left(n, how, **state):
        said = {"pid": 71, "start_ticks": 5, "n": n, "ended": how, "state": state}
        ends.write(tmp_path, said, durably=False)
        path = tmp_path / f"onbox/ended/71-5-{n}.json"
        os.utime(path, (n, n))

    for n in range(1, 21):
        left(n, "broken")
    left(21, "left", ended="broken")  # what a loop tracked is no word of ours
    os.mkfifo(tmp_path / "onbox/ended/9-9-9.json")
    os.utime(tmp_path / "onbox/ended/9-9-9.json", (22, 22))
    for n in range(23, 100):
        left(n, "finished")
    kept = {int(path.stem.split("-")[2]) for path in (tmp_path / "onbox/ended").iterdir()}
    assert kept == {*range(5, 21), *range(36, 100)}
