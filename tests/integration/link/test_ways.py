"""Boxes behind a jump host or a proxy command: they are reached, each failure has its cause, nothing is left."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from box import Box
from waiting import listens, wait_until

from fleet.errors import LinkError, LinkTimeout, WayRefused
from fleet.link import ssh
from fleet.link.address import resolve
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]

LIMIT_S = 3.0
HELD_UP_S = 20.0  # how long a busy machine may hold us up
PATIENT_S = 40.0

# Carries bytes between its standard streams and HOST PORT, as netcat does.
NETCAT = (
    "import os, socket, sys, threading\n"
    "line = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
    "def up():\n"
    "    while got := os.read(0, 65536): line.sendall(got)\n"
    "    line.shutdown(socket.SHUT_WR)\n"
    "threading.Thread(target=up, daemon=True).start()\n"
    "while got := line.recv(65536): os.write(1, got)\n"
)


class Ways:
    """An ssh_config of this test's HOME, and a mark in the environment by which a visit's children are known."""

    def __init__(self, mark: str) -> None:
        self.folder = Path(os.environ["HOME"]) / ".ssh"
        self.folder.mkdir()
        self._mark = f"WAYS_TEST={mark}".encode()

    def config(self, *stanzas: str) -> None:
        (self.folder / "config").write_text("".join(stanzas))

    def through(self, box: Box, option: str, *stanzas: str, **more: float) -> BoxSpec:
        self.config(box.ssh_config_text("gpu1"), f"  {option}\n", *stanzas)
        return BoxSpec("gpu1", "gpu1", **more)

    def nowhere(self, script: str) -> BoxSpec:
        """No box at all, behind a command: a script, or one program by its path."""
        file = self.folder / f"script-{hash(script)}"
        file.write_text(script)
        command = script if script.startswith("/") else f"sh {file}"
        self.config(f"Host gpu1\n  HostName 127.0.0.1\n  Port 1\n  ProxyCommand {command}\n")
        return BoxSpec("gpu1", "gpu1")

    def children(self) -> list[str]:
        """Command lines of the living processes that a visit of this test started."""
        mine = os.getpid()
        pids = [pid for pid in processes.pids() if self._mark in processes.of(pid, "environ").split(b"\0")]
        lines = [processes.of(pid, "cmdline").replace(b"\0", b" ").decode() for pid in pids if pid != mine]
        return lines + [f"unreaped {pid}" for pid in _zombies(mine)]

    @contextlib.contextmanager
    def nothing_left(self) -> Iterator[None]:
        """No thread, descriptor or child is there afterwards that was not there before."""
        threads, descriptors = _held()
        name, _, value = self._mark.decode().partition("=")
        os.environ[name] = value
        try:
            yield
        finally:
            os.environ.pop(name, None)
        wait_until(lambda: _held()[0] <= threads, 60, "threads gone")
        wait_until(lambda: _held()[1] <= descriptors, 60, "descriptors given back")
        wait_until(lambda: not self.children(), 60, "the children are gone")

    def fails(self, spec: BoxSpec, cause: Cause, limit_s: float = PATIENT_S) -> LinkError:
        address = resolve(spec)
        with self.nothing_left():
            began = time.monotonic()
            with pytest.raises(LinkError) as caught:
                ssh.connect(address, box_name="gpu1", pinned=None, limit_s=limit_s).close()
            took_s = time.monotonic() - began
        away = caught.value.away
        assert away.cause == cause, f"{away.says} ({caught.value.__cause__!r})"
        assert took_s < limit_s + HELD_UP_S
        assert isinstance(caught.value, LinkTimeout) == cause.startswith("timeout")
        assert isinstance(caught.value, WayRefused) == (cause in {Cause.WAY_AUTH, Cause.WAY_HOSTKEY})
        assert caught.value.next == ("ssh gpu1",)
        assert away.says.isprintable()
        return caught.value

    def works(self, spec: BoxSpec) -> None:
        with (
            self.nothing_left(),
            ssh.connect(resolve(spec), box_name="gpu1", pinned=None, limit_s=PATIENT_S) as link,
        ):
            assert link.run(b"hostname; cat", b"hello", limit_s=PATIENT_S).stdout == b"gpu1\nhello"
            assert self.children() or resolve(spec).way is None


def _held() -> tuple[frozenset[threading.Thread], int]:
    return frozenset(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))


def _zombies(parent: int) -> list[int]:
    return [pid for pid in processes.pids() if processes.stat(pid)[:2] == ["Z", str(parent)]]


@pytest.fixture
def ways():
    return Ways(uuid.uuid4().hex)


@pytest.fixture
def boxes(make_box):
    return make_box("gpu1"), make_box("jump")


def jumps(box: Box, alias: str = "jump", **known: bool) -> str:
    return box.ssh_config_text(alias, **known)


# -- it is reached


def test_a_box_behind_a_jump_host(ways, boxes):  # R26 R24
    gpu1, jump = boxes
    before, hop = gpu1.traffic(), jump.traffic()
    ways.works(ways.through(gpu1, "ProxyJump jump", jumps(jump)))
    assert [b - a for a, b in zip(before, gpu1.traffic(), strict=True)] == [1, 1, 1, 1]
    now = jump.traffic()
    assert (now.logins - hop.logins, now.sessions - hop.sessions) == (1, 0)
    # The same jump with user and port beside its name.
    stanza = jumps(jump).replace(f"Port {jump.port}", "Port 1").replace("User dev", "User nobody")
    ways.works(ways.through(gpu1, f"ProxyJump dev@jump:{jump.port}", stanza))


def test_a_box_behind_two_jump_hosts_in_their_order(ways, boxes, make_box):  # R26
    gpu1, jump = boxes
    outer = make_box("outer")
    spec = ways.through(gpu1, "ProxyJump outer,jump", jumps(outer, "outer"), jumps(jump))
    ways.works(spec)
    assert (outer.traffic().logins, jump.traffic().logins) == (1, 1)
    assert resolve(spec).way.through == "jump hosts outer, jump"
    jump.drop_sshd()
    assert "one of jump hosts outer, jump cannot be reached" in ways.fails(spec, Cause.NO_ROUTE).what
    outer.drop_sshd()
    assert "nothing listens at jump hosts outer, jump" in ways.fails(spec, Cause.REFUSED).what


def test_a_box_behind_a_proxy_command(ways, boxes):  # R26
    gpu1, jump = boxes
    (ways.folder / "carry.py").write_text(NETCAT)
    ways.works(ways.through(gpu1, f"ProxyCommand {sys.executable} {ways.folder}/carry.py %h %p"))
    config = ways.folder / "config"
    ways.works(ways.through(gpu1, f"ProxyCommand ssh -F {config} -W %h:%p jump", jumps(jump)))
    # What it has to say on its standard error never holds it up, however much that is.
    noisy = f"sh -c 'head -c 300000 /dev/zero >&2; exec {sys.executable} {ways.folder}/carry.py %h %p'"
    ways.works(ways.through(gpu1, f"ProxyCommand {noisy}"))


def test_a_proxy_command_without_an_ssh_program(ways, boxes, monkeypatch, tmp_path):  # R26
    gpu1, _ = boxes
    (ways.folder / "carry.py").write_text(NETCAT)
    spec = ways.through(gpu1, f"ProxyCommand {sys.executable} {ways.folder}/carry.py %h %p")
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        ways.works(spec)


def test_host_key_and_trust_are_the_box_s_own_behind_a_way(ways, boxes):  # R25 S1
    gpu1, jump = boxes
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump))
    with ways.nothing_left():
        offered = ssh.offered_key(resolve(spec), limit_s=PATIENT_S)
    assert offered.fingerprint == gpu1.fingerprint
    (gpu1.folder / "known_hosts").write_text("")
    with ways.nothing_left(), pytest.raises(LinkError) as caught:
        ssh.connect(resolve(spec), box_name="gpu1", pinned=None, limit_s=PATIENT_S).close()
    assert caught.value.away.cause == Cause.HOSTKEY_UNKNOWN


# -- it is not


ENDS = {
    "/no/such/program %h %p": "a program of the ProxyCommand of gpu1 is not there, and said",
    "/etc/passwd": "a program of the ProxyCommand of gpu1 cannot be run, and said",
    "false": "the ProxyCommand of gpu1 ended with status 1 before 127.0.0.1 had greeted, and said nothing",
    r"echo first >&2; printf 'last\033]52;c;eA==\007\n' >&2; exit 3": (
        r"status 3 before 127.0.0.1 had greeted, and said 'last\x1b]52;c;eA==\x07'"
    ),
    "kill -9 $$": "ended by signal 9",
    "exec >&- <&-; trap : TERM; while :; do sleep 9; done": "closed the line before 127.0.0.1",
}


@pytest.mark.parametrize("script", ENDS)
def test_a_proxy_command_that_ends_says_why(ways, script):  # R12
    error = ways.fails(ways.nowhere(script), Cause.WAY)
    assert ENDS[script] in error.what, error.what


SILENT = {
    "silent": "sleep 99",
    "deaf to TERM": "trap '' TERM; sleep 99",
    "with children": "sleep 98 & sleep 97 & sleep 99",
    "stopped": "kill -STOP $$",
    "loud": "while :; do echo noise >&2; done",
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_proxy_command_that_says_nothing_is_ended_whole(ways, kind):  # R12 P5
    error = ways.fails(ways.nowhere(SILENT[kind]), Cause.TIMEOUT_BANNER, limit_s=0.5)
    assert "no SSH greeting" in error.what and "through the ProxyCommand of gpu1" in error.what


def test_each_trouble_of_a_jump_host_has_its_own_cause(ways, boxes, make_box):  # R12 R25
    gpu1, jump = boxes
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump, with_known_hosts=False))
    before = jump.traffic()
    unknown = ways.fails(spec, Cause.WAY_HOSTKEY)
    assert "nobody has confirmed the host key of jump host jump" in unknown.what
    assert unknown.exit_code == 4 and not unknown.away.transient
    assert not (ways.folder / "known_hosts").exists()
    (ways.folder / "known_hosts").write_text(f"{jump.known_hosts_line}\n")
    ways.works(spec)
    jump.swap_host_key()
    assert "another host key" in ways.fails(spec, Cause.WAY_HOSTKEY).what
    assert jump.traffic().logins - before.logins == 1
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump).replace(str(jump.key), "/nonexistent"))
    assert ways.fails(spec, Cause.WAY_AUTH).what == "jump host jump did not let us in"
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump))
    gpu1.drop_sshd()
    assert "as jump host jump sees it" in ways.fails(spec, Cause.REFUSED).what
    gpu1.raise_sshd()
    jump.drop_sshd()
    assert "nothing listens at jump host jump" in ways.fails(spec, Cause.REFUSED).what
    strict = make_box("strict", sshd_options=("AllowTcpForwarding no",))
    spec = ways.through(gpu1, "ProxyJump strict", jumps(strict, "strict"))
    assert "forbids going on" in ways.fails(spec, Cause.WAY).what
    spec = ways.through(gpu1, "ProxyJump nowhere", "Host nowhere\n HostName no-such-jump.invalid\n")
    assert "the name of jump host nowhere" in ways.fails(spec, Cause.RESOLVE).what


@contextlib.contextmanager
def listener_stopped(box: Box) -> Iterator[None]:
    pid = next(pid for pid in box.pids() if b"[listener]" in processes.of(pid, "cmdline"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_jump_host_frozen_at_the_greeting(ways, boxes):  # R12 R2 P5
    gpu1, jump = boxes
    with listener_stopped(jump):
        # Where the jump's ssh gives up first, it says where it hung; else our own limit does.
        spec = ways.through(gpu1, "ProxyJump jump", jumps(jump), limit_s=LIMIT_S)
        told = ways.fails(spec, Cause.TIMEOUT_BANNER, limit_s=PATIENT_S)
        assert told.what == "jump host jump is open, but sent no SSH greeting in time"
        told = ways.fails(ways.through(gpu1, "ProxyJump jump", jumps(jump)), Cause.TIMEOUT_BANNER, limit_s=1)
        assert "no SSH greeting" in told.what and "through jump host jump within 1 s" in told.what


def test_a_box_frozen_behind_a_jump_host(ways, boxes):  # R12 R2 P5
    gpu1, jump = boxes
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump))
    with listener_stopped(gpu1):
        told = ways.fails(spec, Cause.TIMEOUT_BANNER, limit_s=LIMIT_S)
    assert "through jump host jump" in told.what
    wait_until(lambda: not jump.session_pids(), 60, "the jump's sessions end")


@pytest.mark.parametrize("how", ["frozen", "gone"])
def test_a_jump_host_that_fails_in_the_middle_of_an_answer(ways, boxes, how):  # R2 R12 R20
    gpu1, jump = boxes
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump))
    with ways.nothing_left(), contextlib.ExitStack() as ice:
        link = ssh.connect(resolve(spec), box_name="gpu1", pinned=None, limit_s=PATIENT_S)
        assert link.run(b"echo yes", b"", limit_s=PATIENT_S).stdout == b"yes\n"
        if how == "frozen":
            ice.enter_context(jump.frozen())
        else:
            jump.kill()
        limit_s = LIMIT_S if how == "frozen" else PATIENT_S
        began = time.monotonic()
        with pytest.raises(LinkError) as caught:
            link.run(b"echo never", b"", limit_s=limit_s)
        assert time.monotonic() - began < LIMIT_S + HELD_UP_S
        assert caught.value.away.cause == (Cause.TIMEOUT_COMMAND if how == "frozen" else Cause.CUT)
        assert "through jump host jump" in caught.value.what
    wait_until(lambda: not gpu1.session_pids(), 60, "the box's sessions end")


def test_failures_in_a_row_through_a_way_leave_nothing(ways, boxes):
    gpu1, jump = boxes
    ended, silent = (resolve(ways.nowhere(script)) for script in ("exit 3", "sleep 99"))
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump))
    address = resolve(spec)
    with ways.nothing_left():
        for _ in range(5):
            for way, limit_s in ((ended, PATIENT_S), (silent, 0.1)):
                with pytest.raises(LinkError):
                    ssh.connect(way, box_name="gpu1", pinned=None, limit_s=limit_s)
            with pytest.raises(LinkTimeout):
                ssh.connect(address, box_name="gpu1", pinned=None, limit_s=PATIENT_S).run(
                    b"sleep 9", b"", limit_s=0.2
                )
    ways.works(spec)


# -- what is never forwarded


def test_the_agent_is_not_forwarded_even_where_ssh_config_says_so(ways, make_box, monkeypatch):  # S6
    gpu1, jump = (make_box(name, sshd_options=("LogLevel DEBUG1",)) for name in ("gpu1", "jump"))
    spec = ways.through(gpu1, "ProxyJump jump", jumps(jump), "Host *\n  ForwardAgent yes\n")
    with agent(gpu1.key) as socket_path:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket_path)
        with ssh.connect(resolve(spec), box_name="gpu1", pinned=None, limit_s=PATIENT_S) as link:
            told = link.run(b'echo "agent: ${SSH_AUTH_SOCK-none}"', b"", limit_s=PATIENT_S).stdout
        assert told == b"agent: none\n"
        logs = gpu1.sshd_log() + jump.sshd_log()
        assert "auth-agent" not in logs
        # ssh itself, from the same files, does ask for it: the log would show it.
        config = str(ways.folder / "config")
        subprocess.run(["ssh", "-F", config, "gpu1", "true"], check=True, capture_output=True, timeout=60)
        assert "auth-agent" in gpu1.sshd_log()


@contextlib.contextmanager
def agent(key: Path) -> Iterator[str]:
    path = str(key.parent / "agent")
    child = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(path), 60, "the agent listens")
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": path})
        yield path
    finally:
        child.terminate()
        child.wait(60)
