"""The whole examination: this machine, and the box that was named, side by side, in less than a minute."""

import queue
import threading
from pathlib import Path

from msgspec import Struct

from babysit.acts.doctor import box_rules, cron, local, notifier, ssh, state
from babysit.acts.doctor.box import VISIT_S, BoxSeen, visit
from babysit.acts.doctor.ground import Ground, with_ledger
from babysit.acts.doctor.lines import Check, Examined, Found, Level, Line, examine, exit_code_of, fail
from babysit.acts.here import Here, box_named
from fleet import clock
from fleet.errors import LedgerError
from fleet.ledger.ledger import Ledger
from fleet.model.spec import BoxSpec
from fleet.text.quote import sh

HERE: tuple[Check[Ground], ...] = (
    *local.CHECKS,
    *state.CHECKS,
    *ssh.CHECKS,
    *cron.CHECKS,
    *notifier.CHECKS,
)


class Report(Struct, frozen=True):
    """Every line in its order. `not_asked` names checks that the box did not let us come to."""

    lines: tuple[Line, ...]
    not_asked: tuple[str, ...]
    box: str | None
    took_s: float

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else the first code in the order of ticks."""
        return exit_code_of(self.lines)

    def count(self, level: Level) -> int:
        """How many lines have this level."""
        return sum(line.found.level is level for line in self.lines)


def doctor(place: Here, box: str | None, *, program: Path, notify: bool = False) -> Report:
    """Everything that can be checked from here; with `box` that box too; with `notify` a notice each target.

    Raises UsageError when `box` is no name; whatever else is wrong is a line.
    """
    began = clock.monotonic()
    ground = with_ledger(_ground(place, box, program, notify=notify))
    answer: queue.SimpleQueue[Examined] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(at_box(ground)[0]), name="box", daemon=True).start()
    here = examine(HERE, ground, limit_s=notifier.LIMIT_S)
    there = answer.get()
    return Report(
        here.lines + there.lines,
        there.not_asked,
        ground.box.name if ground.box else None,
        clock.monotonic() - began,
    )


def at_box(ground: Ground) -> tuple[Examined, BoxSeen | None]:
    """The findings at the box that was named, and what they were made from; nothing when none was named."""
    if ground.box is None:
        return Examined((), ()), None
    answer: queue.SimpleQueue[BoxSeen | Found] = queue.SimpleQueue()
    threading.Thread(target=_visit, args=(ground, answer), name="visit", daemon=True).start()
    try:
        seen = answer.get(timeout=VISIT_S)
    except queue.Empty:
        seen = fail(f"the visit did not end within {VISIT_S:g} s", f"ssh {sh(ground.box.host)}", exit_code=11)
    if isinstance(seen, Found):
        line = Line("box", "visit", seen)
        return Examined((line,), tuple(check.name for check in box_rules.CHECKS)), None
    return examine(box_rules.CHECKS, seen), seen


def _visit(ground: Ground, answer: "queue.SimpleQueue[BoxSeen | Found]") -> None:
    try:
        seen = visit(ground)
        if seen is not None:
            answer.put(seen)
    except BaseException as error:  # noqa: BLE001 - a visit that crashes is one line, the others go on
        answer.put(fail(f"the visit itself broke: {type(error).__name__}: {error}"))


def _ground(place: Here, box: str | None, program: Path, *, notify: bool) -> Ground:
    named = None if box is None else _named(place, box)
    return Ground(place, program, clock.now(), notify=notify, box=named)


def _named(place: Here, box: str) -> BoxSpec:
    try:
        with place.ledger(write=False) as ledger:
            return box_named(place, ledger, box)
    except LedgerError:  # said by its own check; an empty one knows no box, as far as we can tell
        with Ledger.open(place.folder / "none", write=False) as ledger:
            return box_named(place, ledger, box)
