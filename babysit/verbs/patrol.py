"""patrol, status, crontab: how is everything, and what makes sure that somebody asks."""

import os
import sys
from pathlib import Path

import click

from babysit.verbs import speak
from fleet import clock

SPEC_OPTION = click.option("--spec", metavar="FILE", help="Use this babysit.toml instead of the nearest one.")
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
ORIGIN = "BABYSIT_ORIGIN"


@click.command()
@click.option("--once", is_flag=True, help="One tick, then end (what it does without the flag, too).")
@JSON_OPTION
@SPEC_OPTION
def patrol(*, once: bool, as_json: bool, spec: str | None) -> int:
    """Ask every box once and say how each run is.

    One connection a box, all boxes side by side, at most 60 seconds. Prints a line for every run even
    when nothing changed. Starts and stops nothing.
    """
    del once
    from babysit.acts.here import here_anyway
    from babysit.acts.tick import tick
    from fleet.text.say import plural
    from patrol import report

    place = here_anyway(spec)
    done = tick(place, origin=os.environ.get(ORIGIN, "hand"))
    now = clock.now()
    if as_json:
        content = report.document(
            done.verdicts, at=done.at, cursor=str(done.cursor), exit_code=done.exit_code
        )
        content["errors"] = [speak.error_document(error) for error in done.errors]
        content["armed"] = list(done.armed)
        content["missed"] = done.missed
        speak.document(content)
        return done.exit_code
    if done.missed:
        speak.prose(
            f"nobody looked for a while: {plural(done.missed, 'firing')} of cron missed before this tick"
        )
    for line in report.lines(done.verdicts, now):
        speak.line(line)
    for error in done.errors:
        speak.note(f"babysit: {error.what}")
    for line in report.closing(done.verdicts, done.took_s, done.armed):
        speak.line(line)
    return done.exit_code


@click.command()
@JSON_OPTION
def status(*, as_json: bool) -> int:
    """Show what the last tick knew, without asking any box.

    Reads the ledger only, so it works with no network; AGE says how old each line is.
    """
    from babysit.acts import armed
    from fleet.ledger.ledger import Ledger
    from fleet.ledger.paths import state_folder
    from patrol import report

    now = clock.now()
    with Ledger.open(state_folder(), write=False) as ledger:
        runs = ledger.runs.all()
        verdicts = ledger.ticks.verdicts()
        rings = report.rings(ledger.ticks.histories())
        fires = armed.triggers(ledger, now)
        last = next(iter(ledger.ticks.seen(limit=1)), None)
        lost = ledger.outbox.undelivered()
    known = [verdicts[run.run_id] for run in runs if run.run_id in verdicts]
    if as_json:
        cursor = str(last.id) if last else None
        content = report.document(known, at=last.at if last else None, cursor=cursor, exit_code=0)
        content["schema"] = "babysit.status/1"
        content["armed"] = list(fires)
        content["undelivered"] = [
            {"run": row.event.run_id, "target": row.target, "tries": row.tries} for row in lost
        ]
        speak.document(content)
        return 0
    for line in report.status_table(runs, verdicts, rings, fires, now):
        speak.line(line)
    for row in lost:
        tries = f"{row.tries} tries" if row.tries != 1 else "1 try"
        speak.prose(f"notice for {row.event.run_id} not delivered to {row.target} ({tries}): {row.error}")
    return 0


@click.command()
@SPEC_OPTION
def crontab(*, spec: str | None) -> int:
    """Print the line that lets cron do the patrol. Installs nothing.

    Paths are absolute, because cron knows neither your PATH nor your folder; two minutes off the full
    half hour, because everybody else asks then.
    """
    from babysit.acts.armed import CRON_MINUTES
    from babysit.acts.here import here
    from fleet.errors import UsageError
    from fleet.text.quote import sh

    place = here(spec)
    program = Path(sys.argv[0]).absolute()
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise UsageError(f"cannot tell where babysit is installed ({program})", next=("command -v babysit",))
    words = [f"{ORIGIN}=cron", f"BABYSIT_STATE={sh(str(place.folder))}", sh(str(program)), "patrol", "--once"]
    if place.spec.path:
        words += ["--spec", sh(place.spec.path)]
    words += [">>", sh(str(place.folder / "patrol.log")), "2>&1"]
    # In a crontab a bare % ends the command.
    command = " ".join(words).replace("%", "\\%")
    speak.line(f"{','.join(map(str, CRON_MINUTES))} * * * * {command}")
    speak.note("next: crontab -e")
    speak.note("Paste that line there; `babysit status` shows cron as armed once it has fired.")
    if "SSH_AUTH_SOCK" in os.environ:
        speak.note("cron has no ssh agent: the box needs an IdentityFile without a passphrase.")
    for target in place.spec.targets.values():
        if target.url.startswith("env:"):
            speak.note(f"cron does not know {target.url}: give notify.{target.name} a file: reference.")
    return 0
