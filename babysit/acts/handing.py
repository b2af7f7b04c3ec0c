"""Handbooks: rewritten where a run's row changed, on the host first and then on its box."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from babysit.acts import armed
from babysit.acts.abreast import abreast
from babysit.acts.controls import KIND
from babysit.acts.here import Here
from babysit.acts.settle import Settled
from babysit.acts.visit import Ask, boxes_of, briefly
from fleet import clock
from fleet.errors import BabysitError, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Event
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.verdict import Verdict
from handbook.facts import HandbookFacts, facts

if TYPE_CHECKING:
    from fleet.link.answers import Answers

_EVENTS = 10  # on a page, newest
_LEAST_S = 2.0  # below this a visit only to write a page is not worth beginning
_PUT_S = 30.0


def rewrite(
    place: Here,
    ledger: Ledger,
    runs: Sequence[Run],
    settled: Settled,
    *,
    reached: set[str],
    limit_s: float,
    link: Link | None = None,
    answers: "Answers | None" = None,
) -> None:
    """Render the page of each run that changed or was given a command, and the page that lists all.

    The box's copy goes over `link`, or over a new one where reached, to all boxes side by side. `answers` are
    as in Ask; None: those kept by the last patrol.
    A page that cannot be put on the box is left for the next change: the run does not depend on it.
    """
    changed = [run for run in runs if run.run_id in settled.changed or _commanded(place, ledger, run)]
    if not changed:
        return
    deadline = clock.monotonic() + limit_s
    pages = _Pages(place, ledger, answers)
    for run in changed:
        pages.write(run)
    pages.write_index()
    if link is not None:
        pages.put(link, changed, _PUT_S)
        return
    boxes = boxes_of(changed, place.spec)
    left_s = deadline - clock.monotonic()
    if left_s < _LEAST_S:
        return

    def carry(wanted: Ask) -> None:
        with suppress(BabysitError), briefly(wanted) as (fresh, _):
            pages.put(fresh, wanted.runs, deadline - clock.monotonic())

    asks = {
        name: Ask(
            replace(box, limit_s=min(box.limit_s, left_s)),
            tuple(run for run in changed if run.box.name == name),
            {},
            ledger.pins.find(name),
            answers,
        )
        for name, box in boxes.items()
        if name in reached
    }
    abreast(asks, carry, limit_s=left_s)


def write_index(place: Here, ledger: Ledger) -> None:
    """The page that lists every run that is watched, written anew."""
    _Pages(place, ledger).write_index()


def _commanded(place: Here, ledger: Ledger, run: Run) -> bool:
    """Whether somebody told the run's loops something since its page was written."""
    from handbook.store import path  # noqa: PLC0415 - as below

    newest = ledger.ticks.events(run.run_id, 1, kind=KIND, on=run.box.name)
    page = path(place.folder / "handbook", run.run_id)
    return bool(newest) and page.exists() and page.stat().st_mtime < newest[0].at


class _Pages:
    """The pages that one look rewrites. What all of them share is looked up once."""

    def __init__(self, place: Here, ledger: Ledger, answers: "Answers | None" = None) -> None:
        from fleet.link.answers import Answers  # noqa: PLC0415 - only when a page changed

        self._place = place
        self._folder = place.folder / "handbook"
        self._ledger = ledger
        self._answers = answers or Answers(place.folder)
        self._armed = armed.triggers(ledger, clock.now(), besides=os.getpid())
        self._texts: dict[str, str] = {}

    def write(self, run: Run) -> None:
        """The page of one run on this machine. Raises LedgerError, or Busy."""
        from handbook import render, store  # noqa: PLC0415 - jinja2 is slow to import

        def made() -> str:
            # Somebody else may have looked since, and settled more than we did.
            newest = self._ledger.runs.find(run.run_id) or run
            verdict = self._ledger.ticks.verdicts(run.run_id).get(run.run_id)
            events = self._ledger.ticks.events(run.run_id, _EVENTS, on=run.box.name)
            text = render.render(self._facts(newest, verdict, events), clock.now())
            self._texts[run.run_id] = text
            return text

        store.write(self._folder, run.run_id, made)

    def write_index(self) -> None:
        """The page that lists every run that is watched. Raises as `write` does."""
        from handbook import render, store  # noqa: PLC0415 - as above

        def made() -> str:
            verdicts = self._ledger.ticks.verdicts()
            every = [self._facts(run, verdicts.get(run.run_id)) for run in self._ledger.runs.all()]
            return render.render_index(every, clock.now())

        store.write_index(self._folder, made)

    def put(self, link: Link, runs: Sequence[Run], limit_s: float) -> None:
        """The pages of `runs` on their box, from any thread; what the box does not take stays away."""
        from fleet.arming.place import put_file  # noqa: PLC0415 - only when a page changed
        from handbook import store  # noqa: PLC0415 - as above

        deadline = clock.monotonic() + limit_s
        for run in runs:
            text = self._texts[run.run_id]
            left_s = min(_PUT_S, deadline - clock.monotonic())
            try:
                # Where another babysit wrote a newer one meanwhile, that one puts it on the box, too.
                if left_s > 0 and store.holds(self._folder, run.run_id, text):
                    put_file(
                        link,
                        state_dir=run.box.state_dir,
                        run_id=run.run_id,
                        name="handbook.md",
                        content=text.encode("utf-8", "replace"),
                        limit_s=left_s,
                    )
            except BabysitError:
                return

    def _facts(self, run: Run, verdict: Verdict | None, events: tuple[Event, ...] = ()) -> HandbookFacts:
        """All that a handbook may say of a run, as the ledger and ssh_config have it now."""
        from fleet.link.address import resolve  # noqa: PLC0415 - only when a page changed
        from fleet.link.hostkeys import fingerprint  # noqa: PLC0415 - as above

        box = boxes_of((run,), self._place.spec)[run.box.name]
        pin = self._ledger.pins.find(box.name)
        login, _, alias = box.host.rpartition("@")
        address = None
        with suppress(UsageError):  # what ssh_config says of a box may be of no use: its visit said so
            address = resolve(box, self._answers.ask)
        return facts(
            run,
            host=address.host if address else alias.strip("[]"),
            port=address.port if address else box.port,
            user=address.user if address else box.user or login or None,
            # ssh_config lists keys that may not exist; the page names one that somebody can copy.
            identity=next((path for path in address.identities if Path(path).is_file()), None)
            if address
            else box.identity,
            home=os.path.expanduser("~"),  # noqa: PTH111 - text, compared as text
            fingerprint=fingerprint(pin.key_b64) if pin else None,
            verdict=verdict,
            armed=armed.phrases(self._armed, run.run_id),
            way=address.way.option if address and address.way else None,
            events=events,
        )
