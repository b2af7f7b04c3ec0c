"""A run's result files, as they lie on the box."""

from msgspec import Struct

from fleet.arming.ask import ask
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.model.run import Run
from fleet.text.frame import Section

_FRAGMENTS = ("frame", "ground", "files")
_FRAME_BYTES = 4096
_WHY = {2: "not there", 3: "no plain file", 4: "cannot be read"}


class ResultFile(Struct, frozen=True):
    """One file. `content` None: it could not be read, and `why` says it. `size` is all of it, in bytes.

    `cut`: `content` is only the file's beginning. NUL bytes are dropped from it.
    """

    path: str
    content: bytes | None
    size: int
    cut: bool = False
    why: str = ""


def read_files(link: Link, *, run: Run, max_bytes: int, limit_s: float = 20.0) -> tuple[ResultFile, ...]:
    """The run's result files in the order of its spec, sharing `max_bytes`.

    Raises ProbeUnreadable, LinkError, UsageError for a path that no request line can hold.
    """
    paths = run.spec.results
    each = max_bytes // max(1, len(paths))
    pairs = [("cwd", run.spec.cwd or "-"), ("max", str(each)), *(("file", path) for path in paths)]
    where = run.box.name
    answer = ask(link, _FRAGMENTS, pairs, where=where, limit_s=limit_s, max_bytes=max_bytes + _FRAME_BYTES)
    sizes = [section for section in answer.sections if section.name == "size"]
    files = [section for section in answer.sections if section.name == "file"]
    if not len(sizes) == len(files) == len(paths):
        raise ProbeUnreadable("the box answered for other files than were asked for", where=where)
    return tuple(_file(path, size, file, each) for path, size, file in zip(paths, sizes, files, strict=True))


def _file(path: str, size: Section, file: Section, most: int) -> ResultFile:
    if file.status != 0:
        return ResultFile(path, None, 0, why=_WHY.get(file.status, "cannot be read"))
    count = int(size.text) if size.text.isdecimal() else len(file.content)
    return ResultFile(path, file.content, count, cut=count > most)
