"""watch: wait for one run's end or trouble."""

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION

_HOURS = click.FloatRange(min=0.0, min_open=True, max=24 * 30)


@click.command()
@run_argument()
@click.option("--hours", type=_HOURS, default=24.0, show_default=True, help="Leave after so long (exit 124).")
@click.option(
    "--supersede", is_flag=True, help="Take over from a watch that waits already; it leaves (exit 21)."
)
@JSON_OPTION
@SPEC_OPTION
def watch(
    *, box: str | None, run: str, hours: float, supersede: bool, as_json: bool, spec: str | None
) -> int:
    """Wait for one run's end or trouble; always returns, and the exit code says why.

    It waits on the box itself, one connection a minute, and returns within about a second of the end. It
    dies with this terminal; the run does not. When somebody waits already: exit 75.
    """
    from babysit.acts import watch as act
    from babysit.acts.here import here_anyway, run_named
    from fleet import clock
    from fleet.model.verdict import Verdict
    from patrol import report

    def tell(verdict: Verdict) -> None:
        if not as_json:
            for line in report.lines((verdict,), clock.now()):
                speak.note(line)

    place = here_anyway(spec)
    with place.ledger(write=False) as ledger:
        known = run_named(ledger, run, box)
    try:
        done = act.watch(place, known, for_s=hours * 3600, supersede=supersede, tell=tell)
    except KeyboardInterrupt:
        speak.note(f"babysit: no longer waiting for {known.name}; on {known.box.name} it goes on")
        raise
    if as_json:
        verdicts = (done.verdict,) if done.verdict else ()
        content = report.document(verdicts, at=clock.now(), cursor=None, exit_code=done.exit_code)
        speak.document({**content, "schema": "babysit.watch/1", "reason": done.reason})
        return done.exit_code
    if done.verdict is None or done.reason != done.verdict.summary:
        speak.prose(f"{known.name} on {known.box.name}: {done.reason} (exit {done.exit_code})")
        return done.exit_code
    shown = report.lines((done.verdict,), clock.now())
    for line in shown:
        speak.line(line)
    for command in done.verdict.next:
        if not any(command in line for line in shown):
            speak.line(f"next: {command}")
    speak.line(f"the wait is over (exit {done.exit_code})")
    return done.exit_code
