"""Our host-key policy, as the library asks for it. What it decides stands in `fleet.link.hostkeys`."""

import paramiko

from fleet.link import hostkeys
from fleet.link.hostkeys import HostKey, Known, Refuse

_SIGNED_BY = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # one key type, signatures by other names


class KeyRefusedError(Exception):
    """The judge said no, before anything of us was sent."""

    def __init__(self, refuse: Refuse, offered: HostKey) -> None:
        super().__init__(refuse.why)
        self.refuse = refuse
        self.offered = offered


class Judge(paramiko.MissingHostKeyPolicy):
    """Our host-key policy: the library knows no key, so that it asks us about each, before the login."""

    def __init__(self, pinned: HostKey | None, known: Known) -> None:
        self.pinned = pinned
        self.known = known
        self.accepted: HostKey | None = None

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Return to accept. Raises KeyRefusedError."""
        offered = HostKey(key.get_name(), key.get_base64())
        verdict = hostkeys.judge(offered, self.pinned, self.known.keys)
        if isinstance(verdict, Refuse):
            raise KeyRefusedError(verdict, offered)
        self.accepted = offered

    def check_asked(self, key: paramiko.PKey) -> None:
        """Return if `key` was accepted here. Raises KeyRefusedError when nobody asked.

        The login begins with this: a library that put another policy in our place gets no further.
        """
        offered = HostKey(key.get_name(), key.get_base64())
        if self.accepted != offered:
            raise KeyRefusedError(Refuse("unknown"), offered)

    def types(self) -> tuple[str, ...]:
        """The algorithms to ask for first: those of the keys we could accept."""
        keys = (self.pinned,) if self.pinned else self.known.keys
        types = [key.type for key in keys if key.vouches]
        return tuple(dict.fromkeys(name for kind in types for name in _SIGNED_BY.get(kind, (kind,))))
