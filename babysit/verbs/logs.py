"""logs, results, handbook: what a run printed and wrote, and the page that says everything about it."""

import sys
from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import SPEC_OPTION

if TYPE_CHECKING:
    from babysit.acts.here import Here
    from fleet.model.run import Run

_BYTES_A_LINE = 400
_MOST_BYTES = 200 * 1024
_RAW = "The bytes as they are, without NULs (they may act on your terminal)."
_LINES = click.IntRange(1, 10_000)


@click.command()
@run_argument()
@click.option("-n", "--lines", "count", type=_LINES, default=50, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what comes, until the run is over.")
@click.option("--raw", is_flag=True, help=_RAW)
@SPEC_OPTION
def logs(*, box: str | None, run: str, count: int, follow: bool, raw: bool, spec: str | None) -> int:
    """Show the end of a run's log.

    Control characters are shown as their codes, so that nothing a job printed can act on this terminal.
    With -f new lines come within seconds, over every loss of the link, which is said on stderr; it ends
    with the run, and its exit code is the run's (0 finished, 20 failed, 10 needs attention).
    """
    from babysit.acts.here import here_anyway, run_named
    from babysit.acts.visit import boxes_of, opened
    from fleet.arming.read_run import tail_log
    from fleet.text.untrusted import decode, render_untrusted

    place = here_anyway(spec)
    with place.ledger_to_look() as (ledger, unwritable):
        known = run_named(ledger, run, box)
        if follow:
            return _follow(place, known, count, raw=raw)
        where = boxes_of((known,), place.spec)[known.box.name]
        with opened(ledger, where, keep=unwritable is None) as link:
            most = min(_MOST_BYTES, max(count * _BYTES_A_LINE, 16 * 1024))
            tail = tail_log(link, state_dir=known.box.state_dir, run_id=known.run_id, max_bytes=most)
    if raw:
        sys.stdout.buffer.write(b"".join(tail.data.splitlines(keepends=True)[-count:]))
        return 0
    # A progress bar rewrites its line by \r: what counts is what stood there last.
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in decode(tail.data).split("\n")]
    if shown and not shown[-1]:
        shown.pop()
    if tail.start > 0 and len(shown) < count:
        speak.note(f"(the log is {tail.size} bytes; only its end was fetched)")
    for line in shown[-count:]:
        speak.line(render_untrusted(line))
    return 0


def _follow(place: "Here", run: "Run", count: int, *, raw: bool) -> int:
    """Show the log as it grows; the exit code is the verdict's."""
    from babysit.acts.follow import Follower
    from babysit.verbs.follow import Screen
    from fleet import clock
    from fleet.text.untrusted import render_untrusted
    from patrol import report

    screen = Screen(count, raw=sys.stdout.buffer if raw else None)
    first = min(_MOST_BYTES, max(count * _BYTES_A_LINE, 16 * 1024))
    reader = Follower(
        place,
        run,
        first_bytes=first,
        take=screen.take,
        say=lambda text: speak.note(f"babysit: {render_untrusted(text)}"),
    )
    try:
        verdict = reader.to_the_end()
    except KeyboardInterrupt:
        screen.close()
        speak.note(f"babysit: no longer following {run.name}; on {run.box.name} it goes on")
        raise
    screen.close()
    for line in report.lines((verdict,), clock.now()):
        speak.note(line)
    for command in verdict.next:
        speak.note(f"next: {command}")
    return verdict.exit_code


@click.command()
@run_argument()
@click.option("--raw", is_flag=True, help=_RAW)
@SPEC_OPTION
def results(*, box: str | None, run: str, raw: bool, spec: str | None) -> int:
    """Print a run's result files as the job wrote them; numbers are not touched.

    Which files these are says `results` in babysit.toml. Fetches at most 200 kB; longer files are cut, and
    that is said.
    """
    from babysit.acts.here import here_anyway, run_named
    from babysit.acts.visit import boxes_of, opened
    from fleet.arming.read_files import read_files
    from fleet.errors import NotFound
    from fleet.text.untrusted import decode, render_untrusted

    place = here_anyway(spec)
    with place.ledger_to_look() as (ledger, unwritable):
        known = run_named(ledger, run, box)
        if not known.spec.results:
            hint = f'in babysit.toml, under [run.{known.name}]: results = ["FILE"]'
            hint += "; it holds from the next arm on"
            raise NotFound(f"run {run!r} names no result files", where=run, hint=hint)
        where = boxes_of((known,), place.spec)[known.box.name]
        with opened(ledger, where, keep=unwritable is None) as link:
            found = read_files(link, run=known, max_bytes=_MOST_BYTES)
    missing = [file.path for file in found if file.content is None]
    for file in found:
        if file.content is None:
            speak.note(render_untrusted(f"{file.path}: {file.why}"))
            continue
        if raw:
            sys.stdout.buffer.write(file.content)
            continue
        if len(found) > 1:
            speak.line(render_untrusted(f"{file.path}:"))
        for line in decode(file.content).removesuffix("\n").split("\n"):
            speak.line(render_untrusted(line))
        if file.cut:
            says = f"{file.path} is {file.size} bytes; only its beginning was fetched"
            speak.note(render_untrusted(says))
    return NotFound.exit_code if missing else 0


@click.command()
@run_argument(required=False)
@SPEC_OPTION
def handbook(*, run: str | None, box: str | None, spec: str | None) -> int:
    """Print the page from which anyone can take over a run; without RUN the index of all.

    The same page lies on the box, in the run's folder.
    """
    from babysit.acts.here import here_anyway, run_named
    from fleet.errors import NotFound
    from handbook import store

    place = here_anyway(spec)
    folder = place.folder / "handbook"
    page = folder / store.INDEX
    if run is not None:
        with place.ledger(write=False) as ledger:
            page = store.path(folder, run_named(ledger, run, box).run_id)
    if not page.is_file():
        raise NotFound("no handbook was written yet", where=run or "", next=("babysit patrol --once",))
    speak.line(page.read_text(encoding="utf-8", errors="replace").rstrip("\n"))
    return 0
