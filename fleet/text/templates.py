"""Where our templates are, and the scripts we send. Reading files only; nothing is filled in here."""

from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """The templates folder: inside the installed package, else beside it in a checkout."""
    packed = Path(__file__).parents[2] / "babysit" / "templates"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "templates"


@cache
def box_script(*names: str) -> bytes:
    """One constant sh script: the named fragments of `templates/box/`, joined in this order.

    Nothing is filled in: what a script needs to know it reads from its standard input, as data.
    Raises FileNotFoundError for a name that is not there.
    """
    return b"\n".join((folder() / "box" / f"{name}.sh").read_bytes() for name in names) + b"\n"
