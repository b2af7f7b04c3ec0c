"""Follow a run's log to its end, over every loss of the link: bounded waits on the box, resumed by offset."""

from collections.abc import Callable

from babysit.acts import handing
from babysit.acts.comeback import Comeback, pause
from babysit.acts.here import Here
from babysit.acts.settle import hand_on, histories_of, settle
from babysit.acts.starting import CALL_S
from babysit.acts.visit import ask, boxes_of, opened
from fleet import clock
from fleet.arming.follow_log import Piece, Spot, follow_log
from fleet.errors import LinkError, ProbeUnreadable
from fleet.ledger.ledger import Ledger
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.model.verdict import Verdict
from fleet.text.say import size
from sentinels.wait import GIVE_UP_AWAY_S, Leave, after, unseen

PIECE_BYTES = 192 * 1024
MOST_BEHIND = 8 * 1024 * 1024  # beyond this a reader wants the end and not the past
HOLD_S = 25  # a wait on the box that nobody needs any more ends by itself soon
_LEAST_INTERVAL_S = 1.0  # a job that prints without pause costs one visit a second


class Follower:
    """One reader of one run's log. `take` gets each piece in order, `say` what a person must know."""

    def __init__(
        self,
        place: Here,
        run: Run,
        *,
        first_bytes: int,
        take: Callable[[Piece], None],
        say: Callable[[str], None],
    ) -> None:
        self._place = place
        self._run = run
        self._first_bytes = first_bytes
        self._take = take
        self._say = say
        self._spot: Spot | None = None
        self._link = Comeback(run.box.name, say)

    def to_the_end(self) -> Verdict:
        """The verdict on the run when it was over and its log was read to its end.

        Raises what the first visit raises; later, LinkError when the link was down for ten minutes or will
        not come back by itself, NotFound when the run is gone from the box.
        """
        box = boxes_of((self._run,), self._place.spec)[self._run.box.name]
        with self._place.ledger_to_look() as (ledger, unwritable):
            while True:
                try:
                    with opened(ledger, box, keep=unwritable is None) as link:
                        return self._on(link, ledger, box.limit_s)
                except (LinkError, ProbeUnreadable) as error:
                    self._link.lost(error)

    def _on(self, link: Link, ledger: Ledger, limit_s: float) -> Verdict:
        """The verdict at the end, over one open link. Raises LinkError when that does not hold so long."""
        end_at: int | None = None
        while True:
            began = clock.monotonic()
            piece = follow_log(
                link,
                state_dir=self._run.box.state_dir,
                run_id=self._run.run_id,
                spot=self._spot,
                max_bytes=self._first_bytes if self._spot is None else PIECE_BYTES,
                most_behind=MOST_BEHIND,
                hold_s=HOLD_S if self._link.seen else 0,
                limit_s=HOLD_S + limit_s,
            )
            self._link.back()
            self._told(piece)
            if piece.over:
                # What its leftovers go on printing has no end: the log counts as far as it went just now.
                end_at = piece.size if end_at is None else end_at
                if not piece.more or (piece.spot is not None and piece.spot.offset >= end_at):
                    verdict, end_at = self._judged(link, ledger), None
                    if verdict is not None:
                        return verdict
            elif not piece.more:
                pause(began + _LEAST_INTERVAL_S - clock.monotonic())

    def _told(self, piece: Piece) -> None:
        """Hand the piece on, after saying what of the log it does not follow on."""
        was = self._spot
        if was is not None and piece.spot is not None:
            if piece.spot.file_id != was.file_id:
                self._say("the log was replaced by another file; going on from that one's beginning")
            elif piece.start < was.offset:
                self._say("the log was cut short; going on from its beginning")
            elif piece.start > was.offset:
                skipped = size(piece.start - was.offset)
                self._say(f"{skipped} of the log were skipped: they came faster than they can be shown")
        self._spot = piece.spot or was
        self._take(piece)

    def _judged(self, link: Link, ledger: Ledger) -> Verdict | None:
        """How the run is, now that its chain is gone; None when that was not so after all."""
        began, run = clock.now(), self._run
        seen = ask(link, run.box.name, (run,), histories_of(ledger))
        settled = settle(self._place, ledger, ((run, seen),), origin="logs", began=began, anyway=True)
        verdict = settled.verdicts[0]
        if settled.unkept is None and not unseen(verdict):
            handing.rewrite(self._place, ledger, (run,), settled, reached=set(), limit_s=CALL_S, link=link)
        hand_on(self._place, ledger)
        step = after(verdict, left_s=GIVE_UP_AWAY_S, away_s=0.0, away_count=0)
        if isinstance(step, Leave):
            return verdict
        pause(max(step.pause_s, _LEAST_INTERVAL_S))
        return None
