"""patrol, status, crontab: how is everything, and what makes sure that somebody asks."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from fleet import clock
from fleet.errors import NeedsApproval, UsageError
from fleet.text.untrusted import render_untrusted

if TYPE_CHECKING:
    from babysit.acts.here import Here
    from babysit.acts.tick import Tick
    from fleet.ledger.ledger import Ledger
    from fleet.ledger.rows import Event, OutboxRow
    from fleet.model.run import Run
    from sentinels.pulse import Gap

SPEC_OPTION = click.option("--spec", metavar="FILE", help="Use this babysit.toml instead of the nearest one.")
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
ORIGIN = "BABYSIT_ORIGIN"
_DAY_S = 86400.0


@click.command()
@click.option("--once", is_flag=True, help="One tick, then end (what it does without the flag, too).")
@click.option("--now", "every_box", is_flag=True, help="Ask boxes too that failed lately and are left alone.")
@click.option("--every", metavar="30m", help="A tick now and then again, until this terminal closes.")
@JSON_OPTION
@SPEC_OPTION
def patrol(*, once: bool, every_box: bool, every: str | None, as_json: bool, spec: str | None) -> int:
    """Ask every box once and say how each run is.

    One connection a box, all boxes side by side, at most 60 seconds. Prints a line for every run even
    when nothing changed. Starts and stops nothing. A box that did not answer is left alone for a while,
    longer each time (24 minutes at the most); --now asks it all the same.

    With --every it stays in the foreground and does the same again and again (one minute at the least;
    Ctrl-C ends it). It dies with its terminal; cron does not: babysit crontab.
    """
    if every is not None:
        if once or every_box:
            word = "--once" if once else "--now"
            raise UsageError(f"{word} and --every exclude each other", next=(f"babysit patrol {word}",))
        return _again_and_again(every, as_json=as_json, spec=spec)
    from babysit.acts.here import here_anyway
    from babysit.acts.tick import tick
    from babysit.acts.tick_child import gaps_told

    place = here_anyway(spec)
    gaps = gaps_told()
    done = tick(place, origin=os.environ.get(ORIGIN, "hand"), every_box=every_box)
    (_show_document if as_json else _show)(done, gaps)
    _keep_up(place, done)
    return done.exit_code


def _show_document(done: "Tick", gaps: "tuple[Gap, ...]") -> None:
    from patrol import report

    content = report.document(done.verdicts, at=done.at, cursor=str(done.cursor), exit_code=done.exit_code)
    content["errors"] = [speak.error_document(error) for error in done.errors]
    content["armed"] = list(done.armed)
    content["missed"] = done.missed
    content["gaps"] = [
        {
            "kind": gap.kind,
            "from": report.iso(gap.since),
            "to": report.iso(gap.until),
            "missed": gap.missed,
        }
        for gap in gaps
    ]
    speak.document(content)


def _show(done: "Tick", gaps: "tuple[Gap, ...]") -> None:
    """What was missed, a line a run, what went wrong beside it, and what watches."""
    from fleet.text.say import plural
    from patrol import report
    from sentinels import pulse

    now = clock.now()
    if done.missed:
        speak.prose(
            f"nobody looked for a while: {plural(done.missed, 'firing')} of cron missed before this tick"
        )
    for gap in gaps:
        speak.prose(pulse.says(gap))
    for line in report.lines(done.verdicts, now):
        speak.line(line)
    for error in done.errors:
        speak.trouble(f"babysit: {error.what}")
        for command in error.next:
            speak.note(render_untrusted(f"next: {command}"))
    for line in report.closing(done.verdicts, done.took_s, done.armed):
        speak.line(line)


def _keep_up(place: "Here", done: "Tick") -> None:
    """The daily backup and the pruning, when the report is out; what fails there is only noted."""
    from babysit.acts.check import upkeep

    for error in upkeep(place) if done.kept else ():
        speak.trouble(f"babysit: {error.what}")


def _again_and_again(interval: str, *, as_json: bool, spec: str | None) -> int:
    from babysit.acts import every
    from babysit.acts.here import here_anyway
    from fleet.text.say import duration

    seconds = every.seconds_of(interval)
    place = here_anyway(spec)
    speak.note(f"patrol every {duration(seconds)} from this terminal (pid {os.getpid()}). Ctrl-C ends it.")
    speak.note("It dies with this terminal and sleeps with this machine; the runs do neither.")
    speak.note("Without a terminal: babysit crontab prints a line for cron.")
    options = ("--json",) if as_json else ()
    named = ("--spec", spec) if spec else ()
    return every.every(place, seconds, options=(*options, *named), tell=speak.note)


@click.command()
@run_argument(required=False)
@click.option("--all", "every", is_flag=True, help="Superseded and disarmed runs too, marked as such.")
@JSON_OPTION
def status(*, run: str | None, box: str | None, every: bool, as_json: bool) -> int:
    """Show what the last tick knew, without asking any box.

    Reads the ledger only, so it works with no network; AGE says how old each line is. With RUN also what
    happened to it: the newest 20 events, those of the patrol and the commands given to its loops; without,
    the newest 5 commands of a day.
    """
    from babysit.acts import armed
    from fleet.ledger.ledger import Ledger
    from fleet.ledger.paths import state_folder
    from fleet.model.verdict import TERMINAL
    from fleet.text.say import plural
    from patrol import report, timeline
    from patrol.status import rings, status_table

    now = clock.now()
    with Ledger.open(state_folder(), write=False) as ledger:
        runs = ledger.runs.all(current=not every) if run is None else (_named(ledger, run, box),)
        events = _events(ledger, runs[0] if run else None)
        verdicts = ledger.ticks.verdicts()
        recent = rings(ledger.ticks.histories())
        fires = armed.triggers(ledger, now)
        last = next(iter(ledger.ticks.seen(limit=1)), None)
        lost = ledger.outbox.undelivered()
    known = [verdicts[each.run_id] for each in runs if each.run_id in verdicts]
    if as_json:
        cursor = str(last.id) if last else None
        content = report.document(known, at=last.at if last else None, cursor=cursor, exit_code=0)
        content["schema"] = "babysit.status/1"
        unseen = [each for each in runs if each.run_id not in verdicts]
        content["runs"] += [_unseen(each) for each in unseen]
        content["summary"] += f"; {plural(len(unseen), 'run')} not seen yet" if unseen else ""
        content["armed"] = list(armed.phrases(fires))
        content["events"] = timeline.document(events)
        content["disarmed"] = [known.run_id for known in runs if known.disarmed_at is not None]
        content["undelivered"] = [
            {"run": row.event.run_id, "target": row.target, "tries": row.tries} for row in lost
        ]
        speak.document(content)
        return 0
    if runs:
        watching = {each.run_id: armed.phrases(fires, each.run_id) for each in runs}
        for line in status_table(runs, verdicts, recent, watching, now):
            speak.line(line)
        over = [each for each in runs if each.run_id in verdicts and verdicts[each.run_id].health in TERMINAL]
        if run is None and len(over) < len(runs):
            speak.line()
            for leg in armed.legs(fires):
                speak.prose(leg)
    else:
        more = "" if every else " (babysit status --all: disarmed ones too)"
        speak.prose(f"No run is watched here.{more}")
    _tell_events(events, now, of_run=run is not None)
    for row in lost:
        speak.prose(_undelivered(row))
    return 0


def _unseen(run: "Run") -> dict[str, object]:
    """A run of which no look is known, as the document has it."""
    next_ = ["babysit patrol --once"]
    return {"run": run.name, "id": run.run_id, "box": run.box.name, "health": None, "next": next_}


def _undelivered(row: "OutboxRow") -> str:
    notice, tries = f"notice for {row.event.run_id}", f"{row.tries} tries" if row.tries != 1 else "1 try"
    if row.error is None:  # queued, or in somebody's hands this very moment
        tried = tries if row.tries else "not tried"
        return f"{notice} waits to be sent to {row.target} ({tried} so far): babysit patrol --once sends it"
    return f"{notice} not delivered to {row.target} ({tries}): {row.error}"


def _named(ledger: "Ledger", run: str, box: str | None) -> "Run":
    from babysit.acts.here import run_named

    return run_named(ledger, run, box)


def _events(ledger: "Ledger", run: "Run | None") -> "tuple[Event, ...]":
    """The newest events of `run`, with what was said on its box to loops of no run; of all runs without."""
    from patrol import timeline

    if run is None:
        return ledger.ticks.events(limit=timeline.SHOWN)
    return ledger.ticks.events(run.run_id, timeline.SHOWN, on=run.box.name)


def _tell_events(events: "tuple[Event, ...]", now: float, *, of_run: bool) -> None:
    from patrol import timeline

    if not of_run:
        given = [event for event in events if event.kind == timeline.COMMAND and now - event.at < _DAY_S]
        events = tuple(given[: timeline.COMMANDS_SHOWN])
    if events:
        speak.line("What happened, newest last" if of_run else "Commands given, newest last")
    elif of_run:
        speak.line("Nothing has happened yet that was told, and no loop of it was sent a command.")
    for line in timeline.lines(events, now):
        speak.line(line)


@click.command()
@click.option("--install", is_flag=True, help="Put the line into your crontab.")
@click.option("--remove", is_flag=True, help="Take it out again, and nothing else.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@SPEC_OPTION
def crontab(*, install: bool, remove: bool, yes: bool, spec: str | None) -> int:
    """Print the line that lets cron do the patrol. Installs nothing unless told to.

    Paths are absolute, because cron knows neither your PATH nor your folder; two minutes off the full
    half hour, because everybody else asks then. What --install put in, --remove takes out.
    """
    from babysit.acts import cron_line
    from babysit.acts.here import here, here_anyway

    if install and remove:
        raise UsageError("--install and --remove exclude each other", next=("babysit crontab",))
    if remove:
        count = cron_line.remove(cron_line.mark_of(here_anyway(spec).folder))
        speak.prose("The line is out of your crontab." if count else "Your crontab holds no line of ours.")
        return 0
    place = here(spec)
    speak.line(line := _cron_line(place))
    if install:
        if not yes and not speak.said_yes("Put this line into your crontab?"):
            again = "babysit crontab --install --yes"
            raise NeedsApproval(
                "this line into your crontab: that needs a yes", where="crontab", next=(again,)
            )
        new = cron_line.install(line, cron_line.mark_of(place.folder))
        speak.note("It is in your crontab now." if new else "It was in your crontab already.")
        speak.note("`babysit status` shows cron as armed once it has fired.")
    else:
        speak.note("next: crontab -e")
        speak.note("Paste that line there; `babysit status` shows cron as armed once it has fired.")
    if "SSH_AUTH_SOCK" in os.environ:
        speak.note("cron has no ssh agent: the box needs an IdentityFile without a passphrase.")
    for target in place.spec.targets.values():
        if target.url.startswith("env:"):
            speak.note(f"cron does not know {target.url}: give notify.{target.name} a file: reference.")
    return 0


def _cron_line(place: "Here") -> str:
    """The line whole. Raises UsageError where this program cannot be told."""
    from babysit.acts.armed import CRON_MINUTES
    from babysit.acts.cron_line import mark_of
    from fleet.text.quote import sh

    program = Path(sys.argv[0]).absolute()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise UsageError(f"cannot tell where babysit is installed ({program})", next=("command -v babysit",))
    words = [sh(str(program)), "patrol", "--once"]
    if place.spec.path:
        words += ["--spec", sh(place.spec.path)]
    words += [">>", sh(str(place.folder / "patrol.log")), "2>&1"]
    # In a crontab a bare % ends the command.
    command = mark_of(place.folder) + " ".join(words).replace("%", "\\%")
    if "\n" in command:
        raise UsageError("a folder with a line break in its name cannot stand in a crontab", where="crontab")
    return f"{','.join(map(str, CRON_MINUTES))} * * * * {command}"
