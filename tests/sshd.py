"""The sshd below the loopback boxes: keys, configuration, log, and the processes that belong to it."""

import base64
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOUND_S = 60.0  # costs only when something is broken
_PORTS, _WORKERS = range(20000, 32000), 4  # below those that the kernel gives by itself
_drawn: deque[int] = deque(maxlen=1000)


class Traffic(NamedTuple):
    """What sshd saw so far: TCP connections, logins, offered keys (or passwords) of any outcome, sessions."""

    connections: int
    logins: int
    auth_attempts: int
    sessions: int


class BoxTroubleError(RuntimeError):
    """The rig itself does not work, with what sshd said."""


class Sshd:
    """What both kinds share: keys, configuration, and how one talks to the box for checking."""

    def __init__(
        self, folder: Path, user: str, name: str, host_keys: Sequence[str], sshd_options: Sequence[str]
    ) -> None:
        self.folder = folder
        self.user = user
        self.name = name
        self.port = 0
        self.home = folder / "home"  # as seen from the host
        self._types = tuple(host_keys)
        self._options = tuple(sshd_options)
        self._stopped = False
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        keygen(self.key, "ed25519")
        self._make_host_keys()

    # -- what one needs to reach it

    @property
    def key(self) -> Path:
        """The client's private key; its public half is the only one that the box accepts."""
        return self.folder / "client_key"

    @property
    def known_hosts_lines(self) -> tuple[str, ...]:
        """One line of known_hosts a host key, in the order of `host_keys`."""
        return tuple(f"[127.0.0.1]:{self.port} {' '.join(self._public(kind))}" for kind in self._types)

    @property
    def known_hosts_line(self) -> str:
        """The line of the first host key."""
        return self.known_hosts_lines[0]

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the first host key."""
        digest = hashlib.sha256(base64.b64decode(self._public(self._types[0])[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def ssh_config_text(self, alias: str, *, with_known_hosts: bool = True) -> str:
        """A stanza of ssh_config. Without known hosts the user's own known_hosts file is in force."""
        lines = [
            f"Host {alias}",
            "  HostName 127.0.0.1",
            f"  Port {self.port}",
            f"  User {self.user}",
            f'  IdentityFile "{self.key}"',
            "  IdentitiesOnly yes",
        ]
        if with_known_hosts:
            lines.append(f'  UserKnownHostsFile "{self._known_hosts()}"')
        return "\n".join(lines) + "\n"

    def run(
        self, command: str, *, stdin: str | None = None, bound_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """`command` by the real ssh program: how a test looks at the box from outside."""
        return subprocess.run(
            [
                *("ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port)),
                *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
                *("-o", f"UserKnownHostsFile={self._known_hosts()}", "-o", "ConnectTimeout=40"),
                *("-o", "IdentityAgent=none", "--", f"{self.user}@127.0.0.1", command),
            ],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=bound_s,
            check=False,
        )

    def sshd_log(self) -> str:
        """All that sshd wrote since the box was made (LogLevel VERBOSE)."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "sshd.log").read_text(errors="replace")
        return ""

    def traffic(self) -> Traffic:
        """Counts from sshd's log; take two and subtract."""
        log = self.sshd_log()
        attempts = sum(
            log.count(f"{word} ") for word in ("Postponed publickey", "Failed", "Accepted publickey")
        )
        counts = (log.count(f"\n{word} ") for word in ("Connection from", "Accepted publickey"))
        return Traffic(*counts, attempts, log.count("\nStarting session: "))

    def pids(self) -> tuple[int, ...]:
        """Every process of the box, the rig's own included, as pids of the host."""
        raise NotImplementedError

    def _rig_pids(self) -> set[int]:
        raise NotImplementedError

    def processes(self) -> dict[int, str]:
        """Pid → command line of everything on the box but the rig itself: {} means that nothing runs."""
        own = self._rig_pids()
        found = {pid: command_line(pid) for pid in self.pids() if pid not in own}
        return {pid: line for pid, line in found.items() if line}

    def session_pids(self) -> tuple[int, ...]:
        """The sshd processes of live connections: what a test stops to freeze a link."""
        return tuple(pid for pid, line in self.processes().items() if is_sshd(line))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every live connection's sshd stopped, also one that is forked meanwhile (sshd splits after the login)."""
        stopped: set[int] = set()
        try:
            while new := set(self.session_pids()) - stopped:
                for pid in new:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                stopped.update(new)  # and only who stands still forks no more
                until(lambda: all(state_of(pid) in "TtZX" for pid in stopped), "every session stands still")
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # -- parts

    def _public(self, kind: str) -> tuple[str, str]:
        words = (self.folder / f"host_key_{kind}.pub").read_text().split()
        return words[0], words[1]

    def _known_hosts(self) -> Path:
        path, text = self.folder / "known_hosts", "\n".join(self.known_hosts_lines) + "\n"
        if not path.exists() or path.read_text() != text:  # an ssh may be reading it: whole, or as it was
            fresh = path.with_name(f"known_hosts.{threading.get_ident()}")
            fresh.write_text(text)
            fresh.replace(path)
        return path

    def _make_host_keys(self) -> None:
        for kind in self._types:
            (self.folder / f"host_key_{kind}").unlink(missing_ok=True)
            keygen(self.folder / f"host_key_{kind}", kind)

    def _configure(self, seen_as: str, *extra: str) -> None:
        """Write sshd_config. The test's own options replace ours: of some keywords sshd takes the last."""
        given = {option.split()[0].lower() for option in self._options}
        ours = [
            *extra,
            f"ListenAddress 127.0.0.1:{self.port}",
            *(f"HostKey {seen_as}/host_key_{kind}" for kind in self._types),
            f"PidFile {seen_as}/sshd.pid",
            "LogLevel VERBOSE",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            f"AllowUsers {self.user}",
            "UseDNS no",
            "PrintMotd no",
            "MaxStartups 200",
            "Subsystem sftp internal-sftp",
        ]
        lines = [*self._options, *(line for line in ours if line.split()[0].lower() not in given)]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        (self.folder / "sshd.pid").unlink(missing_ok=True)

    def _listening(self) -> bool:
        path = self.folder / "sshd.pid"  # sshd writes it once it is bound
        return path.exists() and bool(path.read_text().strip())

    def _start_on_a_port(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Call `start` until sshd listens; a new port is drawn until one is free, then kept for good."""
        for _ in range(20):
            fixed = bool(self.port)
            self.port = self.port or free_port()
            logged = len(self.sshd_log())
            child = start()
            deadline = time.monotonic() + BOUND_S
            while not self._listening() and child.poll() is None and time.monotonic() < deadline:
                if "Cannot bind" in self.sshd_log()[logged:]:
                    break
                time.sleep(0.01)
            if self._listening():
                return child
            end_child(child)
            if fixed or "Cannot bind" not in self.sshd_log()[logged:]:
                break
            self.port = 0
        trouble = (self.folder / "boot.log").read_text() + self.sshd_log()
        raise BoxTroubleError(f"the loopback sshd did not start: {trouble[-2000:]}")


def sshd_path() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def keygen(path: Path, kind: str) -> None:
    size = ("-b", "2048") if kind == "rsa" else ()
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def authorize(home: Path, key: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    file = home / ".ssh/authorized_keys"
    file.write_text(key.with_name(f"{key.name}.pub").read_text())
    file.chmod(0o600)


def free_port() -> int:
    """A port that nobody has: not given twice, and out of another range in each worker of a test run.

    So nobody takes it while its box is down.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.choice(_PORTS[worker % _WORKERS :: _WORKERS])
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _drawn:
                _drawn.append(port)
                return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + BOUND_S
    while not condition():
        if time.monotonic() > deadline:
            raise BoxTroubleError(f"not within {BOUND_S:g} s: {what}")
        time.sleep(0.01)


def end_child(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None and child.stdin is None:
        child.kill()
    if child.stdin is not None:
        child.stdin.close()  # process 1 of a box ends with it
    try:
        child.wait(BOUND_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - /proc in one read


def namespace_of(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return None


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def state_of(pid: int) -> str:
    """The letter that /proc has for it; X when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def is_sshd(line: str) -> bool:
    """Whether a command line is sshd's, by its title or as it was started: it starts itself anew a connection."""
    return line.partition(" ")[0].rpartition("/")[2].startswith("sshd")


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return line.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def descendants(pid: int) -> tuple[int, ...]:
    parents = {child: parent_of(child) for child in all_pids()}
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return tuple(found)
