"""`[BOX] RUN` on a command line: one word is the run, two are its box and the run."""

from collections.abc import Callable
from typing import Any

import click

_METAVAR = "[BOX] RUN"


def run_argument(*, required: bool = True) -> Callable[[Any], Any]:
    """The argument of a command that gets `run` and `box`; without `required` both may be None.

    One name may be armed on many boxes: what we advise names the box too, and what a person types need not
    while the name is on one box only.
    """
    shown = _METAVAR if required else f"[{_METAVAR}]"
    return click.argument("run", nargs=-1, metavar=shown, required=required, callback=_split)


def _split(ctx: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> str | None:
    if len(words) > 2 and not ctx.resilient_parsing:
        raise click.UsageError(f"one run at a time, as {_METAVAR}: {' '.join(words)!r}", ctx)
    ctx.params["box"] = words[0] if len(words) > 1 else None
    return words[-1] if words else None
