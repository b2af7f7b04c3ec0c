"""The URL behind a reference. Only the reference is ever written, shown or stored; the URL never is."""

import os
import stat
import subprocess
from pathlib import Path

from fleet.errors import DeliveryError
from fleet.text import quote
from fleet.text.redact import learn

MAX_BYTES = 8192
CMD_LIMIT_S = 10.0
_OTHERS = 0o077


def resolve(reference: str) -> str:
    """The URL that `env:NAME`, `file:PATH` or `cmd:PROGRAM WORD…` refers to; it is masked from then on.

    Raises DeliveryError naming the reference: not set, no such file, readable by others, a program that
    failed or took longer than `CMD_LIMIT_S`, empty, not one line.
    """
    kind, _, name = reference.partition(":")
    if kind not in _READERS or not name:
        raise DeliveryError(
            "a target's url must be env:NAME, file:PATH or cmd:PROGRAM", where=_named(reference)
        )
    url = _READERS[kind](name, reference).strip()
    if not url or len(url.splitlines()) != 1:
        raise DeliveryError(f"{reference} must hold exactly one line, the URL", where=reference)
    learn(url)
    return url


def _named(reference: str) -> str:
    # A URL written where its reference belongs is a secret already: say only what kind of thing it is.
    return reference if reference.startswith(tuple(f"{kind}:" for kind in _READERS)) else "(not a reference)"


def _from_environment(name: str, reference: str) -> str:
    if name not in os.environ:
        says = f"{reference}: no such variable in the environment"
        raise DeliveryError(says, where=reference, hint="cron starts with a bare one: file:PATH works there")
    return os.environ[name]


def _from_file(name: str, reference: str) -> str:
    path = Path(name).expanduser()
    if not path.is_absolute():
        raise DeliveryError(f"{reference}: the path must be absolute or begin with ~/", where=reference)
    try:
        # Looked at and read through one descriptor; without waiting, should someone have put a FIFO there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DeliveryError(f"{reference}: {error.strerror}", where=reference) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DeliveryError(f"{reference} is no plain file", where=reference)
        if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
            says = (
                f"{reference} can be read by others (mode {found.st_mode & 0o7777:04o}, not 0600 and yours)"
            )
            raise DeliveryError(says, where=reference, next=(f"chmod 600 {quote.sh(str(path))}",))
        return os.read(descriptor, MAX_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _from_program(name: str, reference: str) -> str:
    """What a password store prints: no shell, no terminal to ask at, its own words to nobody."""
    try:
        child = subprocess.run(
            quote.words(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CMD_LIMIT_S,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{reference}: {error}", where=reference) from None
    except subprocess.TimeoutExpired:
        says = f"{reference}: no answer within {CMD_LIMIT_S:g} s"
        hint = "does it ask for a passphrase? nobody is there to type it"
        raise DeliveryError(says, where=reference, hint=hint) from None
    if child.returncode != 0:
        raise DeliveryError(f"{reference}: ended with {child.returncode}", where=reference, next=(name,))
    return child.stdout[:MAX_BYTES].decode("utf-8", "replace")


_READERS = {"env": _from_environment, "file": _from_file, "cmd": _from_program}
