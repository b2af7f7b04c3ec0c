"""The one place where a value becomes a word of a shell."""

import shlex


def sh(value: str) -> str:
    """`value` as exactly one word for sh, bash, dash and busybox.

    Raises ValueError for a NUL character, which no argument can hold.
    """
    if "\0" in value:
        raise ValueError("a shell word cannot hold a NUL character")
    return shlex.quote(value)
