"""A throw-away rented box: a real sshd on loopback, for tests and for the demo. Standard library only.

`Box` (root) has its own process table, host name, HOME (a tmpfs of a given size), /tmp, users, boot id and
clock of uptime, so that it can be rebooted. `PlainBox` needs no root: the same sshd as the current user,
with another HOME. Both are ended whole by `stop()`, at the latest when Python ends.
"""

import atexit
import contextlib
import fnmatch
import getpass
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sshd import (
    BOUND_S,
    SYSTEM_PATH,
    BoxTroubleError,
    Sshd,
    all_pids,
    answers,
    authorize,
    command_line,
    descendants,
    end_child,
    namespace_of,
    parent_of,
    sshd_path,
    until,
)

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


class Box(Sshd):
    """A box of its own in namespaces. Needs root, unshare and sshd; see `available`."""

    @staticmethod
    def available() -> str | None:
        """None where a box can be started, else the reason why not."""
        if os.geteuid() != 0:
            return "the loopback box needs root (namespaces); run as root, or use PlainBox"
        for tool in ("unshare", "nsenter", "mount", "ssh", "ssh-keygen"):
            if shutil.which(tool) is None:
                return f"the loopback box needs `{tool}`: install util-linux and openssh-client"
        if sshd_path() is None:
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
    _uptime: str

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
        authorize(self.home, self.key)
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
            "@SSHD@": str(sshd_path()),
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
        for folder in SYSTEM_PATH.split(":"):
            for tool in Path(folder).glob("*"):
                link = tools / tool.name
                if not any(fnmatch.fnmatch(tool.name, pattern) for pattern in without):
                    with contextlib.suppress(FileExistsError):
                        link.symlink_to(tool)
        return "/run/box/tools"

    def _boot(self, *, kernel: bool = True) -> None:
        if kernel:
            (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
            self._uptime = Path("/proc/uptime").read_text().split(".")[0]
        self._child = self._start_on_a_port(self._unshare)
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        self._init = int(children[0])
        self._namespace = namespace_of(self._init) or ""
        self._settle()

    def _settle(self) -> None:
        # sshd writes its pid file before it takes its title, and bash forks before it becomes cat: a look in
        # between would take the box's own processes for somebody's.
        until(lambda: len(self._rig_pids()) >= 3, "the box's own processes have their names")

    def _unshare(self) -> subprocess.Popen[bytes]:
        self._configure("/run/box", *self._env)
        with (self.folder / "boot.log").open("wb") as log:
            return subprocess.Popen(
                ["unshare", *_UNSHARE, "--boottime", f"-{self._uptime}", "bash", str(self.folder / "init")],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self) -> tuple[int, ...]:
        """Every process in the box's namespace, as pids of the host."""
        return tuple(pid for pid in all_pids() if namespace_of(pid) == self._namespace)

    def _rig_pids(self) -> set[int]:
        listener = {
            pid
            for pid in self.pids()
            if parent_of(pid) == self._init and command_line(pid).startswith("sshd: /")
        }
        cat = {pid for pid in self.pids() if parent_of(pid) == self._init and command_line(pid) == "cat"}
        return {self._init, *listener, *cat}

    def inside(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """`argv` as root on the box without SSH: looks without leaving a line in sshd's log."""
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", "--", *argv],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BOUND_S,
            check=False,
        )

    def drop_sshd(self) -> None:
        """Take the listener away: new connections are refused, everything on the box goes on."""
        inner = (self.folder / "sshd.pid").read_text().strip()
        self.inside("kill", "-KILL", inner)
        (self.folder / "sshd.pid").unlink(missing_ok=True)
        until(lambda: not answers(self.port), "the listener is gone")

    def raise_sshd(self) -> None:
        """The listener again, after `drop_sshd`."""
        self.inside(str(sshd_path()), "-f", "/run/box/sshd_config", "-E", "/run/box/sshd.log")
        until(self._listening, "sshd listens again")
        self._settle()

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
        end_child(self._child)

    def start_again(self) -> None:
        """Boot after `kill`: same port, keys and HOME, a new boot id, an empty /tmp."""
        self._boot()

    def restart(self) -> None:
        """`kill`, and up again under the same kernel, as a container is: the boot id and its clock stay."""
        self.kill()
        self._boot(kernel=False)

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


class PlainBox(Sshd):
    """The same without root or namespaces: sshd as the current user, with a HOME of its own.

    It cannot be rebooted, and shares process table, /tmp and boot id with this machine.
    """

    @staticmethod
    def available() -> str | None:
        """None where it can be started, else the reason why not."""
        for tool in ("ssh", "ssh-keygen"):
            if shutil.which(tool) is None:
                return f"the loopback box needs `{tool}`: apt-get install openssh-client"
        if sshd_path() is None:
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
        authorize(box.home, box.key)
        if rc_noise:
            (box.home / ".bashrc").write_text(rc_noise)
        (box.folder / "enter").write_text(_ENTER)
        atexit.register(box.stop)
        try:
            box._boot()
        except BaseException:
            box.stop()
            raise
        return box

    _child: subprocess.Popen[bytes]
    _made_run_sshd = False

    @property
    def inside_home(self) -> str:
        """The home folder as the box itself names it."""
        return str(self.home)

    def _boot(self) -> None:
        if os.geteuid() == 0 and not Path("/run/sshd").exists():  # sshd as root insists on it
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            self._made_run_sshd = True
        self._child = self._start_on_a_port(self._launch)

    def _launch(self) -> subprocess.Popen[bytes]:
        self._configure(
            str(self.folder),
            f"SetEnv HOME={self.home} TMUX_TMPDIR={self.folder}",
            f"AuthorizedKeysFile {self.home}/.ssh/authorized_keys",
            "StrictModes no",
            f"ForceCommand /bin/sh '{self.folder}/enter'",
        )
        sshd = [str(sshd_path()), "-D", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "boot.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _AS_REAPER, *sshd, "-E", str(self.folder / "sshd.log")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": SYSTEM_PATH},
                start_new_session=True,
            )

    def pids(self) -> tuple[int, ...]:
        """The listener and everything below it: orphans return to it."""
        return (self._child.pid, *descendants(self._child.pid))

    def _rig_pids(self) -> set[int]:
        return {self._child.pid}

    def kill(self) -> None:
        """Everything of the box dies; HOME stays, for `start_again`."""
        deadline = time.monotonic() + BOUND_S
        none_twice = 0  # a look can miss one that was forked in it
        while none_twice < 2 and time.monotonic() < deadline:
            below = descendants(self._child.pid)
            none_twice = 0 if below else none_twice + 1
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        end_child(self._child)

    def start_again(self) -> None:
        """The listener again after `kill`: same port, keys and HOME."""
        self._boot()

    def swap_host_key(self) -> None:
        """Another machine at the same address: new host keys, at once; what runs goes on."""
        self._make_host_keys()
        (self.folder / "sshd.pid").unlink(missing_ok=True)
        os.kill(self._child.pid, signal.SIGHUP)
        until(self._listening, "sshd listens again")  # and can be told so once more

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


def _other_than_dev(line: str) -> bool:
    words = line.split(":")
    return words[0] != "dev" and words[2:3] != ["1000"]
