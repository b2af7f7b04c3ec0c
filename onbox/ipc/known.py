"""Which loops run here: the registry and the cards, each entry held against the living process."""

import datetime as dt
import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from onbox.ipc import process
from onbox.ipc.shown import shown
from onbox.wire import card as cards
from onbox.wire import folder as place
from onbox.wire import identity, registry
from onbox.wire.card import Card
from onbox.wire.identity import Identity
from onbox.wire.registry import Entry

OURS, FOREIGN, R = "onbox", "loopmonitor", "R"
_SLACK_S = 2.0  # a registration may not be older than its process; clocks are read at two moments
_CARD = re.compile(r"([1-9][0-9]{0,9})\.json")


class Known(NamedTuple):
    """A living process with a loop; `card` is there for ours, `entry` where the registry has one."""

    kind: str
    identity: Identity
    label: str
    ppid: Optional[int]
    entry: Optional[Entry]
    card: Optional[Card]

    @property
    def pid(self) -> int:
        """Its number; the identity says which process that is."""
        return self.identity.pid

    @property
    def n(self) -> int:
        """The number of its outermost loop."""
        return self.card.loops[0].n if self.card else 1


class Gone(NamedTuple):
    """Why a pid runs no loop here; `dead` when that is certain, and it is not another machine's."""

    why: str
    dead: bool = True


_NO_PROCESS = Gone("no such process")


class Roll(NamedTuple):
    """The living loops in the registry's order, and why each other pid is none."""

    living: List[Known]
    gone: Dict[int, Gone]
    entries: List[Entry]


def roll(folder: Path) -> Roll:
    """Every loop of the folder. Raises Torn, Unsafe, OSError."""
    entries = registry.entries(folder)
    living: List[Known] = []
    gone: Dict[int, Gone] = {}
    for entry in entries:
        known, why = _ours(folder, entry.pid, entry)
        if known is None and (why is None or (identity.of(entry.pid) and _newer(folder, entry))):
            # Beside the card of a dead process the entry may be its too: then nothing is forgiven.
            known, why = _foreign(folder, entry, _SLACK_S if why is None else 0.0)
        if known is not None:
            living.append(known)
        else:
            gone[entry.pid] = why or _NO_PROCESS
    listed = {entry.pid for entry in entries}
    for pid in card_pids(folder):
        if pid not in listed:
            known, why = _ours(folder, pid, None)
            if known is not None:
                living.append(known)
            elif why is not None:
                gone[pid] = why
    return Roll(living, gone, entries)


def card_pids(folder: Path) -> List[int]:
    """The pids that have a card, readable or not."""
    try:
        names = [path.name for path in place.card(folder, 1).parent.iterdir()]
    except OSError:
        return []
    return sorted(int(found.group(1)) for found in map(_CARD.fullmatch, names) if found)


def elsewhere(card: Card) -> bool:
    """Whether the card is another machine's, in a folder that several share."""
    return card.host != os.uname().nodename


def still(folder: Path, known: Known, n: int) -> bool:
    """Whether that very loop still runs, as far as card or registry tell. Raises OSError."""
    if known.card is not None:
        card = cards.read(folder, known.pid)
        return (
            card is not None and card.identity == known.identity and any(loop.n == n for loop in card.loops)
        )
    return any(entry == known.entry for entry in registry.entries(folder))


def _ours(folder: Path, pid: int, entry: Optional[Entry]) -> Tuple[Optional[Known], Optional[Gone]]:
    """The loop of the card, else why its card names no living one; None and None without a card."""
    card = cards.read(folder, pid)
    if card is None or not card.loops:
        return None, None
    if not identity.same(card.identity):
        if elsewhere(card):
            return None, Gone("its card is of the machine %s" % shown(card.host, 60), dead=False)
        reused = identity.of(pid) is not None
        return None, Gone("another process has its number now") if reused else _NO_PROCESS
    ppid = entry.ppid if entry is not None else process.parent(pid)
    return Known(OURS, card.identity, card.loops[0].label, ppid, entry, card), None


def _newer(folder: Path, entry: Entry) -> bool:
    """Whether another loop than the card's registered: a start time in whole seconds cannot tell that."""
    card, registered = cards.read(folder, entry.pid), _unix(entry.start_time)
    if card is None or registered is None:
        return True
    return registered > max((loop.started_at for loop in card.loops), default=0.0) + _SLACK_S


def _foreign(folder: Path, entry: Entry, slack_s: float) -> Tuple[Optional[Known], Optional[Gone]]:
    who = identity.of(entry.pid)
    if who is None:
        return None, _NO_PROCESS
    uid = process.owner(entry.pid)
    if uid != os.geteuid():
        return None, Gone("the process of that number belongs to another user (uid %s)" % uid)
    kind = R if entry.language == "R" else FOREIGN
    registered, started = _unix(entry.start_time), process.started_at(entry.pid)
    if not process.holds(entry.pid, place.fifo(folder, entry.pid)):
        if registered is None or started is None:
            return None, Gone("nothing shows that the process is the one that registered", dead=False)
        if registered < started - slack_s:
            return None, Gone("another process has its number now: it started after the loop did")
    return Known(kind, who, entry.label, entry.ppid, entry, None), None


def iso(seconds: float) -> str:
    """Unix time as the registry writes it."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat()


def _unix(text: str) -> Optional[float]:
    """Unix time of an ISO 8601 text, UTC where it says no zone; None for anything else."""
    try:
        moment = dt.datetime.fromisoformat(re.sub(r"Z$", "+00:00", text.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None
