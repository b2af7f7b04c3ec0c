"""Tracked values as charts, drawn here from what was fetched: a terminal's text, a PNG, or a page. Pure."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.steering.answers import Part
from fleet.steering.says import harmless, name_of, progress
from fleet.text.fill import Raw, fill_html
from onbox.draw import png_chart, text_chart
from onbox.draw.scale import MAX_PANELS, Panel, columns, number_text, panels

Series = Mapping[str, Any]
_WIDTH, _HEIGHT = 800, 200
_MARGIN = 8.0
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;color:#222}"
    "h1{font-size:1.3em}h2{font-size:1em;margin:1.5em 0 .3em}small{font-weight:normal;color:#555}"
    "svg{width:100%;background:#fafafa}svg line{stroke:#ddd}svg text{font-size:11px;fill:#555}"
    "polyline{fill:none;stroke:#1f5fbf;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}"
)


def series_of(parts: Sequence[Part]) -> dict[str, Any]:
    """What each loop tracked, by name; with several loops the pid stands before it. Texts are harmless."""
    found: dict[str, Any] = {}
    for part in parts:
        history = (part.reply or {}).get("history")
        for key, pairs in history.items() if isinstance(history, dict) else ():
            found[harmless(f"{part.pid}: {key}" if len(parts) > 1 else key)] = pairs
    return found


def as_text(series: Series, width: int, *, ascii_only: bool) -> str:
    """Charts for a terminal of `width` columns."""
    return text_chart(series, width, ascii_only=ascii_only)


def as_png(series: Series) -> bytes:
    """The same as one PNG file."""
    return png_chart(series)


def as_page(series: Series, parts: Sequence[Part], *, box: str, at: str) -> str:
    """The same as one page that loads nothing and runs nothing: its policy forbids both."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    loops = "; ".join(f"{name_of(part)} {progress(part)}" for part in parts)
    return fill_html(
        "plot.html",
        title=f"Tracked values on {box}",
        says=f"{at} · {loops}",
        style=Raw(_STYLE),
        style_hash=Raw(f"sha256-{digest}"),
        charts=[_chart(panel) for panel in panels(series)[:MAX_PANELS]],
        width=_WIDTH,
        height=_HEIGHT,
    )


def _chart(panel: Panel) -> dict[str, Any]:
    if not panel.points:
        return {"key": panel.key, "newest": "no number to draw", "points": "", "grid": [], "span": ""}
    left_out = f", {panel.skipped} values left out" if panel.skipped else ""
    return {
        "key": panel.key,
        "newest": f"{number_text(panel.points[-1][1])}{left_out}",
        "points": Raw(_points(panel)),
        "grid": [
            {"y": f"{_y(panel, value):.1f}", "says": number_text(value)}
            for value in dict.fromkeys((panel.high, panel.low))
        ],
        "span": f"iteration {number_text(panel.first)} to {number_text(panel.last)}",
    }


def _points(panel: Panel) -> str:
    """`x,y` of every column that has a value: its highest and its lowest, so that no spike is lost."""
    spots = [
        f"{x},{_y(panel, value):.1f}"
        for x, span in enumerate(columns(panel, _WIDTH))
        if span is not None
        for value in span
    ]
    return " ".join(spots)


def _y(panel: Panel, value: float) -> float:
    # Halved first: the distance between two finite numbers may be none.
    tall = panel.high / 2 - panel.low / 2
    share = (value / 2 - panel.low / 2) / tall if tall else 0.5
    return _HEIGHT - _MARGIN * 2 - share * (_HEIGHT - _MARGIN * 4)
