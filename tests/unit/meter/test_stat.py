"""What /proc says of one process, whatever that process calls itself."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onbox.meter.stat import Io, io_of, kib_of, stat_of

TAIL = (
    b"S 7 42 42 0 -1 4194560 100 20 3 1 250 50 4 6 20 0 3 0 99123 10485760 2048 18446744073709551615 "
    b"4194304 4198400 140735 0 0 0 0 0 0 0 0 0 17 5 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)


def test_the_fields_of_a_line():
    found = stat_of(b"42 (python3) " + TAIL)
    page = os.sysconf("SC_PAGE_SIZE") // 1024
    assert found is not None
    assert (found.command, found.state, found.ppid, found.session) == (b"python3", b"S", 7, 42)
    assert (found.faults_cached, found.faults_disk, found.ticks, found.waited_ticks) == (120, 4, 300, 10)
    assert (found.threads, found.start_ticks, found.vms_kb, found.rss_kb) == (3, 99123, 10240, 2048 * page)
    assert (found.core, found.image, found.dead) == (5, b"4194304 140735", False)


@pytest.mark.parametrize(
    "command",
    [
        b"a b",
        b"(",
        b")",
        b") S 1 (",
        b"a) R 1 2 3 (b",
        b"x\ny",
        b"\t\x1b[31m\x07",
        b"\xff\xfe",
        b"",
        b"((()))",
    ],
)
def test_a_name_cannot_pass_for_other_fields(command):
    found = stat_of(b"42 (" + command + b") " + TAIL)
    assert found is not None
    assert found.command == command
    assert (found.state, found.ppid, found.start_ticks) == (b"S", 7, 99123)


@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_no_name_moves_a_field(command):
    found = stat_of(b"42 (" + command + b") " + TAIL)
    assert found is not None
    assert (found.command, found.ppid, found.rss_kb > 0) == (command, 7, True)


@given(st.binary(max_size=400))
def test_other_bytes_are_no_process(raw):
    assert stat_of(raw) is None or b"(" in raw


@pytest.mark.parametrize(
    "raw",
    [b"", b"42 (x", b"42 (x) ", b"42 (x) S 7", b"(x) " + TAIL, b"42 (x) " + TAIL.replace(b"S 7", b"S x")],
)
def test_a_torn_line_is_none(raw):
    assert stat_of(raw) is None


def test_who_waits_to_be_collected_is_dead_and_a_leader_with_threads_is_not():
    ended = stat_of(b"42 (x) " + TAIL.replace(b"S 7", b"Z 7").replace(b"20 0 3 0", b"20 0 1 0"))
    leader = stat_of(b"42 (x) " + TAIL.replace(b"S 7", b"Z 7"))
    assert ended is not None and ended.dead
    assert leader is not None and not leader.dead


def test_our_own_files_are_read():
    own = Path("/proc/self")
    found, counted = stat_of((own / "stat").read_bytes()), io_of((own / "io").read_bytes())
    assert found is not None and found.ppid == os.getppid() and found.rss_kb > 1000
    assert counted is not None and counted.rchar > 0
    assert (kib_of((own / "status").read_bytes(), b"VmHWM") or 0) >= found.rss_kb // 2


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (
            b"rchar: 1\nwchar: 2\nsyscr: 9\nsyscw: 9\nread_bytes: 3\nwrite_bytes: 4\ncancelled_write_bytes: 0\n",
            Io(1, 2, 3, 4),
        ),
        (b"", None),
        (b"rchar: 1\nwchar: 2\n", None),
        (b"rchar: x\nwchar: 2\nsyscr: 9\nsyscw: 9\nread_bytes: 3\nwrite_bytes: 4\n", None),
        (b"wchar: 1\nrchar: 2\nsyscr: 9\nsyscw: 9\nread_bytes: 3\nwrite_bytes: 4\n", None),
    ],
)
def test_io(raw, found):
    assert io_of(raw) == found


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"Name:\tx\nVmHWM:\t  1234 kB\nVmRSS:\t 9 kB\n", 1234),
        (b"Name:\tVmHWM: 5\nVmRSS:\t 9 kB\n", None),
        (b"\nVmHWM:", None),
        (b"\nVmHWM:\t-1 kB\n", None),
        (b"", None),
    ],
)
def test_a_figure_of_a_file_of_names(raw, found):
    assert kib_of(raw, b"VmHWM") == found
