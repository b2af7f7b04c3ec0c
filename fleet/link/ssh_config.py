"""What ssh_config says of a host: as `ssh -G` has it, or as far as the file can be read without ssh."""

import getpass
import os
import pwd
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from fleet.errors import UsageError
from fleet.link.child import run
from fleet.model.spec import BoxSpec
from fleet.text import quote
from fleet.text.untrusted import render_untrusted

SSH_PORT = 22
GET_SSH = "apt-get install openssh-client"
ASK_LIMIT_S = 15.0  # a machine may be that busy; a `Match exec` that hangs is ended all the same
_WORDS_SHOWN = 200
_DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_ALWAYS = {"hostname", "port", "user"}
_FILE = re.compile(r'"([^"]*)"|(\S+)')

# What the parser would pass over, take as always true, or run without a limit.
_BEYOND = re.compile(
    r"\s*(Include[\s=]|Match\b.*\b(?:exec|command|localnetwork|sessiontype|tagged|version)\b)", re.IGNORECASE
)


# Option (lower case) -> its values, in order.
Options = dict[str, list[str]]


def options_of(box: BoxSpec, ask: "Asking | None" = None) -> Options:
    """The options for `box`, whose own user and port go first; `ask` None: ssh itself is asked.

    Without an ssh program `~/.ssh/config` is read by paramiko. Raises UsageError for what cannot be used.
    """
    if not has_ssh():
        return _read_config(box)
    words = overrides(box.user, str(box.port) if box.port else None)
    return (ask or ask_ssh)(box.name, box.host, words)


def overrides(user: str | None, port: str | None) -> tuple[str, ...]:
    """What to tell ssh of these on its command line; None leaves it to ssh_config."""
    return (*(("-l", user) if user else ()), *(("-p", port) if port else ()))


def has_ssh() -> bool:
    """Whether there is an ssh program."""
    return shutil.which("ssh") is not None


def ssh_words() -> list[str]:
    """ssh, told of our own config file: it looks for ~ in the password file and not in HOME.

    cron, sudo and containers set HOME on purpose.
    """
    own = Path.home() / ".ssh" / "config"
    return ["ssh", "-F", str(own)] if str(Path.home()) != passwd_home() and own.is_file() else ["ssh"]


# The box that it is about, the host, and ssh's options besides.
Asking = Callable[[str, str, tuple[str, ...]], Options]


def ask_ssh(where: str, host: str, words: tuple[str, ...]) -> Options:
    """What `ssh -G` says of `host`, called with these options besides. Raises UsageError."""
    answer = run([*ssh_words(), *words, "-G", "--", host], limit_s=ASK_LIMIT_S)
    if answer.status is None:
        raise UsageError(
            f"`ssh -G {host}` did not answer within {ASK_LIMIT_S:g} s",
            where=where,
            hint="a `Match exec` in ssh_config may hang",
            next=(f"ssh -G {quote.sh(host)}",),
        )
    if answer.status != 0:
        raise UsageError(
            f"ssh cannot make sense of host {host!r}: {render_untrusted(answer.said, 300)}",
            where=where,
            next=(f"ssh -G {quote.sh(host)}",),
        )
    options: Options = {}
    for line in answer.out.decode("utf-8", "surrogateescape").splitlines():
        option, _, value = line.partition(" ")
        options.setdefault(option.lower(), []).append(value)
    # ssh writes block by block, and ends with 0 though a write failed; what decides the way comes last.
    if not answer.out.endswith(b"\n") or not options.keys() >= _ALWAYS:
        raise UsageError(
            f"`ssh -G {host}` answered in part ({len(answer.out)} bytes)",
            where=where,
            hint="the same command again should do",
            next=(f"ssh -G {quote.sh(host)}",),
        )
    return options


def _read_config(box: BoxSpec) -> Options:
    """The same without an ssh program, as far as `~/.ssh/config` says it by itself."""
    from paramiko.config import SSHConfig  # noqa: PLC0415 - a heavy import that most hosts never need
    from paramiko.ssh_exception import SSHException  # noqa: PLC0415 - as above

    class _Raw(SSHConfig):  # the places in a ProxyCommand are filled once the spec has had its say
        TOKENS_BY_CONFIG_KEY: ClassVar = {  # type: ignore[misc]  # it is one there, without saying so
            key: tokens for key, tokens in SSHConfig.TOKENS_BY_CONFIG_KEY.items() if key != "proxycommand"
        }

    login, _, host = box.host.rpartition("@")
    path = Path.home() / ".ssh" / "config"
    text = path.read_text(errors="replace") if path.is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        if beyond := _BEYOND.match(line):
            words = render_untrusted(beyond[1].strip(" ="), _WORDS_SHOWN)
            raise UsageError(
                f"{path} line {number} says {words!r}, which needs the ssh program; there is none here",
                where=box.name,
                next=(GET_SSH,),
            )
    try:
        looked_up = _Raw.from_text(text).lookup(host)
        found = {
            option: [value] if isinstance(value, str) else value
            for option, value in looked_up.items()
            if value is not None
        }
        for option in {"userknownhostsfile", "globalknownhostsfile"} & set(found):
            found[option] = [quoted or bare for quoted, bare in _FILE.findall(found[option][0])]
    except SSHException as error:
        raise UsageError(
            f"{path} cannot be read without the ssh program: {render_untrusted(str(error), _WORDS_SHOWN)}",
            where=box.name,
            next=(GET_SSH,),
        ) from None
    defaults = {
        "hostname": [host],
        "port": [str(SSH_PORT)],
        "user": [login or getpass.getuser()],
        "identityfile": [f"~/.ssh/{name}" for name in _DEFAULT_IDENTITIES],
        "userknownhostsfile": ["~/.ssh/known_hosts ~/.ssh/known_hosts2"],
        "globalknownhostsfile": [" ".join(_GLOBAL_KNOWN_HOSTS)],
    }
    return {**defaults, **found, **({"user": [login]} if login else {})}


def paths(values: list[str]) -> list[str]:
    """Files of one line. ssh -G prints no quotes; a space inside a name is told by what follows it."""
    return [path for value in values for path in re.split(r" (?=[/~])", value) if path and path != "none"]


def home(path: str) -> str:
    """`path` with ~ as our HOME."""
    return str(Path.home() / path[2:]) if path.startswith("~/") else path


def rehome(path: str) -> str:
    """`path` below HOME where ssh -G has already put the password file's home for ~."""
    theirs = f"{passwd_home()}/.ssh/"
    return str(Path.home() / ".ssh" / path[len(theirs) :]) if path.startswith(theirs) else home(path)


def passwd_home() -> str:
    """The home folder that ssh takes ~ for."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # an account without a line, as in some containers
        return str(Path.home())
