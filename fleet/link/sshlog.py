"""What the ssh program says of its own visit: how far it came, whom it met, why it failed. Pure.

Some of these lines carry words of the other side, which may even hold line breaks. So what is read here
only ever names a cause: nothing is sent, trusted or believed of a run because of it.
"""

import errno
import os
import re
import socket
from collections.abc import Callable
from typing import Literal

from fleet.link.causes import Stage
from fleet.link.hostkeys import Shown
from fleet.text.untrusted import render_untrusted

_MAX_LINE_BYTES = 64 * 1024
_MAX_GREETING_BYTES = 16 * 1024
_MAX_KEYS = 64
_MAX_NAME_CHARS = 300
_STRICT = {"local client": "kex-strict-c-v00@openssh.com", "peer server": "kex-strict-s-v00@openssh.com"}
_CERTIFICATE = "-cert-v01@openssh.com"
_NO_NAME = re.compile(r"not known|not provided|No address|does not resolve|Non-recoverable")
_ERRNO = {os.strerror(number): number for number in errno.errorcode}


class SshLog:
    """The story of one ssh process at `LogLevel=DEBUG2`, as far as it has been told.

    `vouched` says what ssh accepted the box by: its key, or a certificate (None: by neither, so far).
    `refused` is why it did not. `no_session`: the box let us in, and gave no session. `status_came` and
    `signal_came`: it told how the command ended; `eof_came`: that its answer has.
    `no_common` is what the two could not agree on, and what the box offered instead. `strict` has, for each
    of the two, whether it would keep the strict order of the key exchange. `offered` and `accepted` are the
    login key on trial. `error` is the exception that the same failure would have been in our own code.
    """

    def __init__(self) -> None:
        self.stage = Stage.RESOLVE
        self.greeting = b""
        self.speaker = ""
        self.strict: dict[str, bool] = {}
        self.no_common: tuple[str, str] | None = None
        self.shown: Shown | None = None
        self.vouched: Literal["key", "certificate"] | None = None
        self.refused: Literal["unknown", "changed", "revoked"] | None = None
        self.certificate_fault = ""
        self.offered = ""
        self.accepted = ""
        self.refused_keys: list[str] = []
        self.unusable_keys: list[str] = []
        self.locked_keys: list[str] = []
        self.missing_keys: list[str] = []
        self.eof_came = False
        self.status_came = False
        self.signal_came = False
        self.hung_up = False
        self.no_session = False
        self.error: OSError | None = None
        self.last_words = ""
        self._rest = b""

    @property
    def strict_kex(self) -> bool | None:
        """Whether both sides keep the strict order of the key exchange; None: not known yet."""
        return all(self.strict.values()) if len(self.strict) == len(_STRICT) else None

    def feed(self, got: bytes) -> None:
        """Take what was read; lines may come in pieces."""
        *lines, rest = (self._rest + got).split(b"\n")
        self._rest = rest[:_MAX_LINE_BYTES]
        for line in lines:
            self._take(line[:_MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))

    def _take(self, line: str) -> None:
        for pattern, effect in _TABLE:
            if match := pattern.match(line):
                effect(self, match)
                return
        if line and not line.startswith("debug"):
            self.last_words = line


_Effect = Callable[[SshLog, re.Match[str]], None]
_TABLE: list[tuple[re.Pattern[str], _Effect]] = []  # first match wins


def _on(*patterns: str) -> Callable[[_Effect], _Effect]:
    """A row of the table: lines that begin so have this effect. Source: tried with OpenSSH 9.2."""

    def add(effect: _Effect) -> _Effect:
        _TABLE.append((re.compile("|".join(patterns)), effect))
        return effect

    return add


def _reached(stage: Stage, *patterns: str) -> None:
    """Rows for lines that say no more than how far the visit has come."""

    @_on(*patterns)
    def _(log: SshLog, _: re.Match[str]) -> None:
        log.stage = stage


_reached(Stage.CONNECT, r"debug1: Connecting to .* port \d+\.$")
_reached(Stage.GREETING, r"debug1: Connection established\.$", r"debug1: Executing proxy ")
_reached(Stage.HANDSHAKE, r"debug1: Remote protocol version ")
_reached(Stage.LOGIN, r"debug1: SSH2_MSG_NEWKEYS received")
_reached(Stage.COMMAND, r"Authenticated to ")

# -- the greeting and what both can speak


@_on(r"debug1: kex_exchange_identification: banner line \d+: (.*)")
def _greeting(log: SshLog, match: re.Match[str]) -> None:
    log.greeting = (log.greeting + match[1].encode() + b"\n")[:_MAX_GREETING_BYTES]


@_on(r"debug2: (local client|peer server) KEXINIT proposal")
def _proposal(log: SshLog, match: re.Match[str]) -> None:
    log.speaker = match[1]


@_on(r"debug2: KEX algorithms: (.*)")
def _kex_algorithms(log: SshLog, match: re.Match[str]) -> None:
    if log.speaker:
        log.strict.setdefault(log.speaker, _STRICT[log.speaker] in match[1].split(","))


@_on(r"Unable to negotiate with .*: no matching (.+) found\. Their offer: (.*)")
def _nothing_in_common(log: SshLog, match: re.Match[str]) -> None:
    log.no_common = match[1], match[2]


# -- the host key


@_on(r"debug1: Server host (?:key|certificate): (\S+) (SHA256:[^\s,]+)")
def _host_key(log: SshLog, match: re.Match[str]) -> None:
    log.shown = log.shown or Shown(match[1].removesuffix(_CERTIFICATE), match[2])


@_on(r"debug1: Host '.*' is known and matches the .* host (key|certificate)\.")
def _vouched(log: SshLog, match: re.Match[str]) -> None:
    log.vouched = "key" if match[1] == "key" else "certificate"


@_on(r"debug1: No matching CA found\.")
def _not_by_certificate(log: SshLog, _: re.Match[str]) -> None:
    log.vouched = None


@_on(r"Certificate invalid: (.*)")
def _bad_certificate(log: SshLog, match: re.Match[str]) -> None:
    log.certificate_fault = match[1]


@_on(r".*REVOKED HOST KEY DETECTED")
def _revoked(log: SshLog, _: re.Match[str]) -> None:
    log.refused = "revoked"


@_on(r".*REMOTE HOST IDENTIFICATION HAS CHANGED")
def _changed(log: SshLog, _: re.Match[str]) -> None:
    log.refused = "changed"


@_on(r"No .* host key is known for ", r"Host key verification failed")
def _unknown(log: SshLog, _: re.Match[str]) -> None:
    log.refused = log.refused or "unknown"


# -- the login


@_on(r"debug1: Offering public key: (.+) \S+ SHA256:\S+(.*)")
def _offering(log: SshLog, match: re.Match[str]) -> None:
    log.offered = f"the agent's {match[1]}" if match[2].strip() == "agent" else match[1]


@_on(r"debug1: Server accepts key: (.+) \S+ SHA256:\S+")
def _accepting(log: SshLog, match: re.Match[str]) -> None:
    log.accepted, log.offered = match[1], ""


@_on(r"Authenticated using .* with partial success")
def _half_in(log: SshLog, _: re.Match[str]) -> None:
    name, log.accepted = log.accepted, ""
    _note(log.unusable_keys, f"{name} is accepted, but the box wants a second proof that we cannot give")


@_on(r"debug1: Authentications that can continue:")
def _next_key(log: SshLog, _: re.Match[str]) -> None:
    name, log.offered = log.offered, ""
    _note(log.refused_keys, name)


@_on(r"Load key \"(.*)\": (.*)")
def _unloadable(log: SshLog, match: re.Match[str]) -> None:
    path, why = match[1], match[2]
    log.accepted = "" if log.accepted == path else log.accepted
    if "passphrase" in why:
        _note(log.locked_keys, path)
    elif "permissions" in why:
        _note(log.unusable_keys, f"{path} can be read by others, so that ssh leaves it (chmod 600)")
    elif not path.endswith(".pub"):  # a public half names a key of the agent
        _note(log.unusable_keys, f"{path} is no private key that can be used here")


@_on(r"no such identity: (.*): ")
def _missing(log: SshLog, match: re.Match[str]) -> None:
    _note(log.missing_keys, match[1])


@_on(r"sign_and_send_pubkey: signing failed for \S+ \"(.*)\".*: (.*)")
def _unsigned(log: SshLog, match: re.Match[str]) -> None:
    log.accepted = ""
    _note(log.unusable_keys, f"{match[1]} could not sign: {match[2]}")


@_on(r"(?:.*: )?Permission denied \(", r"debug1: No more authentication methods")
def _denied(log: SshLog, _: re.Match[str]) -> None:
    # Wanted by the box and never used: ssh may not ask for its passphrase.
    name, log.accepted = log.accepted, ""
    _note(log.locked_keys, name)


@_on(r"Received disconnect from .*Too many authentication failures")
def _too_many(log: SshLog, _: re.Match[str]) -> None:
    name, log.offered = log.offered, ""
    _note(log.refused_keys, name)
    log.hung_up = True


def _note(names: list[str], name: str) -> None:
    shown = render_untrusted(name, _MAX_NAME_CHARS)  # a box can put a line of its own into the log
    if shown and shown not in names and len(names) < _MAX_KEYS:
        names.append(shown)


# -- the command, and how it all ended


@_on(r"debug1: client_input_channel_req: .* rtype exit-(status|signal) ")
def _ended(log: SshLog, match: re.Match[str]) -> None:
    log.status_came = log.status_came or match[1] == "status"
    log.signal_came = log.signal_came or match[1] == "signal"


@_on(r"debug2: channel \d+: rcvd (eof|close)$")
def _said_all(log: SshLog, _: re.Match[str]) -> None:
    log.eof_came = True


@_on(r"channel \d+: open failed", r"\S* ?request failed on channel")
def _no_session(log: SshLog, _: re.Match[str]) -> None:
    log.no_session = True


@_on(r"ssh: Could not resolve hostname .*?: (.*)")
def _no_name(log: SshLog, match: re.Match[str]) -> None:
    log.error = socket.gaierror(
        socket.EAI_NONAME if _NO_NAME.search(match[1]) else socket.EAI_AGAIN, match[1]
    )


@_on(r"ssh: connect to host .* port \d+: (.*)")
def _no_way(log: SshLog, match: re.Match[str]) -> None:
    number = _ERRNO.get(match[1])
    log.error = OSError(number, match[1]) if number else OSError(match[1])


@_on(r"(Connection|Operation) timed out", r"Connection to .* timed out", r"Timeout, server ")
def _silent(log: SshLog, _: re.Match[str]) -> None:
    if log.stage == Stage.COMMAND:  # ssh itself gave a dead link up, in the middle of an answer
        log.hung_up = True
    else:
        log.error = TimeoutError()


@_on(
    r"kex_exchange_identification: (read: )?Connection ",
    r"Connection (closed|reset) ",
    r"Connection to .* closed by remote",
    r"ssh_dispatch_run_fatal: .*: (Connection (reset|closed|timed)|Broken pipe)",
    r"Received disconnect",
    r"Disconnected from",
    r"client_loop: send disconnect",
    r"(packet_write_wait|read|write): .*(Broken pipe|Connection reset)",
)
def _hung_up(log: SshLog, _: re.Match[str]) -> None:
    log.hung_up = True
