"""From the sections of an answer to what was seen: one small module a family, all of them pure."""

from collections.abc import Sequence

from fleet.model.probe import BoxFacts, Loop, Reachable, RunFacts
from fleet.model.reading import Reading
from fleet.model.run import Run
from fleet.text.frame import Section
from patrol.readers import section as sectioned
from patrol.readers.artifacts import read_artifacts
from patrol.readers.broken import read_broken
from patrol.readers.disk import read_disks
from patrol.readers.gpu import read_gpus
from patrol.readers.log import read_log
from patrol.readers.loops import loops_of, read_loops
from patrol.readers.machine import (
    read_boot_id,
    read_box_id,
    read_clock,
    read_init,
    read_machine_id,
    read_uptime,
)
from patrol.readers.memory import read_memory
from patrol.readers.processes import read_alive, read_locks
from patrol.readers.records import (
    read_attempt,
    read_budget,
    read_end,
    read_exists,
    read_markers,
    read_stopping,
)
from patrol.readers.usage import read_usage


def read_probe(sections: Sequence[Section], runs: Sequence[Run], *, at: float, took_s: float) -> Reachable:
    """All that one answer shows of the box and of each of `runs`; `at` is host time of the answer.

    Raises ProbeUnreadable when the box did not tell its clock.
    """
    now = read_clock(next((section for section in sections if section.name == "clock"), None))
    answer = sectioned.index(tuple(sections), now)
    box = BoxFacts(
        now=now,
        boot_id=read_boot_id(answer.get("boot_id"), now),
        box_id=read_box_id(answer.get("box"), now),
        uptime_s=read_uptime(answer.get("clock"), now),
        disks=read_disks(answer.all("disk"), answer.all("inodes"), now),
        memory=read_memory(answer.get("memory"), now),
        gpus=read_gpus(answer.get("gpu"), now),
        machine_id=read_machine_id(answer.get("machine_id"), now),
        init_born=read_init(answer.get("init"), now),
    )
    loops = read_loops(answer.get("loops"), box.boot_id, now)
    return Reachable(box, {run.run_id: _run(answer, run, loops) for run in runs}, at, took_s, now - at)


def _run(answer: sectioned.Answer, run: Run, loops: Reading[tuple[Loop, ...]]) -> RunFacts:
    name, at = run.run_id, answer.at
    alive = read_alive(answer.get("alive", name), at)
    attempt = read_attempt(answer.get("attempt", name), run.nonce, at)
    return RunFacts(
        exists=read_exists(answer.get("exists", name), at),
        attempt=attempt,
        end=read_end(answer.get("end", name), run.nonce, at),
        markers=read_markers(answer.get("markers", name), answer.all("marker", name), run.nonce, at),
        locks=read_locks(answer.get("locks", name), at),
        alive=alive,
        log=read_log(answer.get("log", name), at),
        artifacts=read_artifacts(answer.all("artifact", name), len(run.spec.artifacts), at),
        stopping=read_stopping(answer.get("stopping", name), run.nonce, at),
        loops=loops_of(loops, run.tag, alive),
        broken=read_broken(answer.get("broken", name), run.tag, at),
        usage=read_usage(answer.get("usage", name), run, attempt, at),
        budget=read_budget(answer.get("budget", name), at),
    )
