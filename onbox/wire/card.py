"""The card of a process: who it is, and which loops it runs. What is odd in any way is no card."""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from onbox.wire import folder as place
from onbox.wire.identity import Identity
from onbox.wire.text import dumped, loaded

_CAP = 64 << 10
_FORMAT = 1
_LOOPS = 100  # of one process at a time: a card stays under its cap
LABEL = 200  # characters; one of megabytes would take the registry from everyone


class Loop(NamedTuple):
    """A living loop; `total` is None where nobody knows it, `started_at` is Unix time."""

    n: int
    label: str
    total: Optional[int]
    started_at: float


class Card(NamedTuple):
    """A process that can be asked. `loops`: outermost first; the rest None without a group.

    `why` says why it cannot be asked, None when it can.
    """

    identity: Identity
    host: str
    cwd: str
    script: str
    started_at: float
    tag: Optional[str]
    group: Optional[str]
    rank: Optional[int]
    world: Optional[int]
    loops: Tuple[Loop, ...]
    why: Optional[str] = None


def read(folder: Path, pid: int) -> Optional[Card]:
    """The card of `pid`; None where there is none, or one that we would not have written."""
    try:
        said = loaded(place.read_plain(place.card(folder, pid), _CAP))
        card = _card(said)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return card if card.identity.pid == pid else None


def write(folder: Path, card: Card) -> None:
    """Nothing comes back: the card is there. `onbox/` has to be. Raises OSError."""
    written = {
        "format": _FORMAT,
        **card.identity._asdict(),
        **{key: value for key, value in card._asdict().items() if key not in {"identity", "loops"}},
        "loops": [{**loop._asdict(), "label": loop.label[:LABEL]} for loop in card.loops[:_LOOPS]],
    }
    place.write_whole(place.card(folder, card.identity.pid), dumped(written))


def _card(said: Dict[str, Any]) -> Card:
    if said["format"] != _FORMAT:
        raise ValueError("another format")
    loops = said["loops"]
    if not isinstance(loops, list):
        raise TypeError("loops")
    return Card(
        identity=Identity(
            _whole(said["pid"]),
            _perhaps_whole(said["start_ticks"]),
            _perhaps_text(said["boot_id"]),
        ),
        host=_text(said["host"]),
        cwd=_text(said["cwd"]),
        script=_text(said["script"]),
        started_at=_number(said["started_at"]),
        tag=_perhaps_text(said["tag"]),
        group=_perhaps_text(said["group"]),
        rank=_perhaps_whole(said["rank"]),
        world=_perhaps_whole(said["world"]),
        why=_perhaps_text(said.get("why")),
        loops=tuple(
            Loop(
                _whole(loop["n"]),
                _text(loop["label"]),
                _perhaps_whole(loop["total"]),
                _number(loop["started_at"]),
            )
            for loop in loops
        ),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _perhaps_text(value: Any) -> Optional[str]:
    return None if value is None else _text(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a whole number")
    return value


def _perhaps_whole(value: Any) -> Optional[int]:
    return None if value is None else _whole(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("not a number")
    return float(value)
