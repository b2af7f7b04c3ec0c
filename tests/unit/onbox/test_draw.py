"""Charts: what stands in them, and that no value breaks them."""

import math
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
import pythons
from hypothesis import given, settings
from hypothesis import strategies as st

import onbox
from onbox.draw import png_chart, text_chart
from onbox.draw.font import glyph
from onbox.draw.scale import columns, number_text, panels, spot

FALLING = [[at, 2.3 * math.exp(-at / 40)] for at in range(1, 201)]


def unpacked(png):
    """Width, height and the rows of palette numbers; every checksum is checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, depth, colours, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colours, rest) == (8, 3, [0, 0, 0])
    content = zlib.decompress(chunks[b"IDAT"])
    assert len(content) == height * (width + 1)
    rows = [content[row * (width + 1) : (row + 1) * (width + 1)] for row in range(height)]
    assert all(row[0] == 0 for row in rows)
    assert max(max(row) for row in rows) < len(chunks[b"PLTE"]) // 3
    return width, height, [row[1:] for row in rows]


def test_a_falling_line_falls():
    rows = text_chart({"loss": FALLING}, 80, 8).split("\n")
    assert rows[0] == "loss  0.0155  (200 points)"
    chart = [row[12:] for row in rows[1:9]]
    first = [row.strip()[:1] and len(row) - len(row.lstrip()) for row in chart if row.strip()]
    assert first == sorted(first)  # further down begins further right
    assert rows[1].startswith("     2.243 │") and rows[8].startswith("    0.0155 │")
    assert rows[9] == " " * 12 + "1" + "200".rjust(67)


def test_a_value_holds_until_it_is_another():
    """A history has points where a value changed; a rate that was cut at once must not look like a slope."""
    held = columns(panels({"lr": [[1, 0.01], [90, 0.001], [100, 0.001]]})[0], 100)
    assert set(held[:88]) == {(0.01, 0.01)}
    assert set(held[90:]) == {(0.001, 0.001)}


def test_panels_share_their_iterations():
    held = panels({"lr": [[1, 0.01], [90, 0.001]], "loss": [[at, 1 / at] for at in range(1, 201)]})
    assert [(panel.first, panel.last) for panel in held] == [(1, 200)] * 2
    assert columns(held[0], 200)[150:] == [(0.001, 0.001)] * 50


def test_an_ascii_chart_is_ascii():
    drawn = text_chart({"vérité": FALLING, "ok": [[1, 1]]}, 60, 5, ascii_only=True)
    assert drawn.isascii() and "*" in drawn and "|" in drawn and "v?rit?" in drawn


def test_a_flat_line_stands_in_the_middle_with_its_number():
    rows = text_chart({"lr": [[1, 0.001], [90, 0.001]]}, 80, 8).split("\n")
    (line,) = [row for row in rows[1:9] if row[12:].strip()]
    assert line.startswith("     0.001 │") and len(line) == 80


def test_what_is_no_number_is_left_out_and_counted():
    series = {
        "loss": [
            [1, 2.0],
            [2, math.nan],
            [3, "NaN"],
            [4, math.inf],
            [5, None],
            "x",
            [6],
            [7, 1.0],
            [8, 10**400],
        ]
    }
    assert "(2 points, 7 left out)" in text_chart(series)
    assert text_chart({"name": [[1, "adam"]]}) == "name: no number to draw\n\n"
    assert text_chart({}) == "nothing is tracked: no chart\n"


def test_six_panels_are_enough_and_those_with_numbers_come_first():
    series = {"text": [[1, "x"]], **{f"k{at}": [[1, at]] for at in range(8)}}
    assert [panel.key for panel in panels(series)] == [f"k{at}" for at in range(6)]
    assert text_chart(series).endswith("and 3 more\n")


def test_no_line_is_wider_than_asked_and_no_sign_acts_on_a_terminal():
    nasty = {"\x1b[31m" + "k" * 200: FALLING, "\u202eevil": FALLING, "宽": FALLING, "a\nb": [[1, "x"]]}
    for width in (36, 40, 80, 200):
        for line in text_chart(nasty, width, 4).split("\n"):
            assert len(line) <= width and "\x1b" not in line and "\u202e" not in line


def test_a_png_holds_axes_labels_and_the_line():
    width, height, rows = unpacked(png_chart({"loss": FALLING, "acc": [[1, 0.5], [9, 0.7]]}, 640, 300))
    assert (width, height) == (640, 300)
    counts = [sum(row.count(colour) for row in rows) for colour in range(4)]
    assert all(counts) and counts[0] > counts[1] > 0
    line = [at for at, row in enumerate(rows[:150]) if 3 in row]
    first = [rows[at].index(3) for at in line]
    assert min(line) < 30 and max(line) > 110 and first == sorted(first)


def test_a_png_without_points_is_still_a_picture():
    for series in ({}, {"name": [[1, "x"]]}, {"one": [[5, 1.0]]}):
        unpacked(png_chart(series, 300, 200))


def test_the_size_of_a_png_is_bounded_and_grows_with_its_panels():
    assert unpacked(png_chart({}, 1, 1))[:2] == (200, 200)
    assert unpacked(png_chart({}, 10**9, 300))[0] == 4096
    six = {f"k{at}": FALLING for at in range(6)}
    assert unpacked(png_chart(six, 400, 200))[1] >= 6 * 60


def test_digits_differ_and_an_unknown_sign_is_a_box():
    assert len({glyph(char) for char in "0123456789.-+eE"}) == 14
    assert glyph("a") == glyph("A") and glyph("宽") == (7, 5, 5, 5, 7)
    assert all(len(glyph(chr(code))) == 5 and max(glyph(chr(code))) < 8 for code in range(0x20, 0x7F))
    assert len({glyph(chr(code)) for code in range(0x21, 0x60)}) > 55


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3430, "3430"),
        (0.001, "0.001"),
        (-2.0449e-5, "-2.045e-05"),
        (1e300, "1e+300"),
        (-1.5705e131, "-1.57e+131"),
        (123456789012, "1.235e+11"),
    ],
)
def test_a_number_fits_beside_its_axis(value, text):
    assert number_text(value) == text and len(text) <= 10


def test_the_ends_of_a_scale_are_its_ends():
    assert [spot(value, 0, 10, 11) for value in (-1, 0, 5, 10, 11)] == [0, 0, 5, 10, 10]
    assert spot(3, 3, 3, 9) == 4
    assert spot(0, -1.7e308, 1.7e308, 101) == 50


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
points = st.lists(st.lists(anything, max_size=3) | anything, max_size=30)
straight = st.lists(st.tuples(st.integers(0, 10**12), st.floats()).map(list), max_size=40)


@settings(max_examples=80, deadline=None)
@given(
    series=st.dictionaries(st.text(max_size=8), points | straight | anything, max_size=3),
    width=st.integers(-5, 130),
    height=st.integers(-5, 12),
    ascii_only=st.booleans(),
)
def test_no_series_breaks_a_chart(series, width, height, ascii_only):
    drawn = text_chart(series, width, height, ascii_only=ascii_only)
    assert all(len(line) <= max(width, 36) for line in drawn.split("\n"))
    assert not ascii_only or drawn.isascii()


@settings(max_examples=8, deadline=None)
@given(series=st.dictionaries(st.text(max_size=8), points | straight, max_size=2))
def test_no_series_breaks_a_picture(series):
    unpacked(png_chart(series, 200, 200))


@pytest.mark.parametrize("version", sorted(pythons.found()))
def test_every_python_draws_the_same(version):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from onbox.draw import *; import hashlib\n"
        "s = {'loss': [[i, 1 / (i + 1)] for i in range(99)]}\n"
        "sys.stdout.buffer.write((text_chart(s) + str(len(png_chart(s)) > 500)).encode('utf-8'))"
    )
    done = subprocess.run(
        [pythons.found()[version], "-W", "error", "-c", code, str(Path(onbox.__file__).parents[1])],
        capture_output=True,
        check=True,
    )
    series = {"loss": [[at, 1 / (at + 1)] for at in range(99)]}
    assert done.stdout.decode() == text_chart(series) + "True"
