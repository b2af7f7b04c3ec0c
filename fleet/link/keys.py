"""Private keys, in files and in the agent: which can be used with nobody there to type. No SSH library."""

import base64
import binascii
import re
import socket
from pathlib import Path
from typing import Literal

from msgspec import Struct

_MAX_BYTES = 64 * 1024
_MAX_AGENT_BYTES = 256 * 1024  # ssh-agent's own limit
_MAX_AGENT_KEYS = 1000
_MAGIC = b"openssh-key-v1\0"
_ARMOUR = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----(.*?)-----END", re.DOTALL)

State = Literal["open", "locked", "absent", "unreadable", "no key"]


class KeyFile(Struct, frozen=True):
    """One identity file. `public` is the key's public half as an agent names it, None where it is not known.

    `mode` is 0 for a file that is not there.
    """

    path: str
    state: State
    mode: int = 0
    public: bytes | None = None


def read_key(path: str) -> KeyFile:
    """The identity file at `path`, with the public half that lies beside it where it does not tell itself."""
    file = Path(path)
    try:
        mode = file.stat().st_mode & 0o7777
        content = file.read_bytes() if file.is_file() and file.stat().st_size <= _MAX_BYTES else b""
    except FileNotFoundError:
        return KeyFile(path, "absent", public=_beside(file))
    except OSError:
        return KeyFile(path, "unreadable", public=_beside(file))
    state, public = parse(content)
    if state == "no key" and (blob := _blob(content)) is not None:
        return KeyFile(path, "absent", public=blob)  # a public half names a key of the agent
    return KeyFile(path, state, mode, public or _beside(file))


def parse(content: bytes) -> tuple[State, bytes | None]:
    """Whether the private key in `content` has a passphrase, and its public half where it says so.

    Source: OpenSSH's PROTOCOL.key, RFC 1421 and RFC 5958.
    """
    armour = _ARMOUR.search(content)
    if armour is None:
        return "no key", None
    if armour[1].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in armour[2]:
        return "locked", None
    if not armour[1].startswith(b"OPENSSH"):
        return "open", None
    try:
        body = base64.b64decode(b"".join(armour[2].split()), validate=True)
    except binascii.Error:
        return "no key", None
    if not body.startswith(_MAGIC):
        return "no key", None
    cipher, at = _string(body, len(_MAGIC))
    _, at = _string(body, at)  # name of the key derivation
    _, at = _string(body, at)  # its options
    public, _ = _string(body, at + 4)  # after the number of keys, which is one
    return ("open" if cipher == b"none" else "locked"), public or None


def _string(body: bytes, at: int) -> tuple[bytes, int]:
    length = int.from_bytes(body[at : at + 4], "big")
    return body[at + 4 : at + 4 + length], at + 4 + length


def _beside(file: Path) -> bytes | None:
    try:
        return _blob(file.with_name(f"{file.name}.pub").read_bytes()[:_MAX_BYTES])
    except OSError:
        return None


def _blob(line: bytes) -> bytes | None:
    words = line.split()
    try:
        return base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        return None


def agent_keys(path: str | None, limit_s: float) -> frozenset[bytes] | None:
    """The public halves that the agent at `path` holds; None: there is no agent, or it does not answer.

    Source: draft-ietf-sshm-ssh-agent, requests 11 and 12.
    """
    if path is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as pipe:
        pipe.settimeout(limit_s)
        try:
            pipe.connect(path)
            pipe.sendall(b"\0\0\0\1\x0b")
            answer = _read(pipe, int.from_bytes(_read(pipe, 4), "big"))
        except (OSError, EOFError):
            return None
    if answer[:1] != b"\x0c":
        return None
    found, at = set(), 5  # after the word for "identities" and their number
    for _ in range(min(int.from_bytes(answer[1:5], "big"), _MAX_AGENT_KEYS)):
        blob, at = _string(answer, at)
        _, at = _string(answer, at)  # its comment
        found.add(blob)
    return frozenset(found)


def _read(pipe: socket.socket, count: int) -> bytes:
    if count > _MAX_AGENT_BYTES:
        raise EOFError
    got = b""
    while len(got) < count:
        more = pipe.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return got
