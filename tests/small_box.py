"""A box as small as wanted: a HOME of its own and a PATH of chosen tools, reached without SSH."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from waiting import wait_until

from fleet.errors import LinkTimeout
from fleet.link.base import COMMAND, PROBE_MAX_BYTES, Reply, packed
from fleet.link.local import LocalLink
from fleet.model.probe import Cause, Unreachable

SHELLS = ("dash", "bash", "busybox")
# What every script may count on: POSIX, and what both GNU and busybox have besides.
PLAIN_TOOLS = (
    *(
        "cat",
        "chmod",
        "cksum",
        "cp",
        "cut",
        "date",
        "dd",
        "df",
        "find",
        "head",
        "id",
        "kill",
        "ln",
        "ls",
        "mkdir",
    ),
    *("mv", "od", "printf", "ps", "readlink", "rm", "rmdir", "sed", "sleep", "sort", "stat", "sync", "tail"),
    *("touch", "tr", "true", "uname", "wc"),
)
MORE_TOOLS = ("bash", "flock", "perl", "python3", "setsid", "timeout", "tmux")
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def small_path(folder: Path, *, shell: str = "dash", without: tuple[str, ...] = ()) -> str:
    """A PATH of one folder: `sh` is `shell`, all tools but those in `without` are there.

    For busybox every tool that it has is its own applet.
    """
    folder.mkdir(parents=True)
    applets: set[str] = set()
    if shell == "busybox":
        listed = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True)
        applets = set(listed.stdout.split())
    (folder / "sh").symlink_to(_real(shell))
    for tool in PLAIN_TOOLS + MORE_TOOLS:
        if tool not in without:
            (folder / tool).symlink_to(_real("busybox") if tool in applets else _real(tool))
    return str(folder)


def _real(tool: str) -> str:
    path = shutil.which(tool, path=SYSTEM_PATH)
    assert path, f"this machine lacks {tool}, which the tests need"
    return path


class SmallBox:
    """One box: `home`, its state folder, and links to it."""

    def __init__(self, home: Path, path: str = SYSTEM_PATH) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.path = path
        self.state = home / ".local/state/babysit"
        self.share = home / ".local/share/babysit"

    @property
    def env(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": self.path}

    def link(self) -> LocalLink:
        return LocalLink(env=self.env)

    def program(self, name: str, text: str) -> None:
        """Put a program of our own first on the box's PATH."""
        folder = self.home / ".programs"
        folder.mkdir(exist_ok=True)
        if not self.path.startswith(str(folder)):
            self.path = f"{folder}:{self.path}"
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def patient(self) -> "SmallBox":
        """Itself, with a `timeout` that ends nobody: no tool of the box is too slow for what a test is about."""
        ends_nobody = 'while case $1 in -*) ;; *) false ;; esac; do shift 2; done; shift; exec "$@"'
        self.program("timeout", f"#!/bin/sh\n{ends_nobody}\n")
        return self

    def tree(self) -> dict[str, bytes | str]:
        """Every path below the state folder: content of a file, text of a link, `dir` for a folder."""
        found: dict[str, bytes | str] = {}
        for path in sorted(self.state.rglob("*")):
            name = path.relative_to(self.state).as_posix()
            found[name] = (
                f"-> {path.readlink()}"
                if path.is_symlink()
                else "dir"
                if path.is_dir()
                else path.read_bytes()
            )
        return found


class NoisyLink:
    """A link whose login shell prints before and after our script's answer."""

    def __init__(self, inner: LocalLink, before: bytes, after: bytes = b"") -> None:
        self._inner = inner
        self._before = before
        self._after = after

    def run(self, script, request, *, limit_s, max_bytes=PROBE_MAX_BYTES):
        reply = self._inner.run(script, request, limit_s=limit_s, max_bytes=max_bytes)
        return Reply(
            reply.status, self._before + reply.stdout + self._after, reply.stderr, reply.took_s, reply.over
        )

    def close(self) -> None:
        self._inner.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class KilledLink:
    """A link whose whole session on the box dies by SIGKILL `after_s` seconds into the visit."""

    def __init__(self, env: dict[str, str], after_s: float) -> None:
        self._env = env
        self._after_s = after_s
        self.answered = False

    def run(self, script, request, *, limit_s, max_bytes=PROBE_MAX_BYTES):  # noqa: ARG002
        process = subprocess.Popen(
            ["/bin/sh", "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,
        )
        deadline = time.monotonic() + self._after_s
        try:
            process.stdin.write(packed(script, request, limit_s))
            process.stdin.close()
        except BrokenPipeError:
            pass
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
        self.answered = process.poll() is not None
        kill_session(process.pid)
        process.stdout.read()
        process.stdout.close()
        process.wait()
        away = Unreachable(Cause.CUT, "killed by the test", transient=True, at=0.0, took_s=self._after_s)
        raise LinkTimeout(away, where="the test")

    def close(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def kill_session(session: int) -> None:
    """SIGKILL to every process of the session that we started, until none is left."""

    def none_left() -> bool:
        members = session_members(session)
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not members

    wait_until(none_left, 60, f"the session {session} to be gone")


def session_members(session: int) -> list[int]:
    """The pids of all living processes of a session; zombies are dead."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in {"Z", "X"}:
            members.append(int(stat.parent.name))
    return members
