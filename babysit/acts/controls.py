"""What we told a loop or a queue, in the ledger beside what the patrol saw: intent before, outcome after."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fleet import clock
from fleet.errors import BabysitError, LinkError, ProbeUnreadable
from fleet.ledger.ledger import Ledger
from fleet.ledger.rows import Event
from fleet.model.verdict import Severity
from fleet.text.redact import redact
from fleet.text.untrusted import render_untrusted

KIND = "steer"
NO_RUN = "-"  # what stands in place of a run id where a loop belongs to no run of ours
_TEXT_CHARS = 200


class Control:
    """One command under way: `sent` before the box may do it, `done` once it said how it went."""

    def __init__(self, ledger: Ledger, run_id: str, text: str) -> None:
        self._ledger = ledger
        self._run_id = run_id
        # Its last word is the box, by which it is found again: that is never cut off.
        said, on, box = redact(text).rpartition(" on ")
        self._text = f"{render_untrusted(said, _TEXT_CHARS)}{on}{render_untrusted(box, _TEXT_CHARS)}"
        self._intent = ledger.intents.begin(run_id, KIND, self._text, clock.now())
        self._sent = False

    def sent(self) -> None:
        """From here on nobody but the box knows whether it happened."""
        self._sent = True

    def done(self, outcomes: Iterable[tuple[str, str]]) -> None:
        """Write down how it went: for each run id (or NO_RUN) a sentence, which is made harmless."""
        found = [(run_id, render_untrusted(redact(says), _TEXT_CHARS)) for run_id, says in outcomes]
        self._ledger.intents.done(
            self._intent, "; ".join(says for _, says in found) or "nothing", clock.now()
        )
        for run_id, says in found:
            self._note(run_id, says)

    def failed(self, error: BabysitError) -> None:
        """Write down that it was not done, or, once it was sent, that nobody knows."""
        if self._sent and isinstance(error, LinkError | ProbeUnreadable):
            self._note(self._run_id, f"nobody knows whether it happened: {error.what}")
        else:
            self.done([(self._run_id, f"not done: {error.what}")])

    def _note(self, run_id: str, says: str) -> None:
        now = clock.now()
        event = Event(f"{KIND}-{secrets.token_hex(8)}", run_id, KIND, Severity.QUIET, now, self._text, says)
        self._ledger.ticks.note(event)


@contextmanager
def control(ledger: Ledger, run_id: str, text: str) -> Iterator[Control]:
    """A command under way, whose failure is written down as well. Killed here, it stays open and is told."""
    begun = Control(ledger, run_id, text)
    try:
        yield begun
    except BabysitError as error:
        begun.failed(error)
        raise
