"""`onbox/listener.json`: which program takes the commands of a queue."""

import os
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from onbox.wire import identity
from onbox.wire.folder import read_plain, write_whole
from onbox.wire.identity import Identity
from onbox.wire.text import dumped, loaded

_CAP = 4096


class Listener(NamedTuple):
    """A program that configured the queue; `polled`: it has asked for commands, too. `since` is Unix time.

    `tag` is its BABYSIT_TAG, None for a program of no run.
    """

    who: Identity
    host: str
    since: float
    polled: bool
    world: int
    tag: Optional[str] = None


def announced(own: Path) -> Optional[Listener]:
    """Who listens, or did; None where nobody did, or it cannot be read. `own` is the folder of ours."""
    try:
        said = loaded(read_plain(own / "listener.json", _CAP))
        who = Identity(int(said["pid"]), said["start_ticks"], said["boot_id"])
        tag = said.get("tag")
        return Listener(
            who,
            str(said["host"]),
            float(said["since"]),
            bool(said["polled"]),
            int(said["world"]),
            tag if isinstance(tag, str) else None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def announce(own: Path, *, polled: bool, world: int) -> None:
    """Nothing comes back: this process is named as who listens. Raises OSError."""
    who = identity.of(os.getpid()) or Identity(os.getpid(), None, None)
    document: Dict[str, Any] = {"format": 1, **who._asdict(), "host": _host(), "since": time.time()}
    document.update(polled=polled, world=world, tag=os.environ.get("BABYSIT_TAG"))
    write_whole(own / "listener.json", dumped(document))


def lives(listener: Listener) -> Optional[bool]:
    """Whether that program lives; None where it runs on another host, or there is no telling."""
    if listener.host != _host() or listener.who.start_ticks is None:
        return None
    return identity.same(listener.who)


def stranger(own: Path, tag: str) -> str:
    """Why no program of the run with that tag takes the commands, empty if one does, in whichever stage."""
    found = announced(own)
    if found is None:
        return "nobody of ours takes the commands here"
    theirs = (found.tag or "").split("/")[0]
    if theirs == tag:
        return ""
    return "pid %d takes the commands, of %s" % (found.who.pid, "the run " + theirs if theirs else "no run")


def taker(own: Path) -> Optional[Listener]:
    """The living program of this host that takes the commands, perhaps this one; None: nobody does."""
    found = announced(own)
    return found if found is not None and found.polled and lives(found) else None


def _host() -> str:
    return os.uname().nodename
