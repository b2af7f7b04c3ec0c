"""Who waits: process identities, and one living waiter a run."""

import os
from pathlib import Path

from fleet.errors import Busy
from fleet.ledger.ledger import Ledger
from fleet.model.run import Run
from fleet.text.quote import sh
from fleet.text.say import ago


def identity(pid: int | None = None) -> str:
    """`PID START BOOT` of a process of this machine: a pid alone is never one. Empty when it is gone."""
    pid = os.getpid() if pid is None else pid
    try:
        born = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(") ")[2]
            .split()[19]
        )
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return _without_proc(pid)
    return f"{pid} {born} {boot}"


def _without_proc(pid: int) -> str:
    # A host without /proc (macOS): the pid is all there is, and a reused pid is the price.
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return f"{pid} - -"


def alive(known: str) -> bool:
    """Whether the very process with that identity still lives."""
    pid = known.partition(" ")[0]
    return pid.isdigit() and identity(int(pid)) == known


def line_up(ledger: Ledger, run: Run, *, deadline: float, now: float, supersede: bool) -> int:
    """Our place among the waiters of a run: the id to keep checking with `ours`.

    A waiter whose process is gone is taken off. With `supersede` the living ones are too, and they
    leave by themselves at their next turn. Raises Busy naming who waits already.
    """
    mine = ledger.waiters.register(run.run_id, identity(), deadline, now)
    for other in ledger.waiters.all(run.run_id):
        if other.id == mine:
            break
        if supersede or not alive(other.identity):
            ledger.waiters.drop(other.id)
            continue
        ledger.waiters.drop(mine)
        pid = other.identity.partition(" ")[0]
        raise Busy(
            f"pid {pid} waits for {run.run_id} already; it began {ago(now - other.at)}",
            where=run.run_id,
            next=(f"babysit watch {sh(run.box.name)} {sh(run.name)} --supersede",),
        )
    return mine


def ours(ledger: Ledger, run_id: str, waiter_id: int) -> bool:
    """Whether our place is still ours; it is not when a newer waiter superseded us."""
    return any(waiter.id == waiter_id for waiter in ledger.waiters.all(run_id))
