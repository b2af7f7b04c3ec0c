"""What every link promises, asked of each kind in the same words."""

import contextlib
import hashlib
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import pytest
from false_links import Cut, Err, Exit, FarEnd, MemoryLink, Out, Wait
from sshd import command_line, descendants
from waiting import wait_until

from fleet.errors import LinkError, LinkTimeout
from fleet.link.base import Link
from fleet.link.local import LocalLink
from fleet.link.open import connect
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

pytestmark = pytest.mark.timeout(180)

SOON_S = 60  # for what takes a moment where nothing else is at work
HELD_UP_S = 20.0  # how long a busy machine may hold us up; far less than what an endless command takes

# What a script of this suite does, for the link that has no shell: script → its far end.
PLAYS: dict[bytes, FarEnd] = {}


def plays(*scripts: bytes) -> Callable[[FarEnd], FarEnd]:
    def add(far: FarEnd) -> FarEnd:
        PLAYS.update(dict.fromkeys(scripts, far))
        return far

    return add


class Kind:
    """One kind of link: `open` gives a new one, `running` is what runs at its far ends."""

    def __init__(self, open_: Callable[[], Link], running: Callable[[], dict[int, str]]) -> None:
        self.open = open_
        self.running = running
        self.cut: Callable[[], object] = lambda: None


def memory() -> Kind:
    links: list[MemoryLink] = []

    def new() -> Link:
        links.append(MemoryLink(PLAYS))
        return links[-1]

    return Kind(new, lambda: {id(link) + n: what for link in links for n, what in link.running.items()})


def local() -> Kind:
    def ours() -> dict[int, str]:
        found = {pid: command_line(pid) for pid in descendants(os.getpid())}
        return {pid: line for pid, line in found.items() if line}

    before = set(ours())
    return Kind(LocalLink, lambda: {pid: line for pid, line in ours().items() if pid not in before})


def over_ssh(box, transport) -> Kind:
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(box.ssh_config_text("gpu1"))
    spec = BoxSpec("gpu1", "gpu1", link="ssh" if transport == "ssh" else "fabric")
    kind = Kind(lambda: connect(spec, pinned=None, limit_s=40, probe=transport == "probe"), box.processes)

    def cut() -> None:
        wait_until(lambda: "sleep 60" in box.processes().values(), 30, "the command runs")
        for pid in box.session_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    kind.cut = cut
    return kind


# A probe goes over the same library as fabric's link, without fabric.
BOXED = [pytest.param(name, marks=pytest.mark.box) for name in ("fabric", "probe", "ssh")]


def held() -> tuple[set[threading.Thread], int, set[int]]:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return set(threading.enumerate()), descriptors, set(processes.children(os.getpid()))


@contextlib.contextmanager
def of_kind(request) -> Iterator[Kind]:
    """That kind, and the proof that nothing is left of all its links: no thread, descriptor or child."""
    name = request.param
    kind = (
        memory()
        if name == "memory"
        else local()
        if name == "local"
        else over_ssh(request.getfixturevalue("box"), name)
    )
    threads, descriptors, children = held()

    def clean() -> bool:
        now = held()
        return now[0] <= threads and now[1] <= descriptors and now[2] <= children

    yield kind
    wait_until(clean, SOON_S, f"nothing left beyond {(threads, descriptors, children)}")


@pytest.fixture(params=["memory", "local", *BOXED])
def kind(request):
    with of_kind(request) as kind:
        yield kind


@pytest.fixture(params=["memory", *BOXED])
def cuttable(request):
    """The kinds that have something to cut."""
    with of_kind(request) as kind:
        yield kind


@pytest.fixture
def link(kind):
    with kind.open() as link:
        yield link


# -- the answer


@plays(b"cat")
def _cat(request):
    yield Out(request)
    yield Exit(0)


def test_an_answer_comes_back_byte_for_byte(link: Link):
    every_byte = bytes(range(256)) * 800  # 200 KiB
    reply = link.run(b"cat", every_byte, limit_s=40)
    assert (reply.status, reply.stdout, reply.over) == (0, every_byte, False)


FIRST_LINE = b'IFS= read -r first; printf \'%s|\' "$first" "it\'s \\$HOME `echo ok`"; cat\n'


@plays(FIRST_LINE)
def _first_line(request):
    first, _, rest = request.partition(b"\n")
    yield Out(first + b"|it's $HOME ok|" + rest)
    yield Exit(0)


def test_script_and_request_do_not_run_into_each_other(link: Link):  # R6 D5
    reply = link.run(FIRST_LINE, b"one $(id) `id` 'x'\ntwo\n", limit_s=40)
    assert reply.stdout == b"one $(id) `id` 'x'|it's $HOME ok|two\n"


STATUSES = {status: b"echo out; echo err >&2; exit %d" % status for status in (0, 1, 7, 127, 255)}


def _exits(status):
    def far(request):
        yield Out(b"out\n")
        yield Err(b"err\n")
        yield Exit(status)

    return far


PLAYS.update({script: _exits(status) for status, script in STATUSES.items()})


def test_every_exit_status_is_carried_255_too(link: Link):  # R12 D4
    for status, script in STATUSES.items():
        reply = link.run(script, b"", limit_s=40)
        assert (reply.status, reply.stdout, reply.stderr) == (status, b"out\n", b"err\n")


@plays(b"echo begun; kill -9 $$")
def _killed(request):
    yield Out(b"begun\n")
    yield Exit(None)


def test_a_process_killed_by_a_signal_has_no_status(link: Link):
    reply = link.run(b"echo begun; kill -9 $$", b"", limit_s=40)
    assert (reply.status, reply.stdout, reply.over) == (-1, b"begun\n", False)
    assert link.run(b"cat", b"still open", limit_s=40).stdout == b"still open"


# -- the request


@plays(b"exec <&-; echo done")
def _deaf(request):
    yield Out(b"done\n")
    yield Exit(0)


def test_a_script_that_reads_nothing_answers_all_the_same(link: Link):
    assert link.run(b"exec <&-; echo done", b"x" * 3_000_000, limit_s=40).stdout == b"done\n"


@plays(b"wc -c; cat; echo end")
def _counts(request):
    yield Out(b"%d\nend\n" % len(request))
    yield Exit(0)


def test_the_request_ends(link: Link):
    shown = link.run(b"wc -c; cat; echo end", b"x" * 100_000, limit_s=40).stdout.split()
    assert shown == [b"100000", b"end"]


def test_a_large_request_meets_a_large_answer_without_deadlock(link: Link):
    request = os.urandom(6_000_000)
    reply = link.run(b"cat", request, limit_s=40, max_bytes=10_000_000)
    assert hashlib.sha256(reply.stdout).digest() == hashlib.sha256(request).digest()
    assert reply.status == 0


# -- bounds


LOUD = b"head -c 5000000 /dev/zero | tr '\\0' e >&2; echo out"


@plays(LOUD)
def _loud(request):
    yield Err(b"e" * 5_000_000)
    yield Out(b"out\n")
    yield Exit(0)


def test_stderr_is_kept_to_its_start_and_never_blocks(link: Link):
    reply = link.run(LOUD, b"", limit_s=40)
    assert (reply.status, reply.stdout, reply.stderr) == (0, b"out\n", b"e" * 4096)


FLOOD = b"head -c 100000000 /dev/zero; echo end"


@plays(FLOOD)
def _flood(request):
    for _ in range(1526):
        yield Out(bytes(65536))
    yield Exit(0)


def test_output_beyond_the_bound_is_neither_kept_nor_waited_for(kind: Kind):  # S22
    with kind.open() as link:
        memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = link.run(FLOOD, b"", limit_s=60, max_bytes=65536)
        assert (reply.over, len(reply.stdout), reply.status) == (True, 65536, -1)
        assert reply.took_s < HELD_UP_S
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib < 30_000
        ended = "the writer has ended"
        wait_until(lambda: not any("head" in line for line in kind.running().values()), SOON_S, ended)
        assert link.run(b"cat", b"still open", limit_s=40).stdout == b"still open"


@plays(b"head -c 65536 /dev/zero")
def _just(request):
    yield Out(bytes(65536))
    yield Exit(0)


def test_exactly_the_bound_is_not_over(link: Link):
    reply = link.run(b"head -c 65536 /dev/zero", b"", limit_s=20, max_bytes=65536)
    assert (reply.over, len(reply.stdout), reply.status) == (False, 65536, 0)


# -- the limit

ENDLESS = {
    "silent": b"sleep 300",
    "drips": b"while :; do echo x; sleep 1; done",
    "closes its output": b"exec >&- 2>&-; sleep 300",
    "ignores TERM": b"trap '' TERM; while :; do sleep 1; done",
    "has children": b"(sleep 300) & (sleep 300) | cat; wait",
    "after reading": b"cat; sleep 300",
}


@plays(*ENDLESS.values())
def _endless(request):
    while True:
        yield Out(b"x\n")
        yield Wait(1.0)


def test_the_limit_holds_whatever_the_command_does(kind: Kind):  # R3 R4 D3 D13
    """All six at once, each over a link of its own."""
    limit_s = 1.5
    before = set(kind.running())
    caught: dict[str, LinkTimeout] = {}
    walls: dict[str, float] = {}

    def meet(name: str, link: Link) -> None:
        began = time.monotonic()
        try:
            link.run(ENDLESS[name], b"request\n" * 1000, limit_s=limit_s)
        except LinkTimeout as error:
            caught[name] = error
        walls[name] = time.monotonic() - began

    with contextlib.ExitStack() as stack:
        links = {name: stack.enter_context(kind.open()) for name in ENDLESS}
        meeting = [threading.Thread(target=meet, args=pair) for pair in links.items()]
        for thread in meeting:
            thread.start()
        for thread in meeting:
            thread.join(SOON_S)
        for link in links.values():
            with pytest.raises(LinkError):  # a link that failed stays closed
                link.run(b"cat", b"", limit_s=5)
    assert set(caught) == set(ENDLESS)
    for name, error in caught.items():
        assert limit_s - 0.05 <= error.away.took_s < limit_s + HELD_UP_S, name
        assert walls[name] < limit_s + HELD_UP_S, name
        assert error.away.cause == Cause.TIMEOUT_COMMAND, (name, error.what)
        assert error.away.transient
        assert error.exit_code == 11
    wait_until(lambda: not set(kind.running()) - before, SOON_S, "nothing is left")


# -- the end of a link


@plays(b"echo begun; sleep 60")
def _cut(request):
    yield Out(b"begun\n")
    yield Cut()


def test_a_cut_in_the_middle_of_an_answer_is_no_answer(cuttable: Kind):  # R12 D4
    with cuttable.open() as link:
        knife = threading.Thread(target=cuttable.cut)
        knife.start()
        with pytest.raises(LinkError) as caught:
            link.run(b"echo begun; sleep 60", b"", limit_s=40)
        knife.join(SOON_S)
        assert caught.value.away.cause == Cause.CUT, caught.value.what
        assert not isinstance(caught.value, LinkTimeout)
        assert caught.value.away.transient
        with pytest.raises(LinkError):
            link.run(b"cat", b"", limit_s=5)


def test_many_runs_on_one_link(link: Link):
    assert [link.run(b"cat", str(i).encode(), limit_s=40).stdout for i in range(6)] == [
        str(i).encode() for i in range(6)
    ]


def test_a_link_is_closed_for_good_and_can_be_closed_twice(kind: Kind):
    used, unused = kind.open(), kind.open()
    assert used.run(b"cat", b"x", limit_s=40).stdout == b"x"
    for link in (used, unused):
        link.close()
        link.close()
        with pytest.raises(LinkError) as caught:
            link.run(b"cat", b"", limit_s=5)
        assert caught.value.away.cause == Cause.CUT
