"""Logging in by public key: the identity files of an address, then what the user's ssh-agent holds.

Nothing is asked, typed or forwarded; the agent only signs.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from copy import copy
from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH

from fleet.link.address import Address
from fleet.link.keys import read_key

MAX_KEY_BYTES = 64 * 1024  # a 16384-bit RSA key has 13 kB
AGENT_LIMIT_S = 5.0  # an agent that lists its keys later than this is taken for dead


_LOADING = threading.Lock()


@lru_cache(maxsize=16)
def _key(path: str, *_as_it_was: int) -> paramiko.PKey:
    """The key in a file, with the certificate beside it, read once for all boxes of a tick.

    Raises as the library does.
    """
    return paramiko.PKey.from_path(path)


class Agent(AgentSSH):
    """The keys of the ssh-agent at `path`, listed within `limit_s`; a signature may take `sign_limit_s`."""

    def __init__(self, path: str, limit_s: float, sign_limit_s: float) -> None:
        super().__init__()
        pipe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pipe.settimeout(max(0.001, limit_s))
            pipe.connect(path)
            self._connect(pipe)  # type: ignore[attr-defined]  # as paramiko's own Agent does
            pipe.settimeout(max(0.001, sign_limit_s))  # a hardware key waits for a touch
        except BaseException:
            pipe.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._close()  # type: ignore[attr-defined]


class Login:
    """One attempt to log in, and what became of each key. `authenticate` is what SSHClient.connect calls.

    `refused` were offered in vain, `unusable` could not be offered (with the reason), `locked` have a
    passphrase that nobody here knows.
    """

    def __init__(
        self, address: Address, left_s: Callable[[], float], check_asked: Callable[[paramiko.PKey], None]
    ) -> None:
        self.refused: list[str] = []
        self.unusable: list[str] = []
        self.locked: list[str] = []
        self._address = address
        self._left_s = left_s
        self._check_asked = check_asked
        self._agent: Agent | None = None

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Return when logged in. Raises paramiko.SSHException (or OSError) otherwise.

        Nothing is offered to a box whose key our own judge was not asked about.
        """
        self._check_asked(transport.get_remote_server_key())
        for name, key in self._keys():
            try:
                more = transport.auth_publickey(self._address.user, key)
            except paramiko.SSHException:
                if transport.is_active():
                    self.refused.append(name)
                    continue
                raise
            if not more:
                return
            self.unusable.append(f"{name} is accepted, but the box wants a second proof that we cannot give")
            break
        raise paramiko.AuthenticationException

    def close(self) -> None:
        """Hang up on the agent."""
        if self._agent is not None:
            self._agent.close()

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        tried: set[bytes] = set()
        for path in map(Path, self._address.identities):
            key = self._load(path)
            if key is not None and key.asbytes() not in tried:
                tried.add(key.asbytes())
                if key.public_blob is not None:
                    yield f"the certificate of {path}", key
                    key = copy(key)  # the first one is kept for other boxes
                    key.public_blob = None
                yield str(path), key
        held = self._agent_keys()
        halves = {path: read_key(path).public for path in self._address.identities} if held else {}
        wanted = set(halves.values())
        # A box has soon had enough of keys: what a file names goes before all else that the agent holds.
        for key in sorted(held, key=lambda key: key.asbytes() not in wanted):
            if key.asbytes() in tried or (self._address.identities_only and key.asbytes() not in wanted):
                continue
            tried.add(key.asbytes())
            self.locked = [path for path in self.locked if key.asbytes() != halves.get(path)]
            yield f"the agent's {key.get_name()} {key.fingerprint}", key

    def _agent_keys(self) -> tuple[paramiko.PKey, ...]:
        if self._address.agent is None:
            return ()
        try:
            left_s = self._left_s()
            self._agent = Agent(self._address.agent, min(AGENT_LIMIT_S, left_s / 2), left_s)
        except (OSError, paramiko.SSHException):
            self.unusable.append(f"no ssh-agent answers at {self._address.agent}")
            return ()
        return tuple(self._agent.get_keys())

    def _load(self, path: Path) -> paramiko.PKey | None:
        """The private key in `path`, None when it cannot be used; why is noted where it matters."""
        try:
            found = path.stat() if path.is_file() else None
            if found is None or found.st_size > MAX_KEY_BYTES:
                if self._address.identities_only:  # named on purpose, unlike ssh's default names
                    self.unusable.append(f"there is no key file {path}")
                return None
            with _LOADING:
                return _key(str(path), *_as_it_is(path), *_as_it_is(path.with_name(f"{path.name}-cert.pub")))
        except (
            TypeError,
            paramiko.PasswordRequiredException,
        ):  # TypeError: "no password given"
            self.locked.append(str(path))
        except OSError as error:
            self.unusable.append(f"{path} cannot be read ({error.strerror})")
        except Exception:  # noqa: BLE001 - a file that no parser takes, in whatever way it says so
            if path.suffix != ".pub":  # a public half names a key of the agent
                self.unusable.append(f"{path} is no private key that can be used here")
        return None


def _as_it_is(path: Path) -> tuple[int, ...]:
    """What another file under this name would have otherwise; empty when there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
