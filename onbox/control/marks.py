"""`onbox/<id>.taken`: a command is being applied, or was withdrawn. Whoever makes it decides."""

import os
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from onbox.control import place as places
from onbox.control.lines import Command, file_name
from onbox.control.place import Place
from onbox.wire.folder import gone, read_plain, write_whole
from onbox.wire.text import dumped, loaded

_CAP = 4 << 20  # bytes; an id and a path may fill a line of 1 MiB, and ASCII makes six of one character
ENDED = "the program ended while it applied this"
WITHDRAWN = "withdrawn by who asked"


def mark(own: Path, identity: Any) -> Path:
    """The mark of the command with that id; `own` is the folder that is ours."""
    return own / (file_name(identity) + ".taken")


def take(own: Path, document: Command, identity: Any, *, end: Place, world: int) -> Optional[Dict[str, Any]]:
    """None: it is ours now, `end` is the place behind it. Else the mark that was there. Raises OSError."""
    content = {
        "id": identity,
        "path": document.get("path"),
        "op": document.get("op", "set"),
        "world": world,
        "place": end._asdict(),
    }
    return _made(own, mark(own, identity), content)


def withdraw(own: Path, identity: Any, now: float) -> Optional[Dict[str, Any]]:
    """None: no program will apply it. Else the mark that was there. Raises OSError."""
    return _made(own, mark(own, identity), {"id": identity, "withdrawn": True, "at": now})


def left(own: Path) -> Iterator[Tuple[Path, Dict[str, Any]]]:
    """Every mark there is, with what it says; one that cannot be read says nothing but its name."""
    for path in sorted(own.glob("*.taken")):
        yield path, read(path)


def place_of(said: Dict[str, Any]) -> Optional[Place]:
    """The place behind the command of a mark; None where the mark does not tell."""
    try:
        return places.loaded(said.get("place"))
    except ValueError:
        return None


def _made(own: Path, path: Path, content: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    draft = own / (".%s.%d.%d" % (path.name, os.getpid(), threading.get_ident()))
    try:
        write_whole(draft, dumped(content))
        os.link(str(draft), str(path))
    except FileExistsError:
        return read(path)
    finally:
        gone(draft)
    return None


def read(path: Path) -> Dict[str, Any]:
    """What the mark says; its id is at least its name."""
    try:
        said = loaded(read_plain(path, _CAP))
    except (OSError, ValueError):
        said = {}
    return {"id": path.name[: -len(".taken")], **said}
