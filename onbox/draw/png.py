"""A chart as a PNG file, written byte by byte: palette, rows, zlib."""

import struct
import zlib
from typing import Any, Mapping, Optional, Tuple

from onbox.draw.font import HEIGHT, WIDTH, glyph
from onbox.draw.scale import Panel, columns, joined, number_text, panels, spot

_PAPER, _INK, _GRID, _LINE = range(4)
_PALETTE = bytes((255, 255, 255, 60, 64, 70, 222, 226, 230, 31, 95, 191))
_ZOOM = 2
_LETTER = (WIDTH + 1) * _ZOOM
_TALL = HEIGHT * _ZOOM
_LEFT = 11 * _LETTER
_EDGE = 8
_ABOVE, _BELOW = _TALL + 12, _TALL + 8
_SIZES = (200, 4096)
_PANEL = 60  # the least height of a panel


class _Canvas:
    """A rectangle of palette numbers; what is drawn outside of it is not drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [bytearray(width) for _ in range(height)]

    def block(self, left: int, top: int, wide: int, tall: int, colour: int) -> None:
        first, last = max(0, left), min(self.width, left + wide)
        if last <= first:
            return
        for row in self.rows[max(0, top) : max(0, min(self.height, top + tall))]:
            row[first:last] = bytes([colour]) * (last - first)

    def text(self, left: int, top: int, words: str) -> None:
        for at, char in enumerate(words):
            for down, bits in enumerate(glyph(char)):
                for across in range(WIDTH):
                    if bits >> (WIDTH - 1 - across) & 1:
                        x = left + at * _LETTER + across * _ZOOM
                        self.block(x, top + down * _ZOOM, _ZOOM, _ZOOM, _INK)


def png_chart(
    series: Mapping[str, Any],
    width: int = 960,
    height: int = 540,
    *,
    axis: str = "",
    says: Optional[Mapping[str, str]] = None,
) -> bytes:
    """A PNG file of `width` x `height` dots: one panel a key, six at most; values `[iteration, value]`.

    It is higher where the panels need it; 200 to 4096 dots either way. `axis` and `says` as in `text_chart`.
    """
    drawn = panels(series)
    wide = min(max(width, _SIZES[0]), _SIZES[1])
    tall = min(max(height, _SIZES[0], (_PANEL + _ABOVE + _BELOW) * len(drawn)), _SIZES[1])
    canvas = _Canvas(wide, tall)
    if not drawn:
        canvas.text(_EDGE, _EDGE, "nothing is tracked")
    for at, panel in enumerate(drawn):
        rows = (tall * at // len(drawn), tall * (at + 1) // len(drawn))
        _draw(canvas, panel, rows, axis, (says or {}).get(panel.key))
    return _file(canvas)


def _draw(canvas: _Canvas, panel: Panel, rows: Tuple[int, int], axis: str, says: Optional[str]) -> None:
    top, bottom = rows
    left, right = _LEFT + _EDGE, canvas.width - _EDGE
    high, low = top + _ABOVE, bottom - _BELOW  # the rows of the highest and lowest value
    if not panel.points:
        canvas.text(_EDGE, top + 6, _cut("%s: no number to draw" % panel.key, right - _EDGE))
        return
    facts = "  %s" % number_text(panel.points[-1][1])
    if panel.skipped:
        facts += "  (%d values left out)" % panel.skipped
    if says is not None:
        facts = "  %s" % says
    canvas.text(left, top + 6, _cut(panel.key, right - left - len(facts) * _LETTER) + facts)
    for share in range(5):
        canvas.block(left, high + (low - high) * share // 4, right - left, 1, _GRID)
    canvas.block(left - 1, high, 1, low - high + 1, _INK)
    canvas.block(left - 1, low, right - left + 1, 1, _INK)
    _trace(canvas, panel, left, right, (high, low))
    if panel.high == panel.low:
        _label(canvas, left, (high + low) // 2, panel.low)
    else:
        _label(canvas, left, high, panel.high)
        _label(canvas, left, low, panel.low)
    canvas.text(left, low + 4, number_text(panel.first) + axis)
    last = number_text(panel.last) + axis
    if panel.first != panel.last:
        canvas.text(right - len(last) * _LETTER, low + 4, last)


def _trace(canvas: _Canvas, panel: Panel, left: int, right: int, rows: "tuple[int, int]") -> None:
    high, low = rows
    steps = low - high
    spans = joined(
        [
            span
            and (spot(span[0], panel.low, panel.high, steps), spot(span[1], panel.low, panel.high, steps))
            for span in columns(panel, right - left - 2)
        ]
    )
    thick = 6 if len(panel.points) == 1 else 2
    for at, span in enumerate(spans):
        if span is not None:
            canvas.block(left + at, low - 1 - span[1], thick, span[1] - span[0] + thick, _LINE)


def _label(canvas: _Canvas, left: int, row: int, value: float) -> None:
    words = number_text(value)
    canvas.text(left - 4 - len(words) * _LETTER, row - _TALL // 2, words)


def _cut(words: str, room: int) -> str:
    fits = max(0, room // _LETTER)
    return words if len(words) <= fits else words[: max(0, fits - 2)] + ".."


def _file(canvas: _Canvas) -> bytes:
    head = struct.pack(">IIBBBBB", canvas.width, canvas.height, 8, 3, 0, 0, 0)  # 8 bits, palette
    rows = b"".join(b"\0" + bytes(row) for row in canvas.rows)  # no filter
    chunks = ((b"IHDR", head), (b"PLTE", _PALETTE), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
