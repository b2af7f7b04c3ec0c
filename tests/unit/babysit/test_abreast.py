"""Side by side: what hangs holds up nobody, what is ready counts, what fails is told."""

import threading

import pytest

from babysit.acts.abreast import abreast


def test_they_act_side_by_side():
    both = threading.Barrier(2)
    assert set(abreast({"a": 1, "b": 2}, lambda _: both.wait(20), limit_s=20)) == {"a", "b"}


def test_who_hangs_is_left_out():
    never = threading.Event()
    try:
        assert abreast({"a": 50}, never.wait, limit_s=0.1) == {}
    finally:
        never.set()


def test_nobody_begins_after_the_limit():
    began = []
    assert abreast({str(number): number for number in range(3)}, began.append, limit_s=0) == {}
    assert began == []


def test_more_than_go_at_once_all_get_their_turn():
    assert abreast({str(n): n for n in range(100)}, lambda n: n * n, limit_s=20) == {
        str(n): n * n for n in range(100)
    }


def test_what_fails_is_raised_where_it_was_asked():
    def act(_: int) -> None:
        raise OSError("no such luck")

    with pytest.raises(OSError, match="no such luck"):
        abreast({"a": 1}, act, limit_s=20)
