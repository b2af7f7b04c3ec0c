"""What was begun and not written down as done: asked of the box, and told until somebody knows."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from babysit.acts.here import Here
from fleet import clock
from fleet.errors import BabysitError, LedgerRepaired, Unfinished
from fleet.ledger.ledger import Ledger
from fleet.ledger.repair import LostRun, forgotten
from fleet.ledger.unfinished import answer, command, is_over, says
from fleet.model.probe import Probe, Reachable
from fleet.model.run import Run
from fleet.text.quote import sh


def answered(ledger: Ledger, seen: Sequence[tuple[Run, Probe]], now: float) -> None:
    """Close what the boxes' own records answer."""
    opened = ledger.intents.open()
    if not opened:
        return
    facts = {run.run_id: probe.runs.get(run.run_id) for run, probe in seen if isinstance(probe, Reachable)}
    for intent in opened:
        found = facts.get(intent.run_id)
        outcome = answer(intent, found, now) if found is not None else None
        if outcome is not None:
            ledger.intents.done(intent.id, outcome, now)
    ledger.intents.let_go(now)


def told(place: Here, ledger: Ledger, *, under_way: bool = False) -> tuple[BabysitError, ...]:
    """What nobody knows the end of, and runs that a repair lost and nobody took back; with commands.

    `under_way`: also what somebody may be at just now.
    """
    now = clock.now()
    return (
        *(_lost(place, ledger, run) for run in forgotten(place.folder, ledger)),
        *_unfinished(ledger, now, under_way=under_way),
    )


def _unfinished(ledger: Ledger, now: float, *, under_way: bool) -> tuple[Unfinished, ...]:
    found = []
    for intent in ledger.intents.open():
        if not (under_way or is_over(intent, now)):
            continue
        run = ledger.runs.find(intent.run_id)
        # An arming that was cut short early has no run yet: its text says `arm RUN on BOX`.
        words = intent.text.split()
        name, box = (run.name, run.box.name) if run else (words[1], words[-1]) if len(words) > 3 else ("", "")
        found.append(
            Unfinished(
                says(intent, name or intent.run_id, now),
                where=intent.run_id,
                next=(command(intent, name or intent.run_id, box),),
            )
        )
    return tuple(found)


def _lost(place: Here, ledger: Ledger, run: LostRun) -> LedgerRepaired:
    where = f" on {run.box}" if run.box else ""
    says_ = f"{run.run_id}{where} is watched no longer: it was lost with the damaged ledger"
    return LedgerRepaired(says_, where=run.run_id, next=(take_back(place, ledger, run),))


def take_back(place: Here, ledger: Ledger, run: LostRun) -> str:
    """The command that takes a lost run over from its box, as far as the box is known."""
    box = (place.spec.boxes.get(run.box) or ledger.boxes.find(run.box)) if run.box else None
    if box is None:
        unknown = f"babysit resume {sh(run.run_id)} --at USER@HOST:PORT"
        return next(_by_page(place.folder / "handbook" / f"{run.run_id}.md"), unknown)
    host = f"[{box.host}]" if ":" in box.host else box.host
    at = f"{f'{box.user}@' if box.user else ''}{host}{f':{box.port}' if box.port else ''}"
    more = f" --identity {sh(box.identity)}" if box.identity else ""
    more += f" --state-dir {sh(box.state_dir)}" if box.state_dir else ""
    return f"babysit resume {sh(run.run_id)} --at {sh(at)}{more}"


def _by_page(page: Path) -> Iterator[str]:
    """The same command as the run's handbook has it, where there is one."""
    with suppress(OSError):
        for line in page.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("babysit resume ") and " --at " in line:
                yield line
