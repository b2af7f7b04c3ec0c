"""What lives of a run: its two locks, and the processes proven to be its own. Pure."""

from fleet.model.probe import Alive, Locks
from fleet.model.reading import Known, Missing, Reading
from fleet.text.frame import Section
from patrol.readers.section import fields, figure, text_of

_HELD = {"held": True, "free": False}
_WITNESSES = frozenset({"lock", "tag", "mark"})
_MAX_LINES = 4096
_COMM_CHARS = 32


def read_locks(section: Section | None, at: float) -> Reading[Locks]:
    """Whether each lock is held; Missing when one of them could not be asked, or moved while we looked."""
    text = text_of(section, "the locks")
    if isinstance(text, Missing):
        return text
    told = fields(text) or {}
    if told.get("chain") == "moved":
        return Missing("the locks changed hands while we looked")
    chain, stage = (_HELD.get(told.get(key, "")) for key in ("chain", "stage"))
    if chain is None or stage is None:
        return Missing("the locks could not be asked (no flock, python3 or perl, or not plain files)")
    return Known(Locks(chain, stage), at, "locks")


def read_alive(section: Section | None, at: float) -> Reading[tuple[Alive, ...]]:
    """All living processes of the run, a line each: `PID WITNESS COMM`. `comm` is text of the box."""
    text = text_of(section, "the search for processes")
    if isinstance(text, Missing):
        return text
    alive: list[Alive] = []
    for line in text.split("\n")[: _MAX_LINES + 1]:
        pid, _, rest = line.partition(" ")
        witness, _, comm = rest.partition(" ")
        number = figure(pid)
        if number and witness in _WITNESSES:
            alive.append(Alive(number, witness, comm[:_COMM_CHARS]))
        elif line:
            return Missing("the processes: a line is malformed")
    return Known(tuple(alive), at, "/proc")
