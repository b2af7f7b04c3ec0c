"""doctor: what is wrong here, and the command that mends it."""

import sys
from pathlib import Path

import click

from babysit.verbs import speak
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION


@click.command()
@click.argument("box", required=False)
@click.option("--notify", is_flag=True, help="Send a test notice to every target.")
@JSON_OPTION
@SPEC_OPTION
def doctor(*, box: str | None, notify: bool, as_json: bool, spec: str | None) -> int:
    """Check this set-up, and a box: each line is ok, warn or FAIL, with the command that mends it.

    Looks at the installation, the state folder, babysit.toml, ssh, what cron would find, and the
    receivers of notices; with BOX also at the way there and at what the box has. Starts nothing, pins no
    key; takes less than a minute whatever hangs.
    """
    from babysit.acts.doctor import show
    from babysit.acts.doctor.doctor import doctor as act
    from babysit.acts.here import here_anyway

    report = act(here_anyway(spec), box, program=Path(sys.argv[0]).absolute(), notify=notify)
    if as_json:
        speak.document(show.document(report))
        return report.exit_code
    for line in show.lines(report.lines):
        speak.line(line)
    for line in show.closing(report):
        speak.line(line)
    return report.exit_code
