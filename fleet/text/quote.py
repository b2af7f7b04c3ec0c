"""The one place where a value becomes a word of a shell, or a line becomes words."""

import shlex


def sh(value: str) -> str:
    """`value` as exactly one word for sh, bash, dash and busybox.

    Raises ValueError for a NUL character, which no argument can hold.
    """
    if "\0" in value:
        raise ValueError("a shell word cannot hold a NUL character")
    return shlex.quote(value)


def words(line: str) -> list[str]:
    """The words of a command line as sh would split it; nothing is expanded and no shell is asked.

    Raises ValueError for a quotation that does not end.
    """
    return shlex.split(line)
