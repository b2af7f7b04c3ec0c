"""resume: someone new takes over here."""

from typing import TYPE_CHECKING

import click

from babysit.verbs import speak
from babysit.verbs.named import run_argument
from babysit.verbs.patrol import JSON_OPTION, SPEC_OPTION
from fleet import clock
from fleet.errors import UsageError

if TYPE_CHECKING:
    from babysit.acts.here import Here


@click.command()
@run_argument(required=False)
@click.option("--yes", is_flag=True, help="Start the next attempt, if nothing of the run lives.")
@click.option(
    "--grant", type=click.IntRange(1, 100), metavar="N", help="Allow N more starts than the budget."
)
@click.option("--at", metavar="USER@HOST:PORT", help="Adopt RUN from this box first (see a handbook).")
@click.option("--identity", metavar="FILE", help="With --at: the key to log in with.")
@click.option("--fingerprint", metavar="SHA256:...", help="With --at: the box's host key, confirmed by it.")
@click.option(
    "--state-dir", metavar="DIR", help="With --at: the state folder on the box, if not the usual one."
)
@JSON_OPTION
@SPEC_OPTION
def resume(
    *,
    run: str | None,
    box: str | None,
    yes: bool,
    grant: int | None,
    at: str | None,
    identity: str | None,
    fingerprint: str | None,
    state_dir: str | None,
    as_json: bool,
    spec: str | None,
) -> int:
    """Say what is true, what was believed and is wrong, and the one next command.

    Asks every box once and changes nothing. Says what of a run's code (git, hashes of its scripts) changed
    since its last start. With --yes it starts RUN's next attempt, which goes on at the first stage that has
    no success marker. With --at it first adopts RUN from a box that this machine has
    never seen: an address, a key and a fingerprint are enough.
    """
    from babysit.acts.here import here_anyway

    place = here_anyway(spec)
    if at is not None:
        if box is not None:
            raise UsageError("--at says which box: leave BOX out", next=(f"babysit resume {run} --at {at}",))
        _adopt(place, run, at, fingerprint=fingerprint, identity=identity, state_dir=state_dir)
    elif identity or fingerprint or state_dir:
        raise UsageError("--identity, --fingerprint and --state-dir go with --at")
    if yes:
        return _carry_on(place, run, box, grant or 0, as_json=as_json)
    if grant is not None:
        raise UsageError("--grant goes with --yes")
    return _take_stock(place, run, box, as_json=as_json)


def _adopt(place: "Here", run: str | None, at: str, **how: str | None) -> None:
    from babysit.acts.adopt import adopt, box_at
    from fleet.spec.decode import is_name

    if run is None or not is_name(run):
        raise UsageError("--at needs the name of the run", next=("babysit resume RUN --at USER@HOST:PORT",))
    box = box_at(at, name="adopted", identity=how["identity"], state_dir=how["state_dir"])
    known, says = adopt(place, box, run, how["fingerprint"])
    if says:
        speak.note(f"{at}: {says}")
    speak.note(f"{known.run_id} on {known.box.name} is in this ledger now; nothing was changed on the box.")


def _carry_on(place: "Here", run: str | None, box: str | None, grant: int, *, as_json: bool) -> int:
    from babysit.acts import resume as act
    from babysit.acts.here import run_named
    from fleet.text.untrusted import render_untrusted
    from patrol import report

    if run is None:
        raise UsageError(
            "--yes needs the name of the run", next=("babysit resume", "babysit resume BOX RUN --yes")
        )
    with place.ledger(write=False) as ledger:
        known = run_named(ledger, run, box)
    done = act.resume(place, known, grant=grant)
    code = done.verdict.exit_code
    if as_json:
        content = report.document((done.verdict,), at=clock.now(), cursor=None, exit_code=code)
        news = done.news
        code_seen = news and {"changed": news.changed, "untrusted_says": list(news.says)}
        started = {"started": done.launched is not None, "code": code_seen}
        speak.document({**content, "schema": "babysit.resume/1", **started})
        return code
    if done.news is not None:
        speak.prose(render_untrusted(f"code on the box: {'; '.join(done.news.says)}"))
    speak.prose(f"{known.run_id} on {known.box.name}: {done.why}")
    for line in report.lines((done.verdict,), clock.now()):
        speak.line(line)
    return code


def _take_stock(place: "Here", run: str | None, box: str | None, *, as_json: bool) -> int:
    from babysit.acts import resume as act
    from babysit.acts.here import run_named
    from handbook import reconcile

    only = None
    if run is not None:
        with place.ledger(write=False) as ledger:
            only = run_named(ledger, run, box)
    truth, settled = act.take_stock(place, only)
    if as_json:
        speak.document(reconcile.document(truth))
    else:
        for line in reconcile.say(truth):
            speak.line(line)
    return settled.exit_code
