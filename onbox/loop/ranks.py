"""A group of processes that leave at the same iteration or not at all."""

import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple, Optional

from onbox.wire import folder as place

GO, VOID = "go", "void"
VOTE_WITHIN_S = 5.0
_AGAIN_S = 0.005
_WORD = 16
_NO_RUN_ID = "none"  # torchrun and accelerate say so where they are given no id: jobs beside each other alike


class Held(NamedTuple):
    """To leave when `at` iterations are finished, if the ranks agree on it by then."""

    at: int
    ballot: str
    how: str


class Group(NamedTuple):
    """Which one of how many, in what; all None for a process on its own."""

    group: Optional[str]
    rank: Optional[int]
    world: Optional[int]


def group(name: Optional[object], rank: Optional[int], world: Optional[int]) -> Group:
    """The group as the program says it, else as torch's launchers put it into the environment."""
    said = os.environ.get
    if name is None:
        run, address, port = said("TORCHELASTIC_RUN_ID"), said("MASTER_ADDR"), said("MASTER_PORT")
        name = (run if run != _NO_RUN_ID else None) or (
            "%s:%s" % (address, port) if address and port else None
        )
        if name is None or _whole(said("RANK")) is None or _whole(said("WORLD_SIZE")) is None:
            return Group(None, None, None)
    return Group(
        str(name)[:200],
        _whole(said("RANK") if rank is None else str(int(rank))),
        _whole(said("WORLD_SIZE") if world is None else str(int(world))),
    )


def decided(folder: Path, ballot: str, within_s: float = VOTE_WITHIN_S) -> str:
    """`go` or `void`: the word that stands within that time, then `void`, made by us. Raises OSError."""
    path = place.vote(folder, ballot)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        word = _word(path)
        if word is not None:
            return word
        time.sleep(_AGAIN_S)
    return cast(folder, ballot, VOID)


def cast(folder: Path, ballot: str, word: str) -> str:
    """The word that stands: `word` if none stood before. Raises OSError."""
    path = place.vote(folder, ballot)
    place.ours(folder)
    place.private(path.parent)
    made = path.with_name(".%s.%s" % (ballot, secrets.token_hex(4)))
    place.write_whole(made, word.encode())
    try:
        os.link(str(made), str(path))
    except FileExistsError:
        pass
    finally:
        place.gone(made)
    return _word(path) or VOID


def _word(path: Path) -> Optional[str]:
    """The word that stands, None while none does."""
    try:
        word = place.read_plain(path, _WORD).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    return GO if word == GO else VOID


def _whole(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
