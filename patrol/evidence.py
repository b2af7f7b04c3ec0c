"""What was seen, source by source, behind every verdict; what could not be read is said as well. Pure."""

from collections.abc import Iterator

from fleet.model.probe import BoxFacts
from fleet.model.reading import Known, Missing
from fleet.model.verdict import Evidence
from fleet.text.say import ago, duration, plural, size
from patrol.case import Case
from patrol.loop_words import kind_of
from patrol.says import Words, full_words
from patrol.usage import evidence_says

_STATES = frozenset({"done", "failed", "stopped"})


def evidence(case: Case) -> tuple[Evidence, ...]:
    """Everything worth knowing of this look; no text of the box in it. Times are host times."""
    if case.away:
        return tuple(_link(case))
    return tuple(
        [*_records(case), *_liveness(case), *_log(case), *_since(case), *_loops(case), *_usage(case)]
        + [*_artifacts(case)]
        + ([*_boot(case, case.box), *_room(case, case.box), *_gpu(case, case.box)] if case.box else [])
    )


def _seen(case: Case, source: str, says: str) -> Evidence:
    return Evidence(source, case.probe.at, says)


def _link(case: Case) -> Iterator[Evidence]:
    words = Words(case)
    yield _seen(case, "link", f"{words.cause}; {plural(case.history.link_failures, 'look')} in a row failed")
    if case.history.facts_at is not None:
        yield Evidence("last facts", case.history.facts_at, words.last_seen)


def _records(case: Case) -> Iterator[Evidence]:
    facts = case.facts
    for source, reading in (("attempt", facts.attempt), ("end", facts.end), ("markers", facts.markers)):
        if isinstance(reading, Missing):
            yield _seen(case, source, f"not read: {reading.why}")
    if case.attempt:
        yield _seen(case, "attempt", f"attempt {case.attempt.number}, started {ago(case.age_s)}")
    if case.end:
        state = case.end.state if case.end.state in _STATES else "an unknown state"
        yield _seen(case, "end", f"{state}, {ago(case.box_now - case.end.ended_at)}")
    if case.broken_off:
        left = f"{ago(case.box_now - case.broken_off.ended_at)}, with status {case.broken_off.exit_code}"
        yield _seen(case, "loop's end", f"broken off by request, {left}")
    if case.stop_asked:
        yield _seen(case, "stopping", Words(case).stop_asked)
    if isinstance(facts.markers, Known):
        stages = len(case.run.spec.stages)
        yield _seen(case, "markers", f"{len(facts.markers.value)} of {plural(stages, 'stage')} ended well")


def _liveness(case: Case) -> Iterator[Evidence]:
    match case.facts.locks:
        case Known(value=locks):
            chain, stage = ("held" if held else "free" for held in (locks.chain_held, locks.stage_held))
            yield _seen(case, "locks", f"chain lock {chain}, stage lock {stage}")
        case Missing(why=why):
            yield _seen(case, "locks", f"not read: {why}")
    match case.facts.alive:
        case Known(value=alive):
            found = f": {Words(case).alive}" if alive else ""
            yield _seen(case, "processes", f"{len(alive)} alive{found}")
        case Missing(why=why):
            yield _seen(case, "processes", f"not read: {why}")


def _log(case: Case) -> Iterator[Evidence]:
    history = case.history
    match case.facts.log:
        case Known(value=log):
            yield _seen(case, "log", f"{size(log.size_bytes)}, last written {ago(case.box_now - log.mtime)}")
        case Missing(why=why):
            yield _seen(case, "log", f"not read: {why}")
    if history.advanced_at is not None:
        yield _seen(case, "advance", f"newest one {ago(case.silent_s)}, by {history.advanced_by}")
    if history.breath_at is not None and case.breathing:
        stood = f"; its counter moved {Words(case).stood}" if Words(case).stood else ""
        seen = ago(case.box_now - history.breath_at)
        yield _seen(case, "heartbeat", f"{seen}: a process, but no progress{stood}")
    if history.crash_lines:
        yield _seen(
            case, "crash lines", f"{plural(history.crash_lines, 'line')} of the log since the attempt began"
        )


def _since(case: Case) -> Iterator[Evidence]:
    """How far it came since the look before this one: nothing new is said as 0, with the time it took."""
    if case.history.before is None or isinstance(case.facts.log, Missing):
        return
    at, index, log_size = case.history.before
    now, grown = case.history.progress, case.history.log_size - log_size
    said = [f"{size(grown)} of log"] if grown >= 0 else []  # else it was rotated
    if now.index is not None and index is not None and now.index >= index:
        said.insert(0, plural(now.index - index, now.unit or "step"))
    if said:
        over = duration(case.probe.at - at)
        yield _seen(case, "since the last look", f"{' and '.join(said)} more in {over}")


def _loops(case: Case) -> Iterator[Evidence]:
    match case.facts.loops:
        case Known(value=(first, *_) as loops):
            moved = f"the first moved {ago(case.box_now - first.moved_at)}"
            whose = "" if first.kind == "onbox" else f" of {kind_of(first.kind)}"
            how = "paused" if first.paused else moved
            yield _seen(case, "loops", f"{plural(len(loops), 'loop')}{whose}, {how}")
        case Missing(why=why):
            yield _seen(case, "loops", f"not read: {why}")


def _usage(case: Case) -> Iterator[Evidence]:
    for says in evidence_says(case):
        yield _seen(case, "usage", says)


def _artifacts(case: Case) -> Iterator[Evidence]:
    if not case.run.spec.artifacts:
        return
    match case.facts.artifacts:
        case Known(value=(newest, *_)):
            yield _seen(
                case, "artifacts", f"newest {ago(case.box_now - newest.mtime)}, {size(newest.size_bytes)}"
            )
        case Known():
            yield _seen(case, "artifacts", "none yet")
        case Missing(why=why):
            yield _seen(case, "artifacts", f"not read: {why}")


def _room(case: Case, box: BoxFacts) -> Iterator[Evidence]:
    match box.disks:
        case Known(value=disks):
            for disk in disks:
                yield _seen(case, "disk", f"{full_words(case, disk)}, {size(disk.free_bytes)} free")
        case Missing(why=why):
            yield _seen(case, "disk", f"not read: {why}")
    match box.memory:
        case Known(value=memory) if memory.limit_bytes:
            pct = 100 * memory.used_bytes / memory.limit_bytes
            yield _seen(
                case, "memory", f"{size(memory.used_bytes)} of {size(memory.limit_bytes)} ({pct:.0f} %)"
            )
        case Known(value=memory):
            yield _seen(case, "memory", f"{size(memory.used_bytes)}, no limit")
        case Missing(why=why):
            yield _seen(case, "memory", f"not read: {why}")
    if case.history.oom_kills:
        yield _seen(case, "memory", Words(case).oom)


def _boot(case: Case, box: BoxFacts) -> Iterator[Evidence]:
    if isinstance(box.boot_id, Missing):
        yield _seen(case, "boot id", f"not read: {box.boot_id.why}")
    elif case.rebooted:
        yield _seen(
            case, "boot id", f"another one than attempt {case.attempt.number if case.attempt else 0}'s"
        )
    if case.restarted:
        yield _seen(case, "first process", "younger than the attempt: the container was started anew")
    if isinstance(box.uptime_s, Known) and case.rebooted:
        yield _seen(case, "uptime", duration(box.uptime_s.value))


def _gpu(case: Case, box: BoxFacts) -> Iterator[Evidence]:
    match box.gpus:
        case Known(value=gpus) if gpus:
            used = sum(gpu.mem_used_bytes for gpu in gpus)
            yield _seen(case, "gpu", f"{Words(case).gpu}, {size(used)} of memory used")
        case Missing(why=why):
            yield _seen(case, "gpu", f"not read: {why}")
