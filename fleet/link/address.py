"""Where a box is and who we are there: a BoxSpec and the user's ssh_config made into one frozen Address."""

import getpass
import os
import re
from pathlib import Path

from msgspec import Struct

from fleet.errors import UsageError
from fleet.link.ssh_config import (
    GET_SSH,
    SSH_PORT,
    Asking,
    Options,
    ask_ssh,
    has_ssh,
    home,
    options_of,
    overrides,
    passwd_home,
    paths,
    rehome,
    ssh_words,
)
from fleet.link.way import Way
from fleet.model.spec import BoxSpec
from fleet.text import quote
from fleet.text.by_hand import by_hand
from fleet.text.untrusted import render_untrusted

_WORDS_SHOWN = 200
_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f-][^\s\x00-\x1f\x7f-\x9f]*")

# What of a name may stand in a command line as it is. Source: OpenSSH refuses shell words in names since 9.6.
_PLAIN = re.compile(r"[A-Za-z0-9_.:%+@][A-Za-z0-9_.:%+@-]*")

_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?P<host>\[[^]]+\]|[^\[\]:]+)(?::(?P<port>\d+))?/?")

# Every jump on our terms: nobody is asked, no key is taken on trust, nothing is forwarded or shared.
_JUMP_TERMS = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ForwardAgent=no", "ForwardX11=no"),
    *("ClearAllForwardings=yes", "PermitLocalCommand=no", "ControlMaster=no", "ControlPath=none"),
    *("ConnectionAttempts=1", "LogLevel=INFO"),
)


class Address(Struct, frozen=True):
    """One box as the link needs it.

    `identities` are the private key files to try, in order; with `identities_only` the agent is asked for
    these keys alone. `agent` is the agent's socket (None: there is none). `known_hosts` are the user's files,
    then the system's. `lookup_name` is what they call this box. `by_hand` is the command with which a person
    goes there. `way` is the command that carries the line (None: TCP to `host` and `port`).
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
    way: Way | None = None

    @property
    def place(self) -> str:
        """`HOST:PORT`, as a pin notes it."""
        return f"{self.host}:{self.port}"


def resolve(box: BoxSpec, ask: Asking | None = None) -> Address:
    """The address of `box`: ssh_config as `ssh -G` understands it, overridden by what the spec says.

    `ask` stands in for asking ssh itself, where answers are remembered (fleet.link.answers).
    Where there is no ssh program, `~/.ssh/config` is read by paramiko; what that cannot follow (Include,
    ProxyJump) is refused by name. Raises UsageError for a host, user or option that cannot be used.
    """
    for what, word in (("host", box.host), ("user", box.user)):
        if word is not None and not _WORD.fullmatch(word):
            raise UsageError(
                f"{what} {render_untrusted(word)!r} cannot be used: it starts with '-', or has a space "
                "or control character in it",
                where=box.name,
                hint=f"correct `{what}` of [box.{box.name}]",
            )
    return _address(box, options_of(box, ask), ask or ask_ssh)


def _address(box: BoxSpec, options: Options, ask: Asking) -> Address:
    host = options["hostname"][0]
    port = box.port or int(options["port"][0])
    user = box.user or options["user"][0]
    alias = options.get("hostkeyalias", [None])[0]
    name = (alias or (host if port == SSH_PORT else f"[{host}]:{port}")).lower()
    files = [*paths(options.get("userknownhostsfile", [])), *paths(options.get("globalknownhostsfile", []))]
    identities = [box.identity] if box.identity else options.get("identityfile", [])
    typed, here = box.host.rpartition("@")[2], os.uname().nodename
    places = {"%h": host, "%p": str(port), "%r": user, "%n": typed}
    mine = {"%d": str(Path.home()), "%u": getpass.getuser(), "%i": str(os.getuid()), "%l": here}
    tokens = {**places, **mine, "%L": here.partition(".")[0], "%k": alias or typed, "%%": "%"}
    return Address(
        host=host,
        port=port,
        user=user,
        identities=tuple(home(_named(path, tokens)) for path in identities if path.lower() != "none"),
        known_hosts=tuple(map(rehome, files)),
        host_key_alias=alias,
        lookup_name=name,
        identities_only=bool(box.identity) or options.get("identitiesonly", ["no"])[0] == "yes",
        agent=_agent(options.get("identityagent", ["SSH_AUTH_SOCK"])[0]),
        by_hand=by_hand(box),
        way=_way(box, options, ask, places),
    )


def _agent(option: str) -> str | None:
    if option == "none":
        return None
    named = os.environ.get(option.removeprefix("$"), "") if option.startswith("$") else home(option)
    return (os.environ.get("SSH_AUTH_SOCK") if option == "SSH_AUTH_SOCK" else named) or None


def _way(box: BoxSpec, options: Options, ask: Asking, tokens: dict[str, str]) -> Way | None:
    jumps, command = (options.get(name, ["none"])[0] for name in ("proxyjump", "proxycommand"))
    if jumps.lower() != "none":
        return _jumps(box, _expand(jumps, {**tokens, "%%": "%"}), ask, (tokens["%h"], tokens["%p"]))
    if command.lower() == "none":
        return None
    where = f"ProxyCommand of {box.host}: {render_untrusted(command, _WORDS_SHOWN)}"
    used = set(re.findall("%.?", command)) - {"%%"}
    if unknown := used - set(tokens):
        raise UsageError(
            f"{where}: {min(unknown)} stands for nothing (known: %h %p %r %n %%)",
            where=box.name,
            next=(f"ssh -G {quote.sh(box.host)}",),
        )
    if options.get("proxyusefdpass", ["no"])[0] == "yes":
        raise UsageError(
            f"{where}: ProxyUseFdpass is not supported",
            where=box.name,
            hint="a ProxyCommand that carries the bytes itself works",
        )
    for token in used:
        if not _PLAIN.fullmatch(tokens[token]):
            raise UsageError(
                f"{where}: {token} would put {render_untrusted(tokens[token])!r} on a command line",
                where=box.name,
                hint="give the box a plain host name and user",
            )
    filled = _expand(command, {**tokens, "%%": "%"})
    return Way(filled, f"the ProxyCommand of {box.host}", f"ProxyCommand {command}")


def _jumps(box: BoxSpec, jumps: str, ask: Asking, target: tuple[str, str]) -> Way:
    """The way over these hosts (`[user@]host[:port]`, split by commas), the first one first."""
    if not has_ssh():
        raise UsageError(
            f"ssh_config sends {box.host} over {render_untrusted(jumps, _WORDS_SHOWN)} (ProxyJump), "
            "which needs the ssh program; there is none here",
            where=box.name,
            next=(GET_SSH,),
        )
    logins = [_login(box, hop.strip()) for hop in jumps.split(",")]
    asked = [ask(box.name, host, words) for host, words in logins]
    places = [*((found["hostname"][0], found["port"][0]) for found in asked[1:]), target]
    # Where the jump itself hangs, ssh should say so before our own limit ends it without a word.
    terms = (*_JUMP_TERMS, f"ConnectTimeout={max(1, int(box.limit_s) - 1)}")
    command = ""
    for (jump, words), found, (host, port) in zip(logins, asked, places, strict=True):
        own = (*terms, *_own_files(found))
        if command:
            inner = command.replace("%", "%%")
            own = (*own, f"ProxyCommand={inner}")
        options = [option for term in own for option in ("-o", term)]
        line = (*ssh_words(), *options, *words, "-W", f"[{host}]:{port}", "--", jump)
        command = " ".join(map(quote.sh, line))
    named = render_untrusted(jumps.replace(",", ", "), _WORDS_SHOWN)
    option = ",".join(f"{found['user'][0]}@{found['hostname'][0]}:{found['port'][0]}" for found in asked)
    return Way(command, f"jump host{'s' if len(logins) > 1 else ''} {named}", f"ProxyJump {option}")


def _login(box: BoxSpec, hop: str) -> tuple[str, tuple[str, ...]]:
    """A jump host's name, and ssh's options for the user and port beside it."""
    found = _HOP.fullmatch(hop)
    if found is None:
        raise UsageError(
            f"ProxyJump of {box.host}: {render_untrusted(hop, _WORDS_SHOWN)!r} is no [user@]host[:port]",
            where=box.name,
            next=(f"ssh -G {quote.sh(box.host)}",),
        )
    return found["host"].strip("[]"), overrides(found["user"], found["port"])


def _own_files(options: Options) -> tuple[str, ...]:
    """The same for the files below ~ that ssh would take from the password file's home."""
    if str(Path.home()) == passwd_home():
        return ()
    known = " ".join(f'"{rehome(path)}"' for path in paths(options.get("userknownhostsfile", [])))
    keys = tuple(f'IdentityFile="{rehome(path)}"' for path in options.get("identityfile", []))
    return (*((f"UserKnownHostsFile={known}",) if known else ()), *keys)


def _named(path: str, tokens: dict[str, str]) -> str:
    """The key file that ssh means by `path`. Source: ssh_config(5), TOKENS and ENVIRONMENT VARIABLES."""
    known = {**tokens, **{f"${{{name}}}": value for name, value in os.environ.items()}}
    return re.sub(r"%.|\$\{\w+\}", lambda found: known.get(found[0], found[0]), path)


def _expand(path: str, tokens: dict[str, str]) -> str:
    return re.sub("%.", lambda found: tokens.get(found[0], found[0]), path)
