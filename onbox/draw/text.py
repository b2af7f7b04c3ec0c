"""A chart as lines of text, for a terminal of any width."""

import unicodedata
from typing import Any, List, Mapping, Optional, Tuple

from onbox.draw.scale import Panel, columns, joined, number_text, panels, spot

_MARGIN = 12  # room for a number, a blank and the axis
_SMALLEST = 36
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # Unicode braille: left column, right column
_FILLERS = "\u1160\uffa0"  # letters to Unicode, and nothing on a screen; the others of them are wide
_AXIS = {False: "\N{BOX DRAWINGS LIGHT VERTICAL}", True: "|"}


def text_chart(
    series: Mapping[str, Any],
    width: int = 80,
    height: int = 8,
    *,
    ascii_only: bool = False,
    axis: str = "",
    says: Optional[Mapping[str, str]] = None,
) -> str:
    """One panel a key, six at most, each of `height` rows and `width` columns; values `[iteration, value]`.

    In braille, eight dots a character, or in plain ASCII. What is no finite number is left out and counted.
    `axis` is the unit of the first of each pair; `says` what stands behind a key, its newest value otherwise.
    """
    drawn = panels(series)
    if not drawn:
        return "nothing is tracked: no chart\n"
    lines: List[str] = []
    for panel in drawn:
        facts = (says or {}).get(panel.key)
        lines += _panel_lines(
            panel, max(width, _SMALLEST), max(height, 2), axis, facts, ascii_only=ascii_only
        )
    if len(series) > len(drawn):
        lines.append("and %d more" % (len(series) - len(drawn)))
    return "\n".join(lines) + "\n"


def plain_key(text: str, room: int, *, ascii_only: bool = False) -> str:
    """A key that a terminal can show in `room` columns: anything that is no visible character is `?`."""
    seen = "".join(_visible(char, ascii_only=ascii_only) for char in text[:room])
    return seen if len(text) <= room else seen[: max(0, room - 2)] + ".."


def _visible(char: str, *, ascii_only: bool) -> str:
    if char.isascii():
        return char if char.isprintable() else "?"
    narrow = char.isprintable() and unicodedata.east_asian_width(char) not in ("W", "F")
    seen = unicodedata.category(char)[0] != "M" and char not in _FILLERS
    return char if narrow and seen and not ascii_only else "?"


def _panel_lines(
    panel: Panel, width: int, height: int, axis: str, says: Optional[str], *, ascii_only: bool
) -> List[str]:
    if not panel.points:
        return ["%s: no number to draw" % plain_key(panel.key, width - 22, ascii_only=ascii_only), ""]
    facts = "  %s  (%d point%s%s)" % (
        number_text(panel.points[-1][1]),
        len(panel.points),
        "" if len(panel.points) == 1 else "s",
        ", %d left out" % panel.skipped if panel.skipped else "",
    )
    if says is not None:
        facts = "  %s" % says
    lines = [(plain_key(panel.key, width - len(facts), ascii_only=ascii_only) + facts)[:width]]
    room = width - _MARGIN
    rows = _ascii_rows(panel, room, height) if ascii_only else _braille_rows(panel, room, height)
    flat = panel.high == panel.low
    labels = {height // 2: panel.low} if flat else {0: panel.high, height - 1: panel.low}
    for at, row in enumerate(rows):
        label = number_text(labels[at]) if at in labels else ""
        lines.append(("%10s %s%s" % (label, _AXIS[ascii_only], row)).rstrip())
    first, last = (number_text(end) + axis for end in (panel.first, panel.last))
    foot = first if panel.first == panel.last else first + last.rjust(room - len(first))
    return [*lines, " " * _MARGIN + foot, ""]


def _spans(panel: Panel, width: int, steps: int) -> List[Optional[Tuple[int, int]]]:
    """Lowest and highest step of each column, from the bottom."""
    return joined(
        [
            span
            and (spot(span[0], panel.low, panel.high, steps), spot(span[1], panel.low, panel.high, steps))
            for span in columns(panel, width)
        ]
    )


def _ascii_rows(panel: Panel, width: int, height: int) -> List[str]:
    spans = _spans(panel, width, height)
    return [
        "".join("*" if span and span[0] <= step <= span[1] else " " for span in spans)
        for step in reversed(range(height))
    ]


def _braille_rows(panel: Panel, width: int, height: int) -> List[str]:
    steps = height * 4
    cells = [[0] * width for _ in range(height)]
    for column, span in enumerate(_spans(panel, width * 2, steps)):
        if span is None:
            continue
        for step in range(span[0], span[1] + 1):
            down = steps - 1 - step
            cells[down // 4][column // 2] |= _DOTS[column % 2][down % 4]
    return ["".join(chr(_BRAILLE + cell) if cell else " " for cell in row) for row in cells]
