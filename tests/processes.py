"""What /proc says of processes: whose they are, what they were told, whether they live."""

from pathlib import Path


def pids() -> list[int]:
    """Every process there is now."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def of(pid: int, what: str) -> bytes:
    """/proc/PID/WHAT, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: state, parent, group, session, terminal; [] when gone."""
    return of(pid, "stat").rpartition(b")")[2].decode().split()


def lives(pid: int) -> bool:
    """Whether it is there and no zombie."""
    return stat(pid)[:1] not in ([], ["Z"])


def children(pid: int) -> list[int]:
    """The living whose parent is `pid`."""
    return [each for each in pids() if stat(each)[1:2] == [str(pid)] and lives(each)]
