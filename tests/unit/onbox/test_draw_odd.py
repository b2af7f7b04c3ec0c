"""Charts of numbers that a program may have, and that hardly differ, or differ by more than there is."""

import pytest
from hostile import CORPUS
from unit.text.test_hostile import shows

from fleet.text.untrusted import decode
from onbox.draw import png_chart, text_chart

LEAST, MOST = 5e-324, 1.7976931348623157e308
NUMBERS = (0, -0.0, LEAST, -LEAST, 2 * LEAST, MOST, -MOST, 1, -1, 10**17, True, 1e-300)


@pytest.mark.parametrize("low", NUMBERS)
def test_any_two_numbers_make_a_line(low):  # S22
    every = [
        pairs
        for high in NUMBERS
        for pairs in ([[1, low], [2, high]], [[low, 1], [high, 2]], [[low, low], [high, high]])
    ]
    for pairs in every:
        shown = text_chart({"loss": pairs}, 80)
        assert max(map(len, shown.split("\n"))) <= 80
        assert text_chart({"loss": pairs}, 40, ascii_only=True).isascii()


def test_the_least_differences_make_a_picture():  # S22
    for low, high in ((0, LEAST), (-LEAST, LEAST), (-MOST, MOST)):
        for pairs in ([[1, low], [2, high]], [[low, 1], [high, 2]]):
            assert len(png_chart({"loss": pairs})) < 200_000


@pytest.mark.parametrize("kind", CORPUS)
def test_a_name_in_a_chart_only_shows(kind):  # S23
    for entry in CORPUS[kind]:
        drawn = text_chart({decode(entry): [[1, 2.0], [2, 1.0]], decode(entry) + "x": []}, 80)
        shows(drawn)
        assert max(map(len, drawn.split("\n"))) <= 80
