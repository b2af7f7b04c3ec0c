"""Host keys: which keys are known for a box, and the one decision whether the offered key is the box's.

Pure, but for reading the user's own known_hosts files, which is never writing them.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from fleet.link.address import Address

MAX_FILE_BYTES = 5_000_000  # a file of 20,000 boxes has 3 MB
_MARKS: dict[str, Literal["", "revoked", "authority"]] = {
    "": "",
    "@revoked": "revoked",
    "@cert-authority": "authority",
}


class HostKey(Struct, frozen=True):
    """One public host key as known_hosts writes it: `type` and `b64`.

    `mark` is set only on keys read from a user's file: `revoked`, `portless` for a key that stands under
    the host without our port, which can vouch for a box but never accuse it, or `authority` for the key of
    a certificate authority, which signs the keys of boxes and is none.
    """

    type: str
    b64: str
    mark: Literal["", "revoked", "portless", "authority"] = ""

    @property
    def vouches(self) -> bool:
        """Whether a box may be accepted by this very key."""
        return self.mark in {"", "portless"}

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as ssh-keygen -l prints it."""
        return fingerprint(self.b64)

    def same_as(self, other: "HostKey") -> bool:
        """Whether both are the very same key, marks aside."""
        return (self.type, self.b64) == (other.type, other.b64)


class Shown(Struct, frozen=True):
    """A host key of which only type and fingerprint are known."""

    type: str
    fingerprint: str


class Known(Struct, frozen=True):
    """What the user's files say of one box. `skipped` names the files that were not read, with the reason."""

    keys: tuple[HostKey, ...] = ()
    skipped: tuple[str, ...] = ()


class Accept(Struct, frozen=True, tag="accept"):
    """The key is the box's. `pin` says that it is not pinned yet, and should be."""

    pin: bool


class Refuse(Struct, frozen=True, tag="refuse"):
    """The key is not to be trusted. `known` is the key that stands against it, None for unknown.

    `authority`: nobody knows the key, but a certificate authority may vouch for the box over the other link.
    """

    why: Literal["unknown", "changed", "revoked", "authority"]
    known: HostKey | None = None


def fingerprint(key_b64: str) -> str:
    """`SHA256:…` of a public key in base64.

    Raises ValueError when it is no base64.
    """
    digest = hashlib.sha256(base64.b64decode(key_b64, validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def judge(offered: HostKey, pinned: HostKey | None, user_known: tuple[HostKey, ...]) -> Accept | Refuse:
    """Whether `offered` may be trusted. A key that the user revoked never is; else a pinned key decides."""
    same = [key for key in user_known if key.same_as(offered)]
    if any(key.mark == "revoked" for key in same):
        return Refuse("revoked", offered)
    if pinned is not None:
        return Accept(pin=False) if pinned.same_as(offered) else Refuse("changed", pinned)
    if any(key.vouches for key in same):
        return Accept(pin=True)
    others = [key for key in user_known if key.type == offered.type and not key.mark]
    if others:
        return Refuse("changed", others[0])
    return Refuse("authority" if any(key.mark == "authority" for key in user_known) else "unknown")


def known_in_user_files(address: Address, *, only_revoked: bool = False) -> Known:
    """Every key that the user's known_hosts files hold for this box, in their order.

    Plain, `[host]:port` and hashed entries, patterns, HostKeyAlias and both markers count.
    Files that are missing are empty; larger than 5 MB or unreadable ones are skipped, and named.
    With `only_revoked` just the `@revoked` lines are looked at, which costs next to nothing.
    """
    keys: list[HostKey] = []
    skipped: list[str] = []
    for path in map(Path, address.known_hosts):
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                continue  # /dev/null: the user wants no such file
            if status.st_size > MAX_FILE_BYTES:
                skipped.append(f"{path} (larger than {MAX_FILE_BYTES // 1_000_000} MB)")
                continue
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            skipped.append(f"{path} ({error.strerror})")
            continue
        for line in lines:
            if not only_revoked or line.lstrip().startswith(b"@revoked"):
                keys += _keys_of(line, address)
    return Known(tuple(keys), tuple(skipped))


def _keys_of(line: bytes, address: Address) -> Iterator[HostKey]:
    words = line.decode("utf-8", "replace").split()
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#") or marker not in _MARKS:
        return
    name = address.lookup_name
    found = _names(words[0], name)
    portless = not found and name.startswith("[") and _names(words[0], address.host.lower())
    if not found and not portless:
        return
    with contextlib.suppress(ValueError):  # a line that is no key is no key
        fingerprint(words[2])
        yield HostKey(words[1], words[2], _MARKS[marker] or ("portless" if portless else ""))


def _names(field: str, name: str) -> bool:
    """Whether the first field of a line means `name`. Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""
    if field.startswith("|1|"):
        return _is_hash_of(field, name)
    meant = False
    for pattern in field.lower().split(","):
        if _matches(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            meant = True
    return meant


def _is_hash_of(field: str, name: str) -> bool:
    salt, _, digest = field[3:].partition("|")
    try:
        wanted = base64.b64decode(digest, validate=True)
        key = base64.b64decode(salt, validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(hmac.digest(key, name.encode(), "sha1"), wanted)


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    expression = re.escape(re.sub(r"\*+", "*", pattern)).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name) is not None
