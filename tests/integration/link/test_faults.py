"""Every way in which a box can fail to answer, over both transports: the right cause, in time, nothing left."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import processes
import pytest
from box import Box
from false_boxes import Behaviour, drips, floods, relays, resets, says, serving
from waiting import wait_until

from fleet.errors import HostKeyChanged, LinkError, LinkTimeout
from fleet.link import ssh
from fleet.link.address import Address, resolve
from fleet.link.hostkeys import HostKey
from fleet.link.open import OpenLink, connect
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

LIMIT_S = 1.0
PATIENT_S = 40.0  # where not the limit ends it
HELD_UP_S = 15.0  # how long a busy machine may hold us up
PIN = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIORzLyGSf5c7Fmxvz0/8c64luYHZnlx5Qy+D22/wcyjP")


@pytest.fixture(params=["probe", "ssh"])  # what a patrol goes over: fabric is in the contract
def transport(request, tmp_path, monkeypatch) -> str:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # so that leavings can be seen
    return request.param


# -- what every failure must keep


def held() -> tuple[frozenset[threading.Thread], int, frozenset[int], int]:
    """Threads, descriptors, children and temporary files of ours."""
    children = frozenset(processes.children(os.getpid()))
    files = len(list(Path(tempfile.gettempdir()).iterdir())) if tempfile.tempdir else 0
    return frozenset(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir())), children, files


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Nothing of ours is there afterwards that was not there before."""
    was = held()

    def clean() -> bool:
        now = held()
        return now[0] <= was[0] and now[1] <= was[1] and now[2] <= was[2] and now[3] <= was[3]

    yield
    wait_until(clean, 60, f"nothing left beyond {was}")


LINKS = {"probe": "fabric", "ssh": "ssh"}


def connected(box: BoxSpec, *, pinned: HostKey, limit_s: float) -> OpenLink:
    return connect(box, pinned=pinned, limit_s=limit_s, probe=True)


def at(transport: str, port: int, host: str = "127.0.0.1", key: str = "/nonexistent") -> BoxSpec:
    return BoxSpec("gpu1", host, user="dev", port=port, identity=key, link=LINKS[transport])


# How far a visit can come before it runs out of time, in order.
OUT_OF_TIME = [
    Cause.RESOLVE,
    Cause.TIMEOUT_CONNECT,
    Cause.TIMEOUT_BANNER,
    Cause.TIMEOUT_HANDSHAKE,
    Cause.TIMEOUT_COMMAND,
]


def sooner(cause: Cause, than: Cause) -> bool:
    """Whether the time ran out before the visit had come so far: this machine was too busy, not the box."""
    order = {each: number for number, each in enumerate(OUT_OF_TIME)}
    return cause in order and than in order and order[cause] < order[than]


def fails(
    where: BoxSpec, cause: Cause, *, limit_s: float | None = None, pin: HostKey | None = PIN
) -> LinkError:
    """Meets the failure. A limit that this machine was too busy for is tried again as a longer one."""
    limit_s = limit_s or (LIMIT_S if cause in OUT_OF_TIME else PATIENT_S)
    began = time.monotonic()
    with pytest.raises(LinkError) as caught:
        connected(where, pinned=pin, limit_s=limit_s).close()
    took_s = time.monotonic() - began
    away = caught.value.away
    if sooner(away.cause, cause) and limit_s < PATIENT_S / 2:
        return fails(where, cause, limit_s=limit_s * 5, pin=pin)
    assert away.cause == cause, f"{away.says} ({caught.value.__cause__!r})"
    assert took_s < limit_s + HELD_UP_S
    # Of its limit ssh leaves a quarter for another address.
    least_s = 0.7 * limit_s if isinstance(caught.value, LinkTimeout) else 0.0
    assert least_s <= away.took_s <= took_s
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


@pytest.mark.parametrize("name", FAULTS)
def test_a_box_that_is_none(name, transport):  # R2 R3 R12
    behaviour, cause = FAULTS[name]
    with serving(behaviour) as port, nothing_left():
        error = fails(at(transport, port), cause)
    assert error.exit_code == 11
    assert error.next == (resolve(at(transport, port)).by_hand,)
    assert error.away.transient == (cause != Cause.PROTOCOL)


def test_text_of_a_stranger_is_shown_harmless(transport):  # S23
    with serving(says(b"\x1b]0;owned\x07 hello \xe2\x80\xae\r\n", close=True)) as port:
        error = fails(at(transport, port), Cause.PROTOCOL)
    assert "\x1b" not in error.what
    assert "\u202e" not in error.what
    assert "hello" in error.what or transport == "ssh"  # which repeats no line with such bytes in it


def test_nothing_listens(transport):  # R12
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        with nothing_left():
            error = fails(at(transport, taken.getsockname()[1]), Cause.REFUSED)
    assert "connection refused" in error.what


def test_no_answer_to_tcp_at_all(transport):
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
            fails(at(transport, port), Cause.TIMEOUT_CONNECT)


def test_an_address_without_a_way(transport):
    with nothing_left():
        error = fails(at(transport, 22, host="255.255.255.255"), Cause.NO_ROUTE)
    assert error.away.transient


def test_a_name_without_address(transport):
    error = fails(at(transport, 22, host="no-such-box.invalid"), Cause.RESOLVE, limit_s=3)
    assert "no-such-box.invalid" in error.what


def test_names_that_no_resolver_takes():
    for host in ("x" * 70, "a..b", "\u00e9" * 80):
        where = Address(host, 22, "dev", ("/nonexistent",), (), None, host, identities_only=True)
        with pytest.raises(LinkError) as caught:
            ssh.connect(where, box_name="gpu1", pinned=PIN, limit_s=2)
        assert caught.value.away.cause == Cause.RESOLVE


# -- a real box that stops in the middle


def pin_of(box: Box) -> HostKey:
    words = box.known_hosts_line.split()
    return HostKey(words[1], words[2])


def to(box: Box, transport: str, port: int | None = None) -> BoxSpec:
    return at(transport, port or box.port, key=str(box.key))


def visit(box: Box, transport: str, port: int | None = None, limit_s: float = PATIENT_S) -> OpenLink:
    return connected(to(box, transport, port), pinned=pin_of(box), limit_s=limit_s)


# Bytes of the box's answer that pass: within its version line, its key exchange, and the login.
STOPS = {
    10: Cause.TIMEOUT_BANNER,
    60: Cause.TIMEOUT_HANDSHAKE,
    700: Cause.TIMEOUT_HANDSHAKE,
    1400: Cause.TIMEOUT_HANDSHAKE,
}


@pytest.mark.box
def test_a_box_that_freezes_on_the_way_in(box: Box, transport):
    for after_bytes, cause in STOPS.items():
        with serving(relays(box.port, after_bytes, "stop")) as port, nothing_left():
            fails(to(box, transport, port), cause, pin=pin_of(box))


@pytest.mark.box
def test_a_box_that_is_cut_on_the_way_in_never_looks_like_anything_else(box: Box, transport):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    for after_bytes in sorted(random.Random(seed).sample(range(45, 1500), 6)):
        with serving(relays(box.port, after_bytes, "cut")) as port, nothing_left():
            fails(to(box, transport, port), Cause.CUT, pin=pin_of(box))


ANSWER = bytes(range(256)) * 800  # 200 KiB


def cut_after(box: Box, transport: str, after_bytes: int) -> str:
    """One visit whose answer is cut there: `whole`, or the cause; anything else fails the test."""
    with serving(relays(box.port, after_bytes, "cut")) as port, nothing_left():
        try:
            with visit(box, transport, port) as link:
                reply = link.run(b"cat", ANSWER, limit_s=PATIENT_S)
        except LinkError as error:
            return error.away.cause
        assert (reply.status, reply.stdout == ANSWER, reply.over) == (0, True, False)
        return "whole"


def bytes_of_a_visit(box: Box, transport: str, request: bytes) -> int:
    passed = [0]
    with serving(relays(box.port, 10**9, "cut", count=passed)) as port:
        with visit(box, transport, port) as link:
            assert link.run(b"cat", request, limit_s=PATIENT_S).stdout == request
        wait_until(lambda: not box.session_pids(), 60, "the visit is over on the box too")
    return passed[0]


def points(box: Box, transport: str) -> list[int]:
    """Every twentieth of the answer, in bytes of the whole visit."""
    without, whole = (bytes_of_a_visit(box, transport, request) for request in (b"", ANSWER))
    return [without + (whole - without) * part // 20 for part in range(20)]


@pytest.mark.box
def test_an_answer_that_is_cut_is_no_answer(box: Box, transport):  # R12 R21 D4
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    for point in random.Random(seed).sample(points(box, transport)[1:-1], 4):
        assert cut_after(box, transport, point) == Cause.CUT
    wait_until(lambda: box.processes() == {}, 60, "nothing is left on the box")


def only_the_child(box: Box) -> bool:
    return [line for line in box.processes().values() if not line.startswith("sshd")] == ["sleep 67"]


@pytest.mark.box
def test_a_cut_after_the_end_of_the_command_is_no_answer(box: Box, transport):  # R12 D4
    """sshd tells the status once the command has ended, although a child of it still writes."""
    with visit(box, transport) as link:

        def cut() -> None:
            wait_until(lambda: only_the_child(box), 30, "only the child is left")
            for pid in box.session_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        knife = threading.Thread(target=cut)
        knife.start()
        with pytest.raises(LinkError) as caught:
            link.run(b"echo begun; sleep 67 & exit 0", b"", limit_s=40)
        knife.join(60)
    assert caught.value.away.cause == Cause.CUT, caught.value.what
    for pid, line in box.processes().items():
        if line == "sleep 67":
            os.kill(pid, signal.SIGKILL)


@pytest.mark.fault
@pytest.mark.box
@pytest.mark.timeout(300)
def test_an_answer_that_is_cut_at_every_twentieth(box: Box, transport):
    seen = [cut_after(box, transport, point) for point in points(box, transport)]
    assert set(seen[1:-1]) == {Cause.CUT}
    assert set(seen) <= {Cause.CUT, "whole"}
    wait_until(lambda: box.processes() == {}, 60, "nothing is left on the box")


@pytest.mark.box
def test_a_stopped_sshd_is_silent_at_the_greeting(box: Box, transport):
    listener = next(pid for pid in box.pids() if b"[listener]" in processes.of(pid, "cmdline"))
    os.kill(listener, signal.SIGSTOP)
    try:
        with nothing_left():
            fails(to(box, transport), Cause.TIMEOUT_BANNER, pin=pin_of(box))
    finally:
        os.kill(listener, signal.SIGCONT)


@pytest.mark.box
def test_a_session_stopped_after_the_login(box: Box, transport):  # R2
    # One line comes first: until the user's own sshd is there, the one stopped is not the one that answers.
    limit_s = 10
    with nothing_left():
        link = visit(box, transport)
        caught: list[LinkError] = []

        def ask() -> None:
            try:
                link.run(b"echo begun; exec sleep 61", b"", limit_s=limit_s)
            except LinkError as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: "sleep 61" in box.processes().values(), 60, "the command runs")
        with box.frozen():
            asking.join(60)
            assert [type(error) for error in caught] == [LinkTimeout]
            assert caught[0].away.cause == Cause.TIMEOUT_COMMAND
            assert limit_s - 0.1 < caught[0].away.took_s < limit_s + HELD_UP_S
    wait_until(lambda: box.processes() == {}, 60, "nothing is left on the box")


HELD_UP = """
import sys
import msgspec
from fleet.errors import LinkError
from fleet.link.hostkeys import HostKey
from fleet.link.open import connect
from fleet.model.spec import BoxSpec
box, pin = msgspec.json.decode(sys.argv[1], type=tuple[BoxSpec, HostKey])
with connect(box, pinned=pin, limit_s=40, probe=True) as link:
    try:
        print("status", link.run(b"touch ~/begun; exec sleep 63", b"", limit_s=1).status)
    except LinkError as error:
        print(error.away.cause)
"""


@pytest.mark.box
def test_who_is_held_up_does_not_take_the_box_s_own_limit_for_an_answer(box: Box, transport):  # R12 D4
    request = msgspec.json.encode((to(box, transport), pin_of(box)))
    asking = subprocess.Popen([sys.executable, "-I", "-c", HELD_UP, request], stdout=subprocess.PIPE)
    try:
        wait_until((box.home / "begun").exists, 60, "the command runs")
        os.kill(asking.pid, signal.SIGSTOP)
        wait_until(
            lambda: not any("sleep 63" in line for line in box.processes().values()),
            60,
            "the box has ended it",
        )
        os.kill(asking.pid, signal.SIGCONT)
        assert asking.communicate(timeout=60)[0].split() == [Cause.TIMEOUT_COMMAND.encode()]
    finally:
        asking.kill()
        asking.communicate()


@pytest.mark.box
@pytest.mark.parametrize("how", ["session killed", "box gone", "closed by us"])
def test_a_link_cut_in_the_middle_of_an_answer(box: Box, transport, how):  # R12 R20 D4
    with nothing_left():
        link = visit(box, transport)
        caught: list[LinkError] = []

        def ask() -> None:
            try:
                link.run(b"echo begun; sleep 60", b"", limit_s=PATIENT_S)
            except LinkError as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: "sleep 60" in box.processes().values(), 60, "the command runs")
        if how == "box gone":
            box.kill()
        elif how == "closed by us":
            link.close()
        else:
            for pid in box.session_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        asking.join(60)
        assert [error.away.cause for error in caught] == [Cause.CUT]
        assert caught[0].away.transient
        assert "in the middle of an answer" in caught[0].what
        with pytest.raises(LinkError):  # a link that failed stays closed
            link.run(b"echo", b"", limit_s=2)


@pytest.mark.box
def test_too_many_connections(make_box, transport):  # R12
    box = make_box(sshd_options=("MaxStartups 1:100:1", "LoginGraceTime 600"))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", box.port)))
            idle.settimeout(60)
            idle.recv(100)
        with nothing_left():
            fails(to(box, transport), Cause.THROTTLED, pin=pin_of(box))


@pytest.mark.box
def test_a_box_that_lets_in_but_gives_no_session(make_box, transport):
    box = make_box(sshd_options=("MaxSessions 0",))
    with nothing_left(), pytest.raises(LinkError) as caught, visit(box, transport) as link:
        link.run(b"echo", b"", limit_s=PATIENT_S)
    assert caught.value.away.cause == Cause.PROTOCOL
    assert "refused to open a session" in caught.value.what


def in_a_row(box: Box, transport: str, rounds: int) -> int:
    """So many rounds of ten failures, then a visit that works; how many failures there were."""
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
    failed = 0
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(serving(FAULTS[kind][0])) for kind in kinds}
        with nothing_left():
            for _ in range(rounds):
                for kind in kinds:
                    with pytest.raises(LinkError):
                        connected(at(transport, ports[kind]), pinned=PIN, limit_s=0.3)
                with pytest.raises(HostKeyChanged):
                    connected(to(box, transport), pinned=wrong, limit_s=PATIENT_S)
                fails(at(transport, box.port), Cause.AUTH, pin=pin_of(box))
                with pytest.raises(LinkTimeout):
                    visit(box, transport).run(b"sleep 9", b"", limit_s=0.3)
                failed += len(kinds) + 3
        with nothing_left(), visit(box, transport) as link:
            assert link.run(b"echo fine", b"", limit_s=PATIENT_S).stdout == b"fine\n"
    wait_until(lambda: box.processes() == {}, 60, "nothing is left on the box")
    return failed


@pytest.mark.box
def test_failures_in_a_row_leave_nothing(box: Box, transport):
    assert in_a_row(box, transport, rounds=2) == 20


@pytest.mark.fault
@pytest.mark.box
@pytest.mark.timeout(600)
def test_two_hundred_failures_in_a_row_leave_nothing(box: Box, transport):
    assert in_a_row(box, transport, rounds=20) == 200


@pytest.mark.box
def test_what_the_box_says_and_what_the_link_says_are_all_distinct(make_box, transport, tmp_path):  # R12
    """The command's own words first: none of them may look like a failure of the link, nor the other way."""
    box, full = make_box(), make_box("full", sshd_options=("MaxStartups 1:100:1", "LoginGraceTime 600"))
    scripts = {
        "found": b"grep -q root /etc/passwd",
        "not found": b"grep -q no-such-word /etc/passwd",
        "file missing": b"grep -q root /no/such/file",
        "tool missing": b"no-such-tool",
        "remote 255": b"exit 255",
    }
    seen: dict[str, object] = {}
    with visit(box, transport) as link:
        for name, script in scripts.items():
            seen[name] = link.run(script, b"", limit_s=PATIENT_S).status
    with contextlib.ExitStack() as stack:
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        for _ in range(2):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", full.port)))
            idle.settimeout(60)
            idle.recv(100)
        silent = stack.enter_context(serving(says(b"")))
        seen["timed out"] = fails(at(transport, silent), Cause.TIMEOUT_BANNER).away.cause
        away = {
            "refused": (at(transport, closed.getsockname()[1]), PIN),
            "throttled": (to(full, transport), pin_of(full)),
            "auth": (at(transport, box.port), pin_of(box)),
            "key unknown": (to(box, transport), None),
            "key changed": (to(box, transport), PIN),
            "no name": (at(transport, 22, host="no-such-box.invalid"), PIN),
        }
        for name, (where, pin) in away.items():
            with pytest.raises(LinkError) as caught:
                connected(where, pinned=pin, limit_s=PATIENT_S)
            seen[name] = caught.value.away.cause
    with visit(box, transport) as link, pytest.raises(LinkTimeout) as late:
        link.run(b"sleep 9", b"", limit_s=0.5)
    seen["command timed out"] = late.value.away.cause
    assert len(set(seen.values())) == len(seen) == 13, seen
    assert (seen["tool missing"], seen["remote 255"]) == (127, 255)
