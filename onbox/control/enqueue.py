"""A command into the queue: one line, written at once, on a line of its own."""

import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from onbox.control import files, lines
from onbox.control.lines import Command


def enqueue(
    folder: Path,
    path: str,
    args: Optional[List[Any]] = None,
    kwargs: Optional[Dict[str, Any]] = None,
    *,
    op: str = "set",
    expires_s: Optional[float] = None,
) -> Command:
    """The command that now stands in the queue of `folder`, which is made where it is missing.

    Raises TypeError for arguments that are no list, no dict or no JSON; ValueError for a line over 1 MiB;
    Unsafe, OSError.
    """
    if args is not None and not isinstance(args, list):
        raise TypeError("args must be a list")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("kwargs must be a dict")
    now = time.time()
    until = None if expires_s is None else now + expires_s
    document = lines.command(path, args or [], kwargs or {}, op=op, now=now, expires=until)
    content = lines.encoded(document)
    if len(content) > lines.MAX_LINE:
        raise ValueError("a command of %d bytes, at most %d" % (len(content), lines.MAX_LINE))
    files.opened(folder)
    files.append(files.commands(folder), content)
    return document
