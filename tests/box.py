"""A throw-away rented box: a real sshd on loopback, for tests and for the demo. Standard library only.

`Box` (root) has its own process table, host name, HOME (a tmpfs of a given size), /tmp, users, boot id and
clock of uptime, so that it can be rebooted. `PlainBox` needs no root: the same sshd as the current user,
with another HOME. Both are ended whole by `stop()`, at the latest when Python ends.
"""

import atexit
import base64
import contextlib
import fnmatch
import getpass
import hashlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_BOUND_S = 20.0
_UNSHARE = ("--pid", "--fork", "--mount", "--uts", "--ipc", "--kill-child", "--mount-proc", "--time")

# Runs as process 1 of a box. It reaps orphans (wait), and ends the box when the one who started it is gone
# (end of file on standard input).
_INIT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/sshd /run/box
mount --rbind @FOLDER@ /run/box
for file in passwd group shadow hosts; do mount --bind /run/box/$file /etc/$file; done
mount -t tmpfs -o mode=755 home /home; mount -t tmpfs -o mode=700 root /root; mkdir -p @HOME@
mount --bind /run/box/home @HOME@
mount --bind /run/box/boot_id /proc/sys/kernel/random/boot_id
mount -t tmpfs tmp /tmp; chmod 1777 /tmp; mount -t tmpfs shm /dev/shm; chmod 1777 /dev/shm
hostname @NAME@; cd /
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin @SSHD@ -f /run/box/sshd_config -E /run/box/sshd.log
exec 3<&0; cat <&3 >/dev/null & wait $!
"""

# What PlainBox makes every login run: sshd starts in the account's real home, a box starts in its own.
_ENTER = """cd "$HOME" || exit 1
[ -n "$SSH_ORIGINAL_COMMAND" ] || exec "${SHELL:-/bin/sh}" -l
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""

# Makes sshd the one to which all orphans below it return: an init without a namespace, so that
# what a login leaves behind can be found and ended by pid.
_AS_REAPER = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Traffic(NamedTuple):
    """What sshd saw so far: TCP connections, logins, offered keys (or passwords) of any outcome, sessions."""

    connections: int
    logins: int
    auth_attempts: int
    sessions: int


class BoxTroubleError(RuntimeError):
    """The rig itself does not work, with what sshd said."""


class _Sshd:
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
        _keygen(self.key, "ed25519")
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
        self, command: str, *, stdin: str | None = None, bound_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """`command` by the real ssh program: how a test looks at the box from outside."""
        return subprocess.run(
            [
                *("ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port)),
                *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
                *("-o", f"UserKnownHostsFile={self._known_hosts()}", "-o", "ConnectTimeout=10"),
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
        found = {pid: _command_line(pid) for pid in self.pids() if pid not in own}
        return {pid: line for pid, line in found.items() if line}

    def session_pids(self) -> tuple[int, ...]:
        """The sshd processes of live connections: what a test stops to freeze a link."""
        return tuple(pid for pid, line in self.processes().items() if line.startswith("sshd"))

    # -- parts

    def _public(self, kind: str) -> tuple[str, str]:
        words = (self.folder / f"host_key_{kind}.pub").read_text().split()
        return words[0], words[1]

    def _known_hosts(self) -> Path:
        path = self.folder / "known_hosts"
        path.write_text("\n".join(self.known_hosts_lines) + "\n")
        return path

    def _make_host_keys(self) -> None:
        for kind in self._types:
            (self.folder / f"host_key_{kind}").unlink(missing_ok=True)
            _keygen(self.folder / f"host_key_{kind}", kind)

    def _configure(self, seen_as: str, *extra: str) -> None:
        """Write sshd_config. sshd takes the first value of a keyword, so the test's own options lead."""
        lines = [
            *self._options,
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
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        (self.folder / "sshd.pid").unlink(missing_ok=True)

    def _listening(self) -> bool:
        path = self.folder / "sshd.pid"  # sshd writes it once it is bound
        return path.exists() and bool(path.read_text().strip())

    def _start_on_a_port(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Call `start` until sshd listens; a new port is drawn until one is free, then kept for good."""
        for _ in range(20):
            fixed = bool(self.port)
            self.port = self.port or _free_port()
            logged = len(self.sshd_log())
            child = start()
            deadline = time.monotonic() + _BOOT_BOUND_S
            while not self._listening() and child.poll() is None and time.monotonic() < deadline:
                if "Cannot bind" in self.sshd_log()[logged:]:
                    break
                time.sleep(0.01)
            if self._listening():
                return child
            _end_child(child)
            if fixed or "Cannot bind" not in self.sshd_log()[logged:]:
                break
            self.port = 0
        trouble = (self.folder / "boot.log").read_text() + self.sshd_log()
        raise BoxTroubleError(f"the loopback sshd did not start: {trouble[-2000:]}")


class Box(_Sshd):
    """A box of its own in namespaces. Needs root, unshare and sshd; see `available`."""

    @staticmethod
    def available() -> str | None:
        """None where a box can be started, else the reason why not."""
        if os.geteuid() != 0:
            return "the loopback box needs root (namespaces); run as root, or use PlainBox"
        for tool in ("unshare", "nsenter", "mount", "ssh", "ssh-keygen"):
            if shutil.which(tool) is None:
                return f"the loopback box needs `{tool}`: install util-linux and openssh-client"
        if _sshd_path() is None:
            return "the loopback box needs sshd: apt-get install openssh-server (or dnf, apk, pacman)"
        tried = subprocess.run(
            ["unshare", *_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True,
            text=True,
            check=False,
        )
        return (
            f"the loopback box needs namespaces and mounts: {tried.stderr.strip()}"
            if tried.returncode
            else None
        )

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        user: str = "dev",
        name: str = "gpu1",
        home_mb: int = 64,
        path: str | None = None,
        without: Sequence[str] = (),
        rc_noise: str = "",
        host_keys: Sequence[str] = ("ed25519",),
        sshd_options: Sequence[str] = (),
    ) -> Self:
        """A running box. `user` is dev (uid 1000) or root.

        `path` is the PATH that logins get. `without` takes tools away from it, as shell patterns
        (`("tmux", "python3*")`): the PATH is then one folder of links to everything else.
        `rc_noise` is the text of ~/.bashrc, which bash reads for every ssh command too.
        """
        reason = cls.available()
        if reason:
            raise BoxTroubleError(reason)
        box = cls(folder.resolve(), user, name, host_keys, sshd_options)
        atexit.register(box.stop)
        try:
            box._furnish(home_mb, rc_noise)
            if without:
                path = box._tools_but(without)
            box._env = (f"SetEnv PATH={path}",) if path else ()
            box._boot()
        except BaseException:
            box.stop()
            raise
        return box

    _init: int
    _namespace: str
    _child: subprocess.Popen[bytes]
    _env: tuple[str, ...]

    @property
    def inside_home(self) -> str:
        """The home folder as the box itself names it."""
        return "/root" if self.user == "root" else f"/home/{self.user}"

    @property
    def boot_id(self) -> str:
        """The boot id that the box shows now."""
        return (self.folder / "boot_id").read_text().strip()

    def _furnish(self, home_mb: int, rc_noise: str) -> None:
        uid = 0 if self.user == "root" else 1000
        self.home.mkdir()
        options = f"size={home_mb}m,mode=700,uid={uid},gid={uid}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, f"box-{self.name}", str(self.home)], check=True
        )
        _authorize(self.home, self.key)
        if rc_noise:
            (self.home / ".bashrc").write_text(rc_noise)
        for path in (self.home / ".ssh", self.home / ".ssh/authorized_keys", self.home / ".bashrc"):
            if path.exists():
                os.chown(path, uid, uid)
        users = [line for line in Path("/etc/passwd").read_text().splitlines() if _other_than_dev(line)]
        groups = [line for line in Path("/etc/group").read_text().splitlines() if _other_than_dev(line)]
        users.append("dev:x:1000:1000::/home/dev:/bin/bash")
        self._write("passwd", users)
        self._write("group", [*groups, "dev:x:1000:"])
        self._write("shadow", [f"{line.split(':')[0]}:*:19000:0:99999:7:::" for line in users])
        (self.folder / "shadow").chmod(0o600)
        self._write("hosts", [Path("/etc/hosts").read_text(), f"127.0.0.1 {self.name}"])
        words = {
            "@FOLDER@": shlex.quote(str(self.folder)),
            "@HOME@": self.inside_home,
            "@NAME@": shlex.quote(self.name),
            "@SSHD@": str(_sshd_path()),
        }
        script = _INIT
        for word, value in words.items():
            script = script.replace(word, value)
        (self.folder / "init").write_text(script)

    def _write(self, name: str, lines: Sequence[str]) -> None:
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def _tools_but(self, without: Sequence[str]) -> str:
        tools = self.folder / "tools"
        tools.mkdir()
        for folder in _SYSTEM_PATH.split(":"):
            for tool in Path(folder).glob("*"):
                link = tools / tool.name
                if not any(fnmatch.fnmatch(tool.name, pattern) for pattern in without):
                    with contextlib.suppress(FileExistsError):
                        link.symlink_to(tool)
        return "/run/box/tools"

    def _boot(self) -> None:
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self._child = self._start_on_a_port(self._unshare)
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        self._init = int(children[0])
        self._namespace = _namespace_of(self._init) or ""

    def _unshare(self) -> subprocess.Popen[bytes]:
        self._configure("/run/box", *self._env)
        uptime = Path("/proc/uptime").read_text().split(".")[0]
        with (self.folder / "boot.log").open("wb") as log:
            return subprocess.Popen(
                ["unshare", *_UNSHARE, "--boottime", f"-{uptime}", "bash", str(self.folder / "init")],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self) -> tuple[int, ...]:
        """Every process in the box's namespace, as pids of the host."""
        return tuple(pid for pid in _all_pids() if _namespace_of(pid) == self._namespace)

    def _rig_pids(self) -> set[int]:
        listener = {
            pid
            for pid in self.pids()
            if _parent(pid) == self._init and _command_line(pid).startswith("sshd: /")
        }
        cat = {pid for pid in self.pids() if _parent(pid) == self._init and _command_line(pid) == "cat"}
        return {self._init, *listener, *cat}

    def inside(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """`argv` as root on the box without SSH: looks without leaving a line in sshd's log."""
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", "--", *argv],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )

    def drop_sshd(self) -> None:
        """Take the listener away: new connections are refused, everything on the box goes on."""
        inner = (self.folder / "sshd.pid").read_text().strip()
        self.inside("kill", "-KILL", inner)
        (self.folder / "sshd.pid").unlink(missing_ok=True)
        _until(lambda: not _answers(self.port), "the listener is gone")

    def raise_sshd(self) -> None:
        """The listener again, after `drop_sshd`."""
        self.inside(str(_sshd_path()), "-f", "/run/box/sshd_config", "-E", "/run/box/sshd.log")
        _until(self._listening, "sshd listens again")

    def swap_host_key(self) -> None:
        """Another machine at the same address: new host keys, at once; what runs goes on."""
        self.drop_sshd()
        self._make_host_keys()
        self.raise_sshd()

    def kill(self) -> None:
        """The box is gone: every process dies at once. HOME stays, for `start_again`."""
        if self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)  # a child that `unshare` has not reaped: no other's pid
        _end_child(self._child)

    def start_again(self) -> None:
        """Boot after `kill`: same port, keys and HOME, a new boot id, an empty /tmp."""
        self._boot()

    def reboot(self) -> None:
        """`kill` and `start_again`."""
        self.kill()
        self.start_again()

    def stop(self) -> None:
        """End the box whole: processes, mount, files. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        if hasattr(self, "_init"):
            self.kill()
        if os.path.ismount(self.home):
            subprocess.run(["umount", "--lazy", str(self.home)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class PlainBox(_Sshd):
    """The same without root or namespaces: sshd as the current user, with a HOME of its own.

    It cannot be rebooted, and shares process table, /tmp and boot id with this machine.
    """

    @staticmethod
    def available() -> str | None:
        """None where it can be started, else the reason why not."""
        for tool in ("ssh", "ssh-keygen"):
            if shutil.which(tool) is None:
                return f"the loopback box needs `{tool}`: apt-get install openssh-client"
        if _sshd_path() is None:
            return "the loopback box needs sshd: apt-get install openssh-server (or dnf, apk, pacman)"
        return None

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        name: str = "gpu1",
        rc_noise: str = "",
        host_keys: Sequence[str] = ("ed25519",),
        sshd_options: Sequence[str] = (),
    ) -> Self:
        """A running box for the current user; its HOME is `folder`/home."""
        reason = cls.available()
        if reason:
            raise BoxTroubleError(reason)
        box = cls(folder.resolve(), getpass.getuser(), name, host_keys, sshd_options)
        box.home.mkdir(mode=0o700)
        _authorize(box.home, box.key)
        if rc_noise:
            (box.home / ".bashrc").write_text(rc_noise)
        (box.folder / "enter").write_text(_ENTER)
        atexit.register(box.stop)
        box._boot()
        return box

    _child: subprocess.Popen[bytes]
    _made_run_sshd = False

    @property
    def inside_home(self) -> str:
        """The home folder as the box itself names it."""
        return str(self.home)

    def _boot(self) -> None:
        if os.geteuid() == 0 and not Path("/run/sshd").exists():  # sshd as root insists on it
            Path("/run/sshd").mkdir(mode=0o755)
            self._made_run_sshd = True
        self._child = self._start_on_a_port(self._launch)

    def _launch(self) -> subprocess.Popen[bytes]:
        self._configure(
            str(self.folder),
            f"SetEnv HOME={self.home}",
            f"AuthorizedKeysFile {self.home}/.ssh/authorized_keys",
            "StrictModes no",
            f"ForceCommand /bin/sh '{self.folder}/enter'",
        )
        sshd = [str(_sshd_path()), "-D", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "boot.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _AS_REAPER, *sshd, "-E", str(self.folder / "sshd.log")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _SYSTEM_PATH},
                start_new_session=True,
            )

    def pids(self) -> tuple[int, ...]:
        """The listener and everything below it: orphans return to it."""
        return (self._child.pid, *_descendants(self._child.pid))

    def _rig_pids(self) -> set[int]:
        return {self._child.pid}

    def kill(self) -> None:
        """Everything of the box dies; HOME stays, for `start_again`."""
        deadline = time.monotonic() + _BOOT_BOUND_S
        while (below := _descendants(self._child.pid)) and time.monotonic() < deadline:
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        _end_child(self._child)

    def start_again(self) -> None:
        """The listener again after `kill`: same port, keys and HOME."""
        self._boot()

    def swap_host_key(self) -> None:
        """Another machine at the same address: new host keys, at once; what runs goes on."""
        self._make_host_keys()
        logged = self.sshd_log().count("Server listening")
        os.kill(self._child.pid, signal.SIGHUP)
        _until(lambda: self.sshd_log().count("Server listening") > logged, "sshd listens again")

    def stop(self) -> None:
        """End the box whole: processes and files. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        if hasattr(self, "_child"):
            self.kill()
        if self._made_run_sshd:
            with contextlib.suppress(OSError):
                Path("/run/sshd").rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


def _sshd_path() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def _keygen(path: Path, kind: str) -> None:
    size = ("-b", "2048") if kind == "rsa" else ()
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def _authorize(home: Path, key: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    file = home / ".ssh/authorized_keys"
    file.write_text(key.with_name(f"{key.name}.pub").read_text())
    file.chmod(0o600)


def _other_than_dev(line: str) -> bool:
    words = line.split(":")
    return words[0] != "dev" and words[2:3] != ["1000"]


def _free_port() -> int:
    while True:
        port = random.randint(20000, 30000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _BOOT_BOUND_S
    while not condition():
        if time.monotonic() > deadline:
            raise BoxTroubleError(f"not within {_BOOT_BOUND_S:g} s: {what}")
        time.sleep(0.01)


def _end_child(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None and child.stdin is None:
        child.kill()
    if child.stdin is not None:
        child.stdin.close()  # process 1 of a box ends with it
    try:
        child.wait(_BOOT_BOUND_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - /proc in one read


def _namespace_of(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return None


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return line.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def _descendants(pid: int) -> tuple[int, ...]:
    parents = {child: _parent(child) for child in _all_pids()}
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return tuple(found)
