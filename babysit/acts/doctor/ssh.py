"""The way out of this machine: ssh, its settings and the programs they run, the agent, a key for each box."""

import os
import re
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from msgspec import Struct

from babysit.acts.doctor.ground import Ground
from babysit.acts.doctor.lines import Check, Found, fail, of_error, ok, warn
from fleet.errors import BabysitError
from fleet.link.address import Address, resolve
from fleet.link.child import run
from fleet.link.keys import KeyFile, agent_keys, read_key
from fleet.model.spec import BoxSpec
from fleet.text.quote import sh
from fleet.text.say import plural

_ASK_S = 10.0
_REFUSED = 4  # what the box will say
_OTHERS_WRITE = 0o022
_OTHERS_READ = 0o077
_MAX_FILES = 64
_MAX_BYTES = 1_000_000
_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s+|\s*=\s*)(.*\S)")
_RUNS = {
    "proxycommand": "ProxyCommand",
    "knownhostscommand": "KnownHostsCommand",
    "localcommand": "LocalCommand",
}


class Way(Struct, frozen=True):
    """What there is to log in to one box with: its address, identity files, and the agent's public halves.

    `agent` None: there is none, or it does not answer.
    """

    address: Address
    files: tuple[KeyFile, ...]
    agent: frozenset[bytes] | None

    @property
    def open_files(self) -> tuple[KeyFile, ...]:
        """The identity files that need nobody."""
        return tuple(file for file in self.files if file.state == "open")

    @property
    def held(self) -> bool:
        """Whether the agent holds a key that may be used for this box."""
        wanted = {file.public for file in self.files}
        return bool(self.agent) and (not self.address.identities_only or bool(wanted & (self.agent or set())))


def way_to(box: BoxSpec) -> Way:
    """How one logs in to `box` from here. Raises UsageError for an address that cannot be used."""
    address = resolve(box)
    return Way(
        address, tuple(read_key(path) for path in address.identities), agent_keys(address.agent, _ASK_S)
    )


def program(_: Ground) -> Iterator[Found]:
    """The ssh program, by which ssh_config is understood as its author meant it."""
    path = shutil.which("ssh")
    if path is None:
        says = "no ssh program: ~/.ssh/config is read without it, Include and Match are not followed"
        yield warn(says, "apt-get install openssh-client")
        return
    ended = run([path, "-V"], limit_s=_ASK_S)
    if ended.status != 0:
        yield fail(f"{path} -V {'hangs' if ended.status is None else 'fails'}: {ended.said}", f"{path} -V")
    else:
        yield ok(ended.said.partition(",")[0])


def agent(_: Ground) -> Iterator[Found]:
    """The ssh-agent of this session."""
    path = os.environ.get("SSH_AUTH_SOCK")
    held = agent_keys(path, _ASK_S)
    if path is None:
        yield ok("none; identity files are used by themselves")
    elif held is None:
        yield warn(f"no agent answers at {path}", "unset SSH_AUTH_SOCK", "ssh-add -l")
    elif not held:
        yield warn("the agent holds no key", "ssh-add")
    else:
        yield ok(f"{plural(len(held), 'key')}; it is never forwarded to a box")


class Runs(Struct, frozen=True):
    """One line of ssh_config by which ssh, and we with it, run a program."""

    file: str
    line: int
    keyword: str
    program: str


def settings(_: Ground) -> Iterator[Found]:
    """ssh_config: every program it runs is named, and nobody else can put one there."""
    own = Path.home() / ".ssh"
    found: list[Runs] = []
    for path in config_files((own / "config", Path("/etc/ssh/ssh_config"))):
        status = path.stat()
        if status.st_mode & _OTHERS_WRITE or status.st_uid not in (0, os.geteuid()):
            mode = f"{status.st_mode & 0o7777:04o}"
            says = f"others can write {path} (mode {mode}): they could run programs as you"
            yield fail(says, f"chmod 600 {sh(str(path))}")
        found += programs_in(_text(path), str(path))
    if not found:
        yield ok("runs no program")
        return
    more = tuple(f"{each.file} line {each.line}: {each.keyword} {each.program[:200]}" for each in found)
    yield ok(
        f"runs {plural(len(found), 'program')} of yours on the way to boxes that these lines match:",
        more=more,
    )


def programs_in(text: str, file: str) -> tuple[Runs, ...]:
    """Every line of an ssh_config's `text` that names a program to run. Pure."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        word, value = match[1].lower(), match[2]
        if word in _RUNS and value.lower() != "none":
            found.append(Runs(file, number, _RUNS[word], value))
        elif word == "match" and (called := re.search(r"(?i)\bexec(?:\s+|=)(.*)", value)):
            found.append(Runs(file, number, "Match exec", called[1]))
    return tuple(found)


def config_files(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    """The ssh_config files from `roots` that are there, with all that they include; at most 64."""
    found: dict[Path, None] = {}
    waiting = [(root, root.parent) for root in roots]
    while waiting and len(found) < _MAX_FILES:
        path, base = waiting.pop(0)
        if path in found or not path.is_file():
            continue
        found[path] = None
        for word, value in settings_in(path):
            if word == "include":
                for pattern in value.split():
                    named = Path(pattern.strip('"')).expanduser()
                    waiting += [(Path(each), base) for each in sorted(glob(str(base / named)))]  # noqa: PTH207 - patterns may be absolute
    return tuple(found)


def settings_in(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of an ssh_config as keyword (lower case) and the rest."""
    for line in _text(path).splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            yield match[1].lower(), match[2]


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace")
    except OSError:
        return ""


def keys(ground: Ground) -> Iterator[Found]:
    """For each box: is there a key to log in with, and is it kept well."""
    boxes = (ground.box,) if ground.box else ground.boxes
    fine = 0
    for box in boxes:
        try:
            way = way_to(box)
        except BabysitError as error:
            yield of_error(error)
            continue
        findings = tuple(_keys_of(box, way, exit_code=_REFUSED if ground.box else 10))
        yield from findings
        fine += not findings
    if not boxes:
        yield ok("no box is named yet")
    elif fine:
        yield ok(f"{plural(fine, 'box')} with a key to log in with")


def _keys_of(box: BoxSpec, way: Way, *, exit_code: int) -> Iterator[Found]:
    """What is wrong with the keys for one box; nothing when they will do. Pure."""
    for file in way.open_files:
        if file.mode & _OTHERS_READ:
            says = f"{box.name}: others can read the key {file.path} (mode {file.mode:04o}); ssh refuses it"
            yield warn(says, f"chmod 600 {sh(file.path)}")
    if way.open_files or way.held:
        return
    locked = [file for file in way.files if file.state == "locked"]
    odd = [file for file in way.files if file.state in ("unreadable", "no key")]
    if locked:
        path = locked[0].path
        says, fix = f"{path} has a passphrase and is in no agent that we can reach", [f"ssh-add {sh(path)}"]
    elif odd:
        says, fix = f"{odd[0].path} cannot be used as a key ({odd[0].state})", [f"ls -l {sh(odd[0].path)}"]
    else:
        named = way.address.identities[0] if way.address.identities_only and way.address.identities else None
        path = named or str(Path.home() / ".ssh/id_ed25519")
        says = f"there is no key file {path}" if named else "no key at all: neither a file nor in an agent"
        fix = [f"ssh-keygen -t ed25519 -f {sh(path)}", f"ssh-copy-id -i {sh(path)} {sh(box.host)}"]
    yield fail(f"{box.name}: {says}", *fix, exit_code=exit_code)


CHECKS: tuple[Check[Ground], ...] = (
    Check("ssh", "program", program),
    Check("ssh", "agent", agent),
    Check("ssh", "ssh_config", settings),
    Check("ssh", "keys", keys),
)
