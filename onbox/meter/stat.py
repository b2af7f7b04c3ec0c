"""What /proc says of one process, read from the bytes of its files. Pure."""

import os
from typing import NamedTuple, Optional

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NS_PER_TICK = 1_000_000_000 // TICKS_PER_S
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_LAST_FIELD = 36  # proc(5) field 39, counted behind the command's closing bracket


class Stat(NamedTuple):
    """One process at one moment; `ticks` are those of the clock (sysconf), `image` changes with every exec.

    Faults count those of children that were waited for, as the kernel counts IO. `waited_ticks` is the CPU of
    such children, which `ticks` does not hold.
    """

    command: bytes
    state: bytes
    ppid: int
    session: int
    faults_cached: int
    faults_disk: int
    ticks: int
    waited_ticks: int
    threads: int
    start_ticks: int
    vms_kb: int
    rss_kb: int
    core: int
    image: bytes

    @property
    def dead(self) -> bool:
        """Whether it has ended and waits to be collected; a leader whose threads go on has not."""
        return self.state in {b"Z", b"X", b"x"} and self.threads <= 1


class Io(NamedTuple):
    """What a process read and wrote, in bytes, with the children it waited for."""

    rchar: int = 0
    wchar: int = 0
    read_bytes: int = 0
    write_bytes: int = 0


def stat_of(raw: bytes) -> Optional[Stat]:
    """The process that /proc/PID/stat tells of; None for bytes that are not such a line.

    The command stands in brackets and may hold brackets, spaces and newlines itself: the last one closes it.
    Source: proc(5), fields 2 to 39.
    """
    opened, closed = raw.find(b"("), raw.rfind(b")")
    words = raw[closed + 1 :].split()
    if not 0 < opened < closed or len(words) <= _LAST_FIELD:
        return None
    try:
        return Stat(
            raw[opened + 1 : closed],
            words[0],
            int(words[1]),
            int(words[3]),
            int(words[7]) + int(words[8]),
            int(words[9]) + int(words[10]),
            int(words[11]) + int(words[12]),
            int(words[13]) + int(words[14]),
            int(words[17]),
            int(words[19]),
            int(words[20]) >> 10,
            int(words[21]) * _PAGE_KB,
            int(words[36]),
            words[23] + b" " + words[25],  # where its code and its stack begin
        )
    except ValueError:
        return None


def io_of(raw: bytes) -> Optional[Io]:
    """The counters of /proc/PID/io; None for bytes that do not hold them. Source: proc(5)."""
    words = raw.split()
    try:
        if words[0] != b"rchar:" or words[8] != b"read_bytes:":
            return None
        return Io(int(words[1]), int(words[3]), int(words[9]), int(words[11]))
    except (IndexError, ValueError):
        return None


def kib_of(raw: bytes, name: bytes) -> Optional[int]:
    """The figure of the line `name: N` in a file of such (status, smaps_rollup); None where there is none."""
    at = raw.find(b"\n" + name + b":")
    words = raw[at + len(name) + 2 : at + len(name) + 40].split()
    if at < 0 or not words or not words[0].isdigit():
        return None
    return int(words[0])
