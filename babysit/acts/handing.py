"""Handbooks: rewritten where a run's row changed, on the host first and then on its box."""

import os
from collections.abc import Sequence
from pathlib import Path

from babysit.acts import armed
from babysit.acts.controls import KIND
from babysit.acts.here import Here
from babysit.acts.settle import Settled
from babysit.acts.visit import boxes_of, opened
from fleet import clock
from fleet.errors import BabysitError
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.model.verdict import Verdict
from handbook.facts import HandbookFacts, facts

_EVENTS = 10  # on a page, newest
_LEAST_S = 2.0  # below this a visit only to write a page is not worth beginning


def rewrite(
    place: Here,
    ledger: Ledger,
    runs: Sequence[Run],
    settled: Settled,
    *,
    reached: set[str],
    limit_s: float,
    link: Link | None = None,
) -> None:
    """Render the page of each run that changed or was given a command.

    The box's copy goes over `link`, or over a new one where reached.

    A page that cannot be put on the box is left for the next change: the run does not depend on it.
    """
    changed = [run for run in runs if run.run_id in settled.changed or _commanded(place, ledger, run)]
    if not changed:
        return
    pages = {run.run_id: _page(place, ledger, run, settled.verdicts) for run in changed}
    write_index(place, ledger)
    deadline = clock.monotonic() + limit_s
    for name, box in boxes_of(changed, place.spec).items():
        mine = [run for run in changed if run.box.name == name]
        left_s = min(box.limit_s, deadline - clock.monotonic())
        if link is not None:
            _put(link, mine, pages)
        elif name in reached and left_s > _LEAST_S:
            try:
                with opened(ledger, box, limit_s=left_s) as fresh:
                    _put(fresh, mine, pages)
            except BabysitError:
                continue


def _commanded(place: Here, ledger: Ledger, run: Run) -> bool:
    """Whether somebody told the run's loops something since its page was written."""
    from handbook.store import path  # noqa: PLC0415 - as below

    newest = ledger.ticks.events(run.run_id, 1, kind=KIND, on=run.box.name)
    page = path(place.folder / "handbook", run.run_id)
    return bool(newest) and page.exists() and page.stat().st_mtime < newest[0].at


def facts_of(place: Here, ledger: Ledger, run: Run, verdict: Verdict | None) -> HandbookFacts:
    """All that a handbook may say of a run, as the ledger and ssh_config have it now."""
    from fleet.link.address import resolve  # noqa: PLC0415 - asks ssh for the alias

    box: BoxSpec = boxes_of((run,), place.spec)[run.box.name]
    address = resolve(box)
    pin = ledger.pins.find(box.name)
    shown = None
    if pin is not None:
        from fleet.link.hostkeys import fingerprint  # noqa: PLC0415 - as above

        shown = fingerprint(pin.key_b64)
    return facts(
        run,
        host=address.host,
        port=address.port,
        user=address.user,
        # ssh_config lists keys that may not exist; the page names one that somebody can copy.
        identity=next((path for path in address.identities if Path(path).is_file()), None),
        home=os.path.expanduser("~"),  # noqa: PTH111 - text, compared as text
        fingerprint=shown,
        verdict=verdict,
        armed=armed.triggers(ledger, clock.now(), besides=os.getpid()),
        way=address.way.option if address.way else None,
        events=ledger.ticks.events(run.run_id, _EVENTS, on=run.box.name),
    )


def _page(place: Here, ledger: Ledger, run: Run, verdicts: Sequence[Verdict]) -> str:
    from handbook import render, store  # noqa: PLC0415 - jinja2 is slow to import

    verdict = next((verdict for verdict in verdicts if verdict.run_id == run.run_id), None)
    text = render.render(facts_of(place, ledger, run, verdict), clock.now())
    store.write(place.folder / "handbook", run.run_id, text)
    return text


def write_index(place: Here, ledger: Ledger) -> None:
    """The page that lists every run that is watched, written anew."""
    from handbook import render, store  # noqa: PLC0415 - as above

    verdicts = ledger.ticks.verdicts()
    every = [facts_of(place, ledger, run, verdicts.get(run.run_id)) for run in ledger.runs.all()]
    store.write_index(place.folder / "handbook", render.render_index(every, clock.now()))


def _put(link: Link, runs: Sequence[Run], pages: dict[str, str]) -> None:
    from fleet.arming.place import put_file  # noqa: PLC0415 - only when a page changed

    for run in runs:
        try:
            put_file(
                link,
                state_dir=run.box.state_dir,
                run_id=run.run_id,
                name="handbook.md",
                content=pages[run.run_id].encode("utf-8", "replace"),
            )
        except BabysitError:
            return
