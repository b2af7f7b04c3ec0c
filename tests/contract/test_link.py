"""What every link promises, asked of each kind in the same words."""

import hashlib
import os
import resource
import time
from pathlib import Path

import pytest
from sshd import command_line, descendants
from waiting import wait_until

from fleet.errors import LinkError, LinkTimeout
from fleet.link.address import resolve
from fleet.link.base import Link
from fleet.link.local import LocalLink
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec


@pytest.fixture(params=["local", pytest.param("ssh", marks=pytest.mark.box)])
def opened(request, tmp_path):
    """A function that opens a new link, and one that lists what runs at its far end."""
    if request.param == "local":

        def ours():
            return {pid: command_line(pid) for pid in descendants(os.getpid()) if command_line(pid)}

        before = set(ours())
        yield LocalLink, lambda: {pid: line for pid, line in ours().items() if pid not in before}
        return
    from fleet.link import ssh

    box = request.getfixturevalue("box")
    (Path(os.environ["HOME"]) / ".ssh").mkdir()
    (Path(os.environ["HOME"]) / ".ssh/config").write_text(box.ssh_config_text("gpu1"))
    address = resolve(BoxSpec("gpu1", "gpu1"))

    yield lambda: ssh.connect(address, box_name="gpu1", pinned=None, limit_s=15), box.processes


@pytest.fixture
def link(opened):
    with opened[0]() as link:
        yield link


@pytest.fixture
def running(opened):
    return opened[1]


def test_an_answer_comes_back_byte_for_byte(link: Link):
    every_byte = bytes(range(256)) * 800  # 200 KiB
    reply = link.run(b"cat", every_byte, limit_s=15)
    assert (reply.status, reply.stdout, reply.over) == (0, every_byte, False)


def test_script_and_request_do_not_run_into_each_other(link: Link):  # R6 D5
    script = b'IFS= read -r first; printf \'%s|\' "$first" "it\'s \\$HOME `echo ok`"; cat\n'
    reply = link.run(script, b"one $(id) `id` 'x'\ntwo\n", limit_s=15)
    assert reply.stdout == b"one $(id) `id` 'x'|it's $HOME ok|two\n"


@pytest.mark.parametrize("status", [0, 1, 7, 127, 255])
def test_the_exit_status_is_carried(link: Link, status: int):  # R12 D4
    reply = link.run(f"echo out; echo err >&2; exit {status}".encode(), b"", limit_s=15)
    assert (reply.status, reply.stdout, reply.stderr) == (status, b"out\n", b"err\n")


def test_a_script_that_reads_nothing_answers_all_the_same(link: Link):
    assert link.run(b"exec <&-; echo done", b"x" * 3_000_000, limit_s=15).stdout == b"done\n"


def test_stderr_is_kept_to_its_start_and_never_blocks(link: Link):
    reply = link.run(b"head -c 5000000 /dev/zero | tr '\\0' e >&2; echo out", b"", limit_s=20)
    assert (reply.status, reply.stdout, reply.stderr) == (0, b"out\n", b"e" * 4096)


def test_a_large_request_meets_a_large_answer_without_deadlock(link: Link):
    request = os.urandom(6_000_000)
    reply = link.run(b"cat", request, limit_s=40, max_bytes=10_000_000)
    assert hashlib.sha256(reply.stdout).digest() == hashlib.sha256(request).digest()
    assert reply.status == 0


def test_output_beyond_the_bound_is_neither_kept_nor_waited_for(link: Link, running):  # S22
    memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    reply = link.run(b"head -c 100000000 /dev/zero; echo end", b"", limit_s=30, max_bytes=65536)
    assert (reply.over, len(reply.stdout), reply.status) == (True, 65536, -1)
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib < 30_000
    wait_until(lambda: not any("head" in line for line in running().values()), 5, "the writer has ended")


def test_exactly_the_bound_is_not_over(link: Link):
    reply = link.run(b"head -c 65536 /dev/zero", b"", limit_s=15, max_bytes=65536)
    assert (reply.over, len(reply.stdout), reply.status) == (False, 65536, 0)


@pytest.mark.parametrize(
    "script",
    [
        b"sleep 300",
        b"while :; do echo x; sleep 1; done",
        b"exec >&- 2>&-; sleep 300",
        b"trap '' TERM; while :; do sleep 1; done",
        b"(sleep 300) & (sleep 300) | cat; wait",
        b"cat; sleep 300",
    ],
    ids=["silent", "drips", "closes its output", "ignores TERM", "has children", "after reading"],
)
def test_the_limit_holds_whatever_the_command_does(opened, script: bytes):  # R3 D3 D13
    connect, running = opened
    before = set(running())
    began = time.monotonic()
    with connect() as link:
        visited = time.monotonic()
        with pytest.raises(LinkTimeout) as caught:
            link.run(script, b"request\n" * 1000, limit_s=1.2)
        assert 1.1 < time.monotonic() - visited < 2.7
    assert caught.value.away.cause == Cause.TIMEOUT_COMMAND
    assert caught.value.away.transient
    assert caught.value.exit_code == 11
    wait_until(lambda: not set(running()) - before, 9, f"nothing is left: {running()}")
    assert time.monotonic() - began < 14


def test_many_runs_on_one_link(link: Link):
    assert [link.run(b"cat", str(i).encode(), limit_s=15).stdout for i in range(20)] == [
        str(i).encode() for i in range(20)
    ]


def test_a_link_can_be_closed_twice(opened):
    link = opened[0]()
    link.close()
    link.close()


def test_a_process_killed_by_a_signal_never_counts_as_fine(link: Link):
    try:
        reply = link.run(b"kill -9 $$", b"", limit_s=10)
    except LinkError as error:
        assert error.away.cause == Cause.CUT  # noqa: PT017
    else:
        assert reply.status not in (0, None)
