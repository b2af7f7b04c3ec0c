"""Looking at loops again and again from here: `tail` to their end, `notify` until a condition holds.

The box is asked in rounds over one connection. Each round ends by itself, so that nothing of it stays behind
when we are gone; a link that is lost is opened anew.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from babysit.acts.comeback import Comeback, pause
from babysit.acts.here import Here, box_named
from babysit.acts.ipc import Asked, asked, of_run
from babysit.acts.visit import opened
from fleet import clock
from fleet.errors import LinkError, ProbeUnreadable
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.spec import BoxSpec
from fleet.steering.answers import DIED, MET, NO_LOOP, SILENT, Part
from fleet.steering.question import Question
from fleet.text.say import duration

HOLD_S = 10.0  # a round of `notify`: what a box does at most for a reader that is gone
_LEAST_S = 0.2
_GONE_WITHOUT_RECORD = "it is gone, and left no end record: it was killed"
_GONE_OF_OTHERS = "its loop has ended; loopmonitor keeps no record of how"


class Over(NamedTuple):
    """How it ended: an exit code, a sentence of the box, and the loop as it was seen last (None: never)."""

    exit_code: int
    says: str
    last: Part | None


class LoopWatch:
    """One reader of one loop. `show` gets each answer, `say` what a person must know of the link."""

    def __init__(
        self,
        place: Here,
        box: str,
        question: Question,
        *,
        run: str | None,
        show: Callable[[Asked], None],
        say: Callable[[str], None],
    ) -> None:
        self._place = place
        self._box = box
        self._question = question
        self._run = run
        self._show = show
        self._link = Comeback(box, say)
        self._seen: Part | None = None

    def tail(self, for_s: float | None, interval_s: float) -> Over:
        """A look every `interval_s` seconds until the loop has ended: how that was; 124 after `for_s`."""
        deadline = None if for_s is None else clock.monotonic() + for_s

        def looked(link: Link, ledger: Ledger, box: BoxSpec) -> Over | None:
            over = self._over(self._round(link, ledger, box, interval_s, interval_s))
            if over is None and deadline is not None and clock.monotonic() >= deadline:
                return Over(SILENT, f"it goes on; looked for {duration(for_s or 0)}", self._seen)
            return over

        goes_on = "nobody could look any more: the link was lost"
        return self._again_and_again(looked, deadline, goes_on)

    def until_met(self, for_s: float, interval_s: float) -> Over:
        """0 when the condition holds, 23 when the loop is over before, 124 after `for_s` seconds."""
        deadline = clock.monotonic() + for_s

        def looked(link: Link, ledger: Ledger, box: BoxSpec) -> Over | None:
            left_s = deadline - clock.monotonic()
            hold_s = max(_LEAST_S, min(HOLD_S, left_s))
            found = self._round(link, ledger, box, hold_s, min(interval_s, hold_s))
            over = self._over(found)
            if over is not None or deadline - clock.monotonic() > 0:
                return over
            return Over(SILENT, f"not met in {for_s:g} s", self._seen)

        unmet = f"not seen to be met in {for_s:g} s: the link was lost"
        return self._again_and_again(looked, deadline, unmet)

    def _again_and_again(
        self, looked: Callable[[Link, Ledger, BoxSpec], Over | None], deadline: float | None, unseen: str
    ) -> Over:
        """How it ended; 124 with `unseen` where the time ran out (monotonic) and the link was not back."""
        with self._place.ledger(write=False) as ledger:
            box = box_named(self._place, ledger, self._box)
            self._question, box, _ = of_run(ledger, self._question, self._run, box)
            while True:
                try:
                    with opened(ledger, box, keep=False) as link:
                        while (over := looked(link, ledger, box)) is None:
                            pass
                        return over
                except (LinkError, ProbeUnreadable) as error:
                    self._link.lost(error)
                    if deadline is not None and clock.monotonic() >= deadline:
                        return Over(SILENT, unseen, self._seen)

    def _round(self, link: Link, ledger: Ledger, box: BoxSpec, hold_s: float, interval_s: float) -> Asked:
        options = ("--for", f"{hold_s:g}", "--interval", f"{interval_s:g}")
        question = replace(self._question, options=(*self._question.options, *options))
        began = clock.monotonic()
        found = asked(link, ledger, box, question, wait_s=hold_s)
        self._link.back()
        for part in (found.looks or (found.said,))[0].answers[:1]:
            # From now on this very loop: its label may come to mean another one.
            self._seen = part
            self._question = replace(self._question, target=f"{part.pid}/{part.n}", tag=None)
        self._show(found)
        # A box that answers at once, again and again, has no say in how often it is asked.
        pause(began + _LEAST_S - clock.monotonic())
        return found

    def _over(self, found: Asked) -> Over | None:
        """How it ended; None while it goes on."""
        code = found.said.exit_code
        if code == SILENT:
            return None
        if code == NO_LOOP and self._seen is not None:
            ours = self._seen.kind == "onbox"
            says = _GONE_WITHOUT_RECORD if ours else _GONE_OF_OTHERS
            return Over(DIED if ours else MET, says, self._seen)
        last = found.said.answers[-1:]
        return Over(code, last[0].says if last else "", last[0] if last else self._seen)
