"""Over the loss of a link: said once, tried again with growing pauses, said when it is back; or given up."""

import random
import threading
from collections.abc import Callable
from datetime import datetime

from fleet import clock
from fleet.errors import BabysitError, LinkError
from fleet.text.say import duration
from sentinels.wait import GIVE_UP_AWAY_S

_PAUSE_FIRST_S, _PAUSE_MOST_S = 1.0, 30.0
_NONSENSE_MOST = 3


class Comeback:
    """One reader's patience with one box. `say` is told what a person must know."""

    def __init__(self, box: str, say: Callable[[str], None]) -> None:
        self._box = box
        self._say = say
        self._seen = False
        self._lost_at: float | None = None  # monotonic
        self._losses = 0
        self._chance = random.Random()  # noqa: S311 - spreads connections, hides nothing

    @property
    def seen(self) -> bool:
        """Whether the box has answered at all."""
        return self._seen

    def lost(self, error: BabysitError) -> None:
        """Say it once and wait, longer each time. Raises `error` when waiting does not help."""
        now = clock.monotonic()
        if isinstance(error, LinkError):
            hopeless = not error.away.transient
        else:  # a box that is going down may cut an answer short; one that talks nonsense goes on so
            hopeless = self._losses >= _NONSENSE_MOST
        if not self._seen or hopeless:
            raise error
        if self._lost_at is None:
            self._lost_at = now
            at = datetime.fromtimestamp(clock.now()).astimezone().strftime("%H:%M:%S")
            self._say(f"the link to {self._box} was lost at {at}: {error.what}; trying again")
        elif now - self._lost_at > GIVE_UP_AWAY_S:
            raise error
        pause_s = min(_PAUSE_FIRST_S * 2.0**self._losses, _PAUSE_MOST_S)
        self._losses = min(self._losses + 1, 16)
        # Those who lost the same box at the same moment do not come back at the same moment.
        pause(pause_s * self._chance.uniform(0.7, 1.0))

    def back(self) -> None:
        """It answered."""
        if self._lost_at is not None:
            away = duration(clock.monotonic() - self._lost_at)
            self._say(f"the link to {self._box} is back after {away}; going on from there")
        self._seen, self._lost_at, self._losses = True, None, 0


def pause(seconds: float) -> None:
    """Nothing happens for so long; a signal ends it."""
    if seconds > 0:
        threading.Event().wait(seconds)
