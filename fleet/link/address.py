"""Where a box is and who we are there: a BoxSpec and the user's ssh_config made into one frozen Address."""

import getpass
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from fleet.errors import UsageError
from fleet.model.spec import BoxSpec
from fleet.text import quote
from fleet.text.untrusted import render_untrusted

SSH_PORT = 22
_ASK_LIMIT_S = 5.0
_DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f-][^\s\x00-\x1f\x7f-\x9f]*")

# Options that change the way to a box. They are not followed yet, and going another way silently is worse.
_WAYS = {"proxyjump": "ProxyJump", "proxycommand": "ProxyCommand"}


class Address(Struct, frozen=True):
    """One box as the link needs it.

    `identities` are the private key files to try, in order; with `identities_only` the agent is asked for
    these keys alone. `agent` is the agent's socket (None: there is none). `known_hosts` are the user's files,
    then the system's. `lookup_name` is what they call this box. `by_hand` is the command with which a person
    goes there.
    """

    host: str
    port: int
    user: str
    identities: tuple[str, ...]
    known_hosts: tuple[str, ...]
    host_key_alias: str | None
    lookup_name: str
    identities_only: bool = False
    agent: str | None = None
    by_hand: str = ""


def resolve(box: BoxSpec) -> Address:
    """The address of `box`: ssh_config as `ssh -G` understands it, overridden by what the spec says.

    Where there is no ssh program, `~/.ssh/config` is read by paramiko, which ignores Include.
    Raises UsageError for a host, user or option that cannot be used.
    """
    for what, word in (("host", box.host), ("user", box.user)):
        if word is not None and not _WORD.fullmatch(word):
            raise UsageError(
                f"{what} {render_untrusted(word)!r} cannot be used: it starts with '-', or has a space "
                "or control character in it",
                where=box.name,
                hint=f"correct `{what}` of [box.{box.name}]",
            )
    options = _ask_ssh(box) if shutil.which("ssh") else _read_config(box)
    for way, spelled in _WAYS.items():
        if options.get(way, ["none"])[0].lower() != "none":
            raise UsageError(
                f"ssh_config sends {box.host} through {spelled} "
                f"({render_untrusted(options[way][0], 200)}), which is not supported yet",
                where=box.name,
                hint=f"give the box an address that can be reached directly (`host`), or a tunnel: ssh -fNL "
                f'2201:localhost:22 {quote.sh(box.host)}, then host = "127.0.0.1", port = 2201',
                next=(f"ssh -G {quote.sh(box.host)}",),
            )
    return _address(box, options)


def _address(box: BoxSpec, options: dict[str, list[str]]) -> Address:
    host = options["hostname"][0]
    port = box.port or int(options["port"][0])
    user = box.user or options["user"][0]
    alias = options.get("hostkeyalias", [None])[0]
    name = (alias or (host if port == SSH_PORT else f"[{host}]:{port}")).lower()
    files = [*_paths(options.get("userknownhostsfile", [])), *_paths(options.get("globalknownhostsfile", []))]
    identities = [box.identity] if box.identity else options.get("identityfile", [])
    tokens = {"%%": "%", "%d": str(Path.home()), "%h": host, "%u": getpass.getuser(), "%r": user}
    return Address(
        host=host,
        port=port,
        user=user,
        identities=tuple(_home(_expand(path, tokens)) for path in identities if path.lower() != "none"),
        known_hosts=tuple(map(_rehome, files)),
        host_key_alias=alias,
        lookup_name=name,
        identities_only=bool(box.identity) or options.get("identitiesonly", ["no"])[0] == "yes",
        agent=_agent(options.get("identityagent", ["SSH_AUTH_SOCK"])[0]),
        by_hand=" ".join(("ssh", *_overrides(box), quote.sh(box.host))),
    )


def _overrides(box: BoxSpec) -> Iterable[str]:
    for option, value in (("-l", box.user), ("-p", box.port), ("-i", box.identity)):
        if value is not None:
            yield f"{option} {quote.sh(str(value))}"


def _agent(option: str) -> str | None:
    if option == "none":
        return None
    named = os.environ.get(option.removeprefix("$"), "") if option.startswith("$") else _home(option)
    return (os.environ.get("SSH_AUTH_SOCK") if option == "SSH_AUTH_SOCK" else named) or None


def _ask_ssh(box: BoxSpec) -> dict[str, list[str]]:
    """What `ssh -G` says: option (lower case) → its values, in order."""
    command = ["ssh"]
    own = Path.home() / ".ssh" / "config"
    # ssh looks for ~ in the password file and not in HOME; cron, sudo and containers set HOME on purpose.
    if str(Path.home()) != _passwd_home() and own.is_file():
        command += ["-F", str(own)]
    if box.user is not None:
        command += ["-l", box.user]
    if box.port is not None:
        command += ["-p", str(box.port)]
    try:
        answer = subprocess.run(
            [*command, "-G", "--", box.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"`ssh -G {box.host}` did not answer within {_ASK_LIMIT_S:g} s",
            where=box.name,
            hint="a `Match exec` in ssh_config may hang",
            next=(f"ssh -G {quote.sh(box.host)}",),
        ) from None
    if answer.returncode != 0:
        lines = answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        raise UsageError(
            f"ssh cannot make sense of host {box.host!r}: {render_untrusted(lines[-1], 300)}",
            where=box.name,
            next=(f"ssh -G {quote.sh(box.host)}",),
        )
    options: dict[str, list[str]] = {}
    for line in answer.stdout.decode("utf-8", "surrogateescape").splitlines():
        option, _, value = line.partition(" ")
        options.setdefault(option.lower(), []).append(value)
    return options


def _read_config(box: BoxSpec) -> dict[str, list[str]]:
    """The same without an ssh program, as far as `~/.ssh/config` says it by itself."""
    from paramiko.config import SSHConfig  # noqa: PLC0415 - a heavy import that most hosts never need

    login, _, host = box.host.rpartition("@")
    path = Path.home() / ".ssh" / "config"
    config = SSHConfig.from_text(path.read_text(errors="replace") if path.is_file() else "")
    found = {
        option: [value] if isinstance(value, str) else value for option, value in config.lookup(host).items()
    }
    defaults = {
        "hostname": [host],
        "port": [str(SSH_PORT)],
        "user": [login or getpass.getuser()],
        "identityfile": [f"~/.ssh/{name}" for name in _DEFAULT_IDENTITIES],
        "userknownhostsfile": ["~/.ssh/known_hosts ~/.ssh/known_hosts2"],
        "globalknownhostsfile": [" ".join(_GLOBAL_KNOWN_HOSTS)],
    }
    return {**defaults, **found, **({"user": [login]} if login else {})}


def _paths(values: list[str]) -> list[str]:
    """Files of one line. ssh -G prints no quotes; a space inside a name is told by what follows it."""
    return [path for value in values for path in re.split(r" (?=[/~])", value) if path and path != "none"]


def _expand(path: str, tokens: dict[str, str]) -> str:
    return re.sub("%.", lambda found: tokens.get(found[0], found[0]), path)


def _home(path: str) -> str:
    return str(Path.home() / path[2:]) if path.startswith("~/") else path


def _rehome(path: str) -> str:
    """`path` below HOME where ssh -G has already put the password file's home for ~."""
    theirs = f"{_passwd_home()}/.ssh/"
    return str(Path.home() / ".ssh" / path[len(theirs) :]) if path.startswith(theirs) else _home(path)


def _passwd_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # an account without a line, as in some containers
        return str(Path.home())
