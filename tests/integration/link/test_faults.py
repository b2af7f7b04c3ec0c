"""Every way in which a box can fail to answer: the right cause, within the limit, and nothing left behind."""

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box
from false_boxes import Behaviour, drips, floods, relays, resets, says, serving
from waiting import wait_until

from fleet.errors import HostKeyChanged, LinkError, LinkTimeout
from fleet.link import ssh
from fleet.link.address import Address, resolve
from fleet.link.hostkeys import HostKey
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

LIMIT_S = 1.0
SLACK_S = 1.5
PIN = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIORzLyGSf5c7Fmxvz0/8c64luYHZnlx5Qy+D22/wcyjP")
# -- what every failure must keep


def held() -> tuple[frozenset[threading.Thread], int]:
    return frozenset(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no descriptor is there afterwards that was not there before."""
    threads, descriptors = held()

    def clean() -> bool:
        now = held()
        return now[0] <= threads and now[1] <= descriptors

    yield
    wait_until(clean, 5, f"nothing left of {held()}, before {(threads, descriptors)}")


def address(port: int, host: str = "127.0.0.1", key: str = "/nonexistent") -> Address:
    name = f"[{host}]:{port}"
    return Address(host, port, "dev", (key,), (), None, name, identities_only=True, by_hand="ssh gpu1")


def fails(where: Address, cause: Cause, *, limit_s: float = LIMIT_S, pin: HostKey | None = PIN) -> LinkError:
    began = time.monotonic()
    with pytest.raises(LinkError) as caught:
        ssh.connect(where, box_name="gpu1", pinned=pin, limit_s=limit_s).close()
    took_s = time.monotonic() - began
    away = caught.value.away
    assert away.cause == cause, f"{away.says} ({caught.value.__cause__!r})"
    assert took_s < limit_s + SLACK_S
    assert abs(away.took_s - took_s) < 0.5
    assert where.host in away.says
    assert caught.value.where == "gpu1"
    assert isinstance(caught.value, LinkTimeout) == cause.startswith("timeout")
    return caught.value


GREETING = b"SSH-2.0-OpenSSH_9.2\r\n"

FAULTS: dict[str, tuple[Behaviour, Cause]] = {
    "silent after accept": (says(b""), Cause.TIMEOUT_BANNER),
    "half a version": (says(b"SSH-2.0-Half"), Cause.TIMEOUT_BANNER),
    "lines without end": (drips(b"welcome\r\n", 0.05), Cause.TIMEOUT_BANNER),
    "a byte at a time": (drips(b"S", 0.05), Cause.TIMEOUT_BANNER),
    "a flood of lines": (floods(b"welcome\r\n" * 1000), Cause.PROTOCOL),
    "a flood without lines": (floods(b"x" * 65536), Cause.PROTOCOL),
    "another protocol": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True), Cause.PROTOCOL),
    "bytes of no meaning": (says(bytes(range(256)) * 16, close=True), Cause.PROTOCOL),
    "an old version": (says(b"SSH-1.5-old\r\n"), Cause.PROTOCOL),
    "silent after the version": (says(GREETING), Cause.TIMEOUT_HANDSHAKE),
    "a banner, then silent": (says(b"welcome\r\n" * 5 + GREETING), Cause.TIMEOUT_HANDSHAKE),
    "no packets after the version": (says(GREETING + b"\xff" * 2000), Cause.PROTOCOL),
    "hangs up after the version": (says(GREETING, close=True), Cause.CUT),
    "hangs up at accept": (says(b"", close=True), Cause.THROTTLED),
    "resets at accept": (resets, Cause.THROTTLED),
    "says it has too many": (says(b"Exceeded MaxStartups\r\n", close=True), Cause.THROTTLED),
    "says not now": (says(b"Not allowed at this time\r\n", close=True), Cause.THROTTLED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_box(fault):  # R12 R2
    behave, cause = FAULTS[fault]
    with serving(behave) as port, nothing_left():
        error = fails(address(port), cause)
    assert error.exit_code == 11
    assert error.next == ("ssh gpu1",)
    assert error.away.transient == (cause != Cause.PROTOCOL)


def test_text_of_a_stranger_is_shown_harmless():  # S23
    with serving(says(b"\x1b]0;owned\x07 hello \xe2\x80\xae\r\n", close=True)) as port:
        error = fails(address(port), Cause.PROTOCOL)
    assert "\x1b" not in error.what
    assert "\u202e" not in error.what
    assert "hello" in error.what


def test_nothing_listens():  # R12
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        with nothing_left():
            error = fails(address(taken.getsockname()[1]), Cause.REFUSED)
    assert "connection refused" in error.what


def test_no_answer_to_tcp_at_all():
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(8):  # once its queue is full, the kernel answers no further SYN
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with nothing_left():
            fails(address(port), Cause.TIMEOUT_CONNECT)


def test_an_address_without_a_way():
    with nothing_left():
        error = fails(address(22, host="255.255.255.255"), Cause.NO_ROUTE)
    assert error.away.transient


def test_a_name_without_address():
    began = time.monotonic()
    error = fails(address(22, host="no-such-box.invalid"), Cause.RESOLVE, limit_s=2)
    assert time.monotonic() - began < 2 + SLACK_S
    assert "no-such-box.invalid" in error.what
    for host in ("x" * 70, "a..b", "\u00e9" * 80):  # names that no resolver takes
        fails(address(22, host=host), Cause.RESOLVE, limit_s=2)


# -- a real box that stops in the middle


@pytest.fixture
def real(box: Box) -> Address:
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(box.ssh_config_text("gpu1"))
    return resolve(BoxSpec("gpu1", "gpu1"))


def pin_of(box: Box) -> HostKey:
    words = box.known_hosts_line.split()
    return HostKey(words[1], words[2])


def through(port: int, box: Box) -> Address:
    return address(port, key=str(box.key))


# Bytes of the box's answer that pass: within its version line, its key exchange, and the login.
STOPS = {
    10: Cause.TIMEOUT_BANNER,
    60: Cause.TIMEOUT_HANDSHAKE,
    700: Cause.TIMEOUT_HANDSHAKE,
    1400: Cause.TIMEOUT_HANDSHAKE,
}


@pytest.mark.box
@pytest.mark.parametrize("after_bytes", STOPS)
def test_a_box_that_freezes_on_the_way_in(box: Box, after_bytes):
    with serving(relays(box.port, after_bytes, "stop")) as port, nothing_left():
        fails(through(port, box), STOPS[after_bytes], pin=pin_of(box))


@pytest.mark.box
def test_a_box_that_is_cut_anywhere_never_looks_like_anything_else(box: Box):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    picks = sorted(random.Random(seed).sample(range(45, 1500), 12))
    for after_bytes in picks:
        with serving(relays(box.port, after_bytes, "cut")) as port, nothing_left():
            fails(through(port, box), Cause.CUT, limit_s=5, pin=pin_of(box))


@pytest.mark.box
def test_a_stopped_sshd_is_silent_at_the_greeting(box: Box, real):
    listener = next(pid for pid in box.pids() if "[listener]" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(listener, signal.SIGSTOP)
    try:
        with nothing_left():
            fails(real, Cause.TIMEOUT_BANNER, pin=pin_of(box))
    finally:
        os.kill(listener, signal.SIGCONT)


@pytest.mark.box
def test_a_session_stopped_after_the_login(box: Box, real):  # R2
    with nothing_left():
        link = ssh.connect(real, box_name="gpu1", pinned=None, limit_s=10)
        # One answer first: until the user's own sshd is there, the one stopped is not the one that answers.
        assert link.run(b"echo yes", b"", limit_s=10).stdout == b"yes\n"
        with box.frozen():
            began = time.monotonic()
            with pytest.raises(LinkTimeout) as caught:
                link.run(b"echo never", b"", limit_s=LIMIT_S)
            assert time.monotonic() - began < LIMIT_S + SLACK_S
            assert caught.value.away.cause == Cause.TIMEOUT_COMMAND


@pytest.mark.box
@pytest.mark.parametrize("how", ["session killed", "box gone"])
def test_a_link_cut_in_the_middle_of_an_answer(box: Box, real, how):  # R12 R20 D4
    with nothing_left():
        link = ssh.connect(real, box_name="gpu1", pinned=None, limit_s=10)
        caught: list[LinkError] = []

        def ask() -> None:
            try:
                link.run(b"echo begun; sleep 60", b"", limit_s=20)
            except LinkError as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: "sleep 60" in box.processes().values(), 10, "the command runs")
        if how == "box gone":
            box.kill()
        else:
            for pid in box.session_pids():
                os.kill(pid, signal.SIGKILL)
        asking.join(5)
        assert [error.away.cause for error in caught] == [Cause.CUT]
        assert caught[0].away.transient
        assert "in the middle of an answer" in caught[0].what
        with pytest.raises(LinkError):  # a link that failed stays closed
            link.run(b"echo", b"", limit_s=2)


@pytest.mark.box
def test_too_many_connections(make_box):  # R12
    box = make_box(sshd_options=("MaxStartups 1:100:1", "LoginGraceTime 60"))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", box.port)))
            idle.settimeout(5)
            idle.recv(100)
        with nothing_left():
            fails(through(box.port, box), Cause.THROTTLED, pin=pin_of(box))


@pytest.mark.box
def test_a_box_that_lets_in_but_gives_no_session(make_box):
    box = make_box(sshd_options=("MaxSessions 0",))
    with nothing_left():
        link = ssh.connect(through(box.port, box), box_name="gpu1", pinned=pin_of(box), limit_s=10)
        with pytest.raises(LinkError) as caught:
            link.run(b"echo", b"", limit_s=5)
    assert caught.value.away.cause == Cause.PROTOCOL
    assert "refused to open a session" in caught.value.what


@pytest.mark.box
@pytest.mark.timeout(120)
def test_failures_in_a_row_leave_nothing(box: Box, real):
    """Thirty failures of ten kinds, then a visit that works."""
    wrong = pin_of(box)
    box.swap_host_key()
    kinds = [
        "silent after accept",
        "half a version",
        "silent after the version",
        "no packets after the version",
        "hangs up after the version",
        "resets at accept",
        "another protocol",
    ]
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(serving(FAULTS[kind][0])) for kind in kinds}
        with nothing_left():
            for _ in range(3):
                for kind in kinds:
                    fails(address(ports[kind]), FAULTS[kind][1], limit_s=0.3)
                with pytest.raises(HostKeyChanged):
                    ssh.connect(real, box_name="gpu1", pinned=wrong, limit_s=10)
                fails(address(box.port), Cause.AUTH, pin=pin_of(box), limit_s=10)
                with pytest.raises(LinkTimeout):
                    ssh.connect(through(box.port, box), box_name="gpu1", pinned=pin_of(box), limit_s=10).run(
                        b"sleep 9", b"", limit_s=0.3
                    )
        with (
            nothing_left(),
            ssh.connect(through(box.port, box), box_name="gpu1", pinned=pin_of(box), limit_s=10) as link,
        ):
            assert link.run(b"echo fine", b"", limit_s=10).stdout == b"fine\n"
