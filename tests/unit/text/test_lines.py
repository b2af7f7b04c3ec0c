"""Lines of a log that is followed: whatever pieces it comes in, in whatever amount."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.text.lines import KEPT_BYTES, Lines
from fleet.text.untrusted import MAX_LINE_CHARS, render_untrusted

CASES = {
    "whole lines": ([b"a\nb\n"], ["a", "b"], ""),
    "a line in pieces": ([b"a", b"b", b"\nc"], ["ab"], "c"),
    "a character in pieces": (["é".encode()[:1], "é".encode()[1:] + b"\n"], ["é"], ""),
    "empty lines": ([b"\n\n", b"\n"], ["", "", ""], ""),
    "dos": ([b"a\r", b"\nb\r\n"], ["a", "b"], ""),
    "a bar": ([b"1%\r2%\r", b"3%\rdone\n"], ["done"], ""),
    "a bar that goes on": ([b"x\n1%\r2%\r", b"\r3%\r"], ["x"], "3%"),
    "a rewrite of nothing": ([b"\r\r\n"], [""], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_lines_and_what_is_left_of_them(case):
    pieces, want, rest = CASES[case]
    lines = Lines()
    assert [line for piece in pieces for line in lines.feed(piece)] == want
    assert lines.empty is (rest == "")
    assert lines.rest() == rest
    assert lines.empty


@given(
    st.text(st.sampled_from("ab\r\né\x1b"), max_size=60).map(str.encode),
    st.lists(st.integers(0, 80), max_size=6),
)
def test_the_pieces_do_not_matter(data, cuts):
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:stop] for start, stop in pairwise(at)]
    one, many = Lines(), Lines()
    assert list(one.feed(data)) == [line for piece in pieces for line in many.feed(piece)]
    assert one.rest() == many.rest()


def test_a_bar_is_told_from_a_line_that_is_just_written():
    lines = Lines()
    assert list(lines.feed(b"half a line")) == [] and lines.bar == ""
    assert list(lines.feed(b"\n10%\r20%")) == ["half a line"] and lines.bar == "20%"
    assert list(lines.feed(b"\nnext")) == ["20%"] and lines.bar == ""


def test_a_line_of_100_mb_is_cut_and_said_in_bounded_memory():
    lines, piece = Lines(), b"x" * 192 * 1024
    tracemalloc.start()
    try:
        for _ in range(100_000_000 // len(piece)):
            assert list(lines.feed(piece)) == []
        (line,) = lines.feed(b"the end\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(piece)
    assert MAX_LINE_CHARS < len(line) <= KEPT_BYTES
    assert render_untrusted(line).endswith("(line cut)")
    assert list(lines.feed(b"short\n")) == ["short"]
