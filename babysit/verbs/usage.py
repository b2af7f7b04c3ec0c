"""usage: what a watched run used of its box."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION
from babysit.verbs.spans import Span

if TYPE_CHECKING:
    from babysit.acts.usage import Shown

_YEAR_S = 366 * 86400.0


@click.command()
@run_argument(required=False)
@click.option("--stage", metavar="STAGE", help="Only this stage.")
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="Only this attempt. Drawn is the newest."
)
@click.option("--last", type=Span(0.1, _YEAR_S), metavar="10m", help="Draw only the last of it.")
@click.option("--file", "file", metavar="PATH", help="A file of samples on the box, in place of RUN.")
@click.option("--png", type=click.Path(dir_okay=False), help="Draw the curves into this file.")
@JSON_OPTION
@SPEC_OPTION
def usage(*, box: str | None, run: str | None, file: str | None, spec: str | None, **options: Any) -> int:
    """Show what a run used: CPU, memory, GPU, disk, processes, over time and in all, and how it ended.

    For stages with `monitor = true`, running or over. The box sums up its samples; one short connection.

    \b
      babysit usage gpu1 train
      babysit usage gpu1 train --attempt 1 --png train.png
      babysit usage gpu1 --file runs/usage.jsonl --last 10m
    """  # noqa: D301 - click wants the very character
    from babysit.acts.here import here_anyway
    from babysit.acts.usage import usage as asked

    if file and box is None:
        box, run = run, None
    _one_of_both(box, run, file, options)
    shown = asked(
        here_anyway(spec),
        box,
        run=run,
        file=file,
        stage=options["stage"],
        attempt=options["attempt"],
        last_s=options["last"],
    )
    if options["png"]:
        _drawn(shown, Path(options["png"]))
    if options["as_json"]:
        from fleet.steering.usage import document

        speak.document(document(shown.found, shown.wish, box=shown.box, took_s=shown.took_s))
    else:
        _show(shown, charts=not options["png"])
    return 0


def _one_of_both(box: str | None, run: str | None, file: str | None, options: dict[str, Any]) -> None:
    from fleet.errors import UsageError

    where, next_ = box or "usage", ("babysit usage --help",)
    if (run is None) == (not file):
        given = "neither was" if run is None else "both were"
        raise UsageError(f"name a run or a --file: {given} given", where=where, next=next_)
    if file and box is None:
        raise UsageError("name the box on which the file is", where=where, next=next_)
    if file and (options["stage"] or options["attempt"]):
        raise UsageError("--stage and --attempt mean nothing to a file", where=where, next=next_)


def _show(shown: "Shown", *, charts: bool) -> None:
    from fleet.steering.usage import numbers
    from onbox.usage.remarks import remarks
    from onbox.usage.says import charts as curves
    from onbox.usage.says import table

    if shown.shipped:
        speak.note(f"babysit: the tool was sent to {shown.box} first")
    found = numbers(shown.found)
    for line in table(found):
        speak.line(line)
    for says in remarks(found):
        speak.prose(says)
    if charts:
        for line in curves(found, speak.width(), ascii_only=not speak.takes_unicode()):
            speak.line(line)


def _drawn(shown: "Shown", path: Path) -> None:
    from fleet.errors import NotFound, UsageError
    from fleet.steering.usage import numbers
    from fleet.text.untrusted import render_untrusted
    from onbox.usage.says import picture

    content = picture(numbers(shown.found))
    if content is None:
        raise NotFound("there is nothing to draw: fewer than two samples", where=shown.box)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
    speak.note(f"written: {render_untrusted(str(path))}")
