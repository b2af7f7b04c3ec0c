"""Where babysit.toml is: the nearest one from here upward, else the user's own. Reads; decides nothing."""

from pathlib import Path

from fleet.errors import SpecError
from fleet.model.spec import Spec
from fleet.spec.decode import decode

FILE_NAME = "babysit.toml"
_OTHERS_MAY_WRITE = 0o022


def load(start: Path, user_file: Path) -> Spec:
    """The spec that holds in folder `start`; an empty Spec when there is no file at all.

    Raises SpecError when the file cannot be read, can be written by others, or has mistakes.
    """
    found = next(
        (folder / FILE_NAME for folder in (start, *start.parents) if (folder / FILE_NAME).is_file()),
        user_file,
    )
    return read(found) if found.is_file() else Spec()


def read(found: Path) -> Spec:
    """The spec in that very file. Raises SpecError as `load` does."""
    if found.stat().st_mode & _OTHERS_MAY_WRITE:
        # It holds commands that we run on a box: whoever may write it may run them.
        hint = f"chmod go-w {found}"
        raise SpecError(f"{found} can be written by other users", where=str(found), hint=hint)
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{found} cannot be read: {error}", where=str(found)) from None
    return decode(text, str(found))
