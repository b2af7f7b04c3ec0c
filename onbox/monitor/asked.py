"""What a caller asked for, checked and brought into the words of Popen, before anything is started."""

import math
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from onbox.meter.sampler import Options
from onbox.monitor.ring import KEPT_BYTES, Text
from onbox.monitor.sink import FORMATS

Command = Union[str, Sequence[Any]]
_STREAMS = ("stdout", "stderr")


class Asked(NamedTuple):
    """One command for `Launch`.

    `shown` and `executable` go into the record. `rings`: which streams are read by us, and how many bytes are
    kept, None all. `feed`: what it reads. `files`: descriptors of ours that its start has no more use for.
    """

    words: Command
    shown: List[str]
    executable: str
    then: Optional[Callable[[], None]]
    keywords: Dict[str, Any]
    rings: Dict[str, Optional[int]]
    feed: Optional[bytes]
    text: Text
    check: bool
    files: List[int]


def positive(**values: float) -> None:
    """Nothing comes back. Raises ValueError for the first that is no number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError("%s must be a number above 0, not %r" % (name, value))


def not_negative(**values: float) -> None:
    """Nothing comes back. Raises ValueError for the first that is no number from 0 on."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError("%s must be a number from 0 on, not %r" % (name, value))


def known_format(form: str) -> None:
    """Nothing comes back. Raises ValueError for a format that there is none of."""
    if form not in FORMATS:
        raise ValueError("output_format must be one of %s, not %r" % (", ".join(FORMATS), form))


def options(base_ms: float, max_ms: float, form: str, **flags: Any) -> Options:
    """What is to be sampled. Raises ValueError."""
    positive(base_interval_ms=base_ms, max_interval_ms=max_ms)
    known_format(form)
    most = max(int(max_ms), int(base_ms)) or 1
    return Options(base_interval_ms=int(base_ms) or 1, max_interval_ms=most, **flags)


def ask(cmd: Command, mark: str, stdout_file: Any = None, stderr_file: Any = None, **given: Any) -> Asked:
    """What `subprocess.run(cmd, **given)` would start, its streams read where nobody says where they go.

    Raises ValueError and TypeError for what cannot be meant, OSError for a file that cannot be opened.
    """
    words = _words(cmd, whole=bool(given.get("shell")))
    capture = given.pop("capture_output", False)
    check = bool(given.pop("check", False))
    either = given.pop("universal_newlines", None)
    text = Text(
        bool(given.pop("text", None) or either), given.pop("encoding", None), given.pop("errors", None)
    )
    feed = given.pop("input", None)
    if feed is not None:
        if given.get("stdin") is not None:
            raise ValueError("stdin and input may not both be used")
        given["stdin"] = subprocess.PIPE
    elif given.get("stdin") == subprocess.PIPE:
        feed = b""  # nobody else could write to it
    then = given.pop("preexec_fn", None)
    if then is None and given.get("process_group") is None:
        given.setdefault("start_new_session", True)
    given["env"] = {**(os.environ if given.get("env") is None else given["env"]), "ONBOX_WATCH": mark}
    shown = [os.fsdecode(word) for word in ([words] if isinstance(words, (str, bytes)) else words)]
    if given.get("shell"):
        shown = ["/bin/sh", "-c", *shown]
    rings: Dict[str, Optional[int]] = {}
    files: List[int] = []
    paths = {"stdout": stdout_file, "stderr": stderr_file}
    try:
        for name in _STREAMS:
            _stream(name, given, paths, rings, files, capture=capture)
    except BaseException:
        close(files)
        raise
    given["bufsize"] = 0
    executable = found(os.fsdecode(given.get("executable") or shown[0]), given["env"])
    written = None if feed is None else text.written(feed)
    return Asked(words, shown, executable, then, given, rings, written, text, check, files)


def found(name: str, environment: Mapping[Any, Any]) -> str:
    """The file that the command `name` is, as far as it can be known beforehand; else the name."""
    if "/" in name:
        return os.path.realpath(name)
    for folder in os.get_exec_path(environment):
        path = Path(os.fsdecode(folder), name)
        if path.is_file() and os.access(path, os.X_OK):
            return os.path.realpath(path)
    return name


def close(files: List[int]) -> None:
    """Nothing comes back, and none of them is left."""
    while files:
        os.close(files.pop())


def _words(cmd: Command, *, whole: bool) -> Command:
    if isinstance(cmd, (str, bytes)) and not whole:
        words: List[Any] = shlex.split(os.fsdecode(cmd))
    elif isinstance(cmd, (str, bytes)):
        return cmd
    elif isinstance(cmd, os.PathLike):
        words = [cmd]
    else:
        words = list(cmd)
    if not words:
        raise ValueError("there is no command to run: %r" % (cmd,))
    return words


def _stream(
    name: str,
    given: Dict[str, Any],
    paths: Dict[str, Any],
    rings: Dict[str, Optional[int]],
    files: List[int],
    *,
    capture: bool,
) -> None:
    path = paths[name]
    if name in given and (capture or path is not None):
        raise ValueError(
            "%s and %s may not both be used" % (name, "capture_output" if capture else name + "_file")
        )
    if capture and path is not None:
        raise ValueError("capture_output and %s_file may not both be used" % name)
    if path is not None:
        if name == "stderr" and paths["stdout"] is not None and os.fspath(path) == os.fspath(paths["stdout"]):
            given[name] = subprocess.STDOUT  # two openings would write over each other
            return
        # O_APPEND: by another name it may be the other stream's file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        files.append(os.open(path, flags, 0o666))
        given[name] = files[-1]
    elif capture or given.get(name, subprocess.PIPE) == subprocess.PIPE:
        rings[name] = None if capture or name in given else KEPT_BYTES
        given[name] = subprocess.PIPE
