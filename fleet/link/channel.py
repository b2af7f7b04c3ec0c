"""Both directions of one open channel, each bounded."""

import select
from contextlib import suppress

import paramiko

from fleet.link.base import STDERR_MAX_BYTES

_CHUNK_BYTES = 64 * 1024


def send(channel: paramiko.Channel, payload: bytes) -> None:
    """All of `payload`, then the end of input; quietly less when the other side stops reading."""
    with suppress(OSError, EOFError, paramiko.SSHException):  # a script may end before it has read all
        channel.sendall(payload)
        channel.shutdown_write()


def receive(channel: paramiko.Channel, max_bytes: int) -> tuple[bytes, bytes, bool]:
    """All of stdout up to `max_bytes`, the start of stderr, and whether stdout had more."""
    out, err = bytearray(), bytearray()
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    ended = False
    while not ended:
        ended = bool(channel.eof_received or channel.closed)  # asked before the last emptying
        while channel.recv_ready():
            out += channel.recv(_CHUNK_BYTES)
            if len(out) > max_bytes:
                return bytes(out[:max_bytes]), bytes(err), True
        while channel.recv_stderr_ready():
            got = channel.recv_stderr(_CHUNK_BYTES)
            err += got[: STDERR_MAX_BYTES - len(err)]
        if not ended:
            waiting.poll(1000)
    return bytes(out), bytes(err), False
