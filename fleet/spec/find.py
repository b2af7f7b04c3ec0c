"""Where babysit.toml is: the nearest one from here upward, else the user's own. Reads; decides nothing."""

import os
import stat
from pathlib import Path

from fleet.errors import SpecError
from fleet.model.spec import Spec
from fleet.spec.decode import decode
from fleet.text.quote import sh

FILE_NAME = "babysit.toml"
MAX_BYTES = 1_000_000  # thousands of runs; a spec is written by hand
_OTHERS_MAY_WRITE = 0o022


def load(start: Path, user_file: Path) -> Spec:
    """The spec that holds in folder `start`; an empty Spec when there is no file at all.

    Raises SpecError when the file cannot be read, can be written by others, or has mistakes.
    """
    found = next(
        (folder / FILE_NAME for folder in (start, *start.parents) if _is_file(folder / FILE_NAME)),
        user_file,
    )
    return read(found) if _is_file(found) else Spec()


def read(found: Path) -> Spec:
    """The spec in that very file. Raises SpecError as `load` does."""
    try:
        # What is judged is what is read: the name may mean another file a moment later.
        with os.fdopen(os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _refuse_what_others_may_write(found, os.fstat(file.fileno()))
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SpecError(f"{found} is larger than {MAX_BYTES} bytes", where=str(found))
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{found} cannot be read: {error}", where=str(found)) from None
    return decode(text, str(found))


def _refuse_what_others_may_write(found: Path, seen: os.stat_result) -> None:
    # It holds commands that we run on a box: whoever may write it may run them.
    if not stat.S_ISREG(seen.st_mode):
        raise SpecError(f"{found} is no plain file", where=str(found))
    if seen.st_uid not in (os.geteuid(), 0):
        says = f"{found} belongs to another user (uid {seen.st_uid})"
        raise SpecError(says, where=str(found), hint=f"if it is yours: sudo chown $(id -u) {sh(str(found))}")
    if seen.st_mode & _OTHERS_MAY_WRITE:
        hint = f"chmod go-w {sh(str(found))}"
        raise SpecError(f"{found} can be written by other users", where=str(found), hint=hint)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above us that we may not look into holds nothing for us
        return False
