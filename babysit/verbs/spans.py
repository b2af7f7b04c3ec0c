"""Lengths of time as a person types them."""

import re
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Span(click.ParamType[float]):
    """`30s`, `10m`, `2h`, `1d`, or a number of seconds, between `least` and `most` seconds."""

    name = "time"

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; click says what does not fit."""
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?(s|m|min|h|d)?", str(value).strip(), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no time: write 30s, 10m or 2h", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2] or ""]
        if not self._least <= seconds <= self._most:
            self.fail(f"{value} is not between {self._least:g} and {self._most:g} seconds", param, ctx)
        return seconds
