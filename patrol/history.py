"""What is remembered of a run from tick to tick, and how one more look changes it. Pure.

An advance is a new line of the log that is no heartbeat, an iteration of a loop, a newer artifact, a new
marker or a new attempt.
When it happened is known only as an upper bound (the file's own time), so a silence lasts at least as long
as we say.
"""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from fleet.model.probe import Attempt, LogSlice, Loop, Probe, RunFacts, Unreachable
from fleet.model.reading import Known
from fleet.model.run import Run
from fleet.model.usage import Usage
from fleet.model.verdict import Progress
from patrol.progress import LAST_LINES_KEPT, LOOP_UNIT, RANK, loop_progress, read_news
from patrol.seen_as import seen_as

_STEP_TIMES_KEPT = 15
_RECENT_KEPT = 20
_MEMORY_KEPT = 20
CLOCK_STEP_S = 60.0


class History(Struct, frozen=True):
    """Everything later ticks need of the earlier ones; stored as JSON. The defaults mean "never seen".

    `log_offset` is where the next slice begins (the start of an unfinished line), `log_size` how far
    the log was read. `advanced_at` is box time of the newest advance at the latest, `advanced_by` what
    it was. `breath_at` is box time of the newest log bytes that were heartbeats
    (or a bar drawn again) only, `bar` where the newest progress bar stood. `recent` are the
    last 20 step counts, oldest first. `crash_lines` and `oom_kills` count from this attempt's start.
    `machine_id` is the machine on which this attempt was first seen. `loop` is the living loop that was
    seen last, as its pid and iteration; None: there is none. `memory` are the newest looks at what watched
    stage `memory_of` holds, box time and bytes each, oldest first.
    `stood_at` is box time since when the newest heartbeat's counter has not moved, by its own word.
    `seen_as` is the newest look in a word; `facts_at` its host time, `skew_s` the box's clock then, and
    `booted_at` box time of its start by that clock.
    `looked` are host time, step count and size of the log when that was read last in this attempt,
    `before` the same of the time before.
    """

    attempt: int | None = None
    log_id: str | None = None
    log_offset: int = 0
    log_size: int = 0
    progress: Progress = Progress()
    advanced_at: float | None = None
    advanced_by: str | None = None
    breath_at: float | None = None
    artifact_at: float | None = None
    markers: int = 0
    last_line: str | None = None
    last_lines: tuple[str, ...] = ()
    bar: str | None = None
    step_times: tuple[float, ...] = ()
    recent: tuple[int, ...] = ()
    crash_lines: int = 0
    oom_base: int | None = None
    oom_kills: int = 0
    machine_id: str | None = None
    loop: tuple[int, int | None] | None = None
    stood_at: float | None = None
    memory_of: str | None = None
    memory: tuple[tuple[float, int], ...] = ()
    link_failures: int = 0
    link_since: float | None = None
    seen_as: str | None = None
    facts_at: float | None = None
    skew_s: float | None = None
    booted_at: float | None = None
    looked: tuple[float, int | None, int] | None = None
    before: tuple[float, int | None, int] | None = None


def fold(history: History, run: Run, probe: Probe, now: float) -> History:
    """`history` and one more look at `run`; `now` is host time."""
    if isinstance(probe, Unreachable):
        since = now if history.link_since is None else history.link_since
        return replace(history, link_failures=history.link_failures + 1, link_since=since)
    booted_at = probe.box.now - probe.box.uptime_s.value if isinstance(probe.box.uptime_s, Known) else None
    history = _clock_step(history, probe.skew_s, booted_at)
    history = replace(
        history,
        link_failures=0,
        link_since=None,
        facts_at=probe.at,
        skew_s=probe.skew_s,
        booted_at=booted_at,
    )
    facts = probe.runs.get(run.run_id)
    if facts is None:
        return history
    box_now = probe.box.now
    history = _attempt(history, facts, box_now)
    history = _markers(history, facts, box_now)
    history = _artifacts(history, facts, box_now)
    match facts.log:
        case Known(value=slice_):
            history = _log(history, run, slice_, box_now)
    match facts.loops:
        case Known(value=loops):
            history = _loop(history, loops, box_now)
    match facts.usage:
        case Known(value=Usage() as usage):
            history = _memory(history, usage)
    match probe.box.memory:
        case Known(value=memory) if memory.oom_kill_count is not None:
            base = memory.oom_kill_count if history.oom_base is None else history.oom_base
            history = replace(history, oom_base=base, oom_kills=max(0, memory.oom_kill_count - base))
    match probe.box.machine_id:
        case Known(value=machine_id) if history.machine_id is None:
            history = replace(history, machine_id=machine_id)
    if isinstance(facts.log, Known):
        looked = (probe.at, history.progress.index, history.log_size)
        history = replace(history, before=history.looked, looked=looked)
    return replace(history, seen_as=seen_as(facts) or history.seen_as)


def _clock_step(history: History, skew_s: float, booted_at: float | None) -> History:
    """All remembered box times moved along when the box's clock was set by more than a minute.

    Where that clock and the box's time since its start went on together, it was ours that was set.
    """
    step = skew_s - (skew_s if history.skew_s is None else history.skew_s)
    before = history.booted_at
    ours = before is not None and booted_at is not None and abs(booted_at - before) < CLOCK_STEP_S
    if abs(step) < CLOCK_STEP_S or ours:
        return history

    def moved(at: float | None) -> float | None:
        return None if at is None else at + step

    return replace(
        history,
        advanced_at=moved(history.advanced_at),
        breath_at=moved(history.breath_at),
        artifact_at=moved(history.artifact_at),
        stood_at=moved(history.stood_at),
        progress=replace(history.progress, last_step_at=moved(history.progress.last_step_at)),
        memory=tuple((at + step, held) for at, held in history.memory),
    )


def _advance(history: History, at: float, by: str, box_now: float) -> History:
    """The newest advance is at `at`, or was later already. A file's time in the future is taken as now."""
    at = min(at, box_now)
    if history.advanced_at is not None and history.advanced_at >= at:
        return history
    return replace(history, advanced_at=at, advanced_by=by)


def _attempt(history: History, facts: RunFacts, box_now: float) -> History:
    match facts.attempt:
        case Known(value=Attempt() as attempt) if attempt.number != history.attempt:
            fresh = replace(
                history,
                attempt=attempt.number,
                progress=Progress(),
                advanced_at=None,
                advanced_by=None,
                breath_at=None,
                last_line=None,
                last_lines=(),
                bar=None,
                step_times=(),
                crash_lines=0,
                oom_base=None,
                oom_kills=0,
                machine_id=None,
                loop=None,
                stood_at=None,
                memory_of=None,
                memory=(),
                looked=None,
            )
            return _advance(fresh, attempt.started_at, "attempt", box_now)
    return history


def _markers(history: History, facts: RunFacts, box_now: float) -> History:
    match facts.markers:
        case Known(value=markers) if len(markers) > history.markers:
            newest = max(marker.ended_at for marker in markers)
            return _advance(replace(history, markers=len(markers)), newest, "marker", box_now)
    return history


def _artifacts(history: History, facts: RunFacts, box_now: float) -> History:
    match facts.artifacts:
        case Known(value=(newest, *_)) if history.artifact_at is None or newest.mtime > history.artifact_at:
            return _advance(replace(history, artifact_at=newest.mtime), newest.mtime, "artifact", box_now)
    return history


def _log(history: History, run: Run, slice_: LogSlice, box_now: float) -> History:
    same = slice_.file_id == history.log_id and slice_.size_bytes >= history.log_size
    if same and slice_.size_bytes == history.log_size:
        return history
    from_ = history.log_offset if same else 0
    skipped = slice_.start > from_
    content = slice_.data
    began = content.rfind(b"== attempt %d of run " % history.attempt) if history.attempt else -1
    if began >= 0:  # what stands before it is of an earlier attempt
        content, skipped = content[began:], False
    news = read_news(content, run.spec.heartbeat, skip_first=skipped)
    whole = news.lines + news.heartbeats
    moved = news.bar is not None and news.bar != history.bar
    # A line without its end is judged when it has one, unless it grew through a whole tick: the cut half of a
    # heartbeat must not count as an advance. What is longer than a slice is no heartbeat either.
    grew = same and slice_.start == from_ < history.log_size and news.last_line is not None
    endless = skipped and not news.tail_bytes
    advanced = news.lines > 0 or moved or (whole == 0 and news.bar is None and (grew or endless))
    history = replace(
        history,
        log_id=slice_.file_id,
        log_size=slice_.size_bytes,
        log_offset=slice_.size_bytes - min(news.tail_bytes, slice_.size_bytes),
        last_line=news.last_line or history.last_line,
        last_lines=(*history.last_lines, *news.last_lines)[-LAST_LINES_KEPT:],
        crash_lines=history.crash_lines + news.crash_lines,
        bar=news.bar or history.bar,
    )
    at = min(slice_.mtime, box_now)
    if news.heartbeats:
        history = replace(history, stood_at=None if news.stood_s is None else at - news.stood_s)
    if not advanced:
        return replace(history, breath_at=at) if news.heartbeats or news.bar else history
    history = _advance(history, at, "log", box_now)
    return _step(history, news.progress, at) if news.progress else history


def _loop(history: History, loops: Sequence[Loop], box_now: float) -> History:
    """`history` with what the run's loops say: the first of them counts, and one that moves is an advance."""
    if not loops:
        left_s = None if history.progress.unit == LOOP_UNIT else history.progress.eta_s
        return replace(history, loop=None, progress=replace(history.progress, eta_s=left_s))
    first = loops[0]
    seen = (first.pid, first.iteration)
    moved = first.iteration is not None and seen != history.loop
    history = replace(history, loop=seen)
    if not moved:
        return history
    at = min(first.moved_at, box_now)
    return _step(_advance(history, at, "loop", box_now), loop_progress(first), at)


def _memory(history: History, usage: Usage) -> History:
    """`history` with one more look at what the watched stage of this attempt holds."""
    if usage.attempt != history.attempt or usage.end is not None or usage.held_bytes is None:
        return history
    looks = history.memory if history.memory_of == usage.stage else ()
    if looks and usage.at <= looks[-1][0]:
        return history
    kept = (*looks, (usage.at, usage.held_bytes))[-_MEMORY_KEPT:]
    return replace(history, memory_of=usage.stage, memory=kept)


def _step(history: History, new: Progress, at: float) -> History:
    """`history` at the step that was named. A finer unit than the known one only renews the values.

    What a loop said that is gone now gives way to any other.
    """
    old = history.progress
    gone = old.unit == LOOP_UNIT and history.loop is None
    if new.unit is None or (RANK[new.unit] < RANK.get(old.unit or "", 0) and not gone):
        return replace(history, progress=replace(old, values=new.values or old.values))
    if (new.unit, new.index) == (old.unit, old.index):
        return replace(
            history,
            progress=replace(
                old,
                total=new.total or old.total,
                values=new.values or old.values,
                usual_step_s=old.usual_step_s or new.usual_step_s,
                part=old.part if new.part is None else new.part,
            ),
        )
    times: Sequence[float] = history.step_times if new.unit == old.unit else ()
    same_count = new.unit == old.unit and new.index is not None and old.index is not None
    if same_count and old.last_step_at is not None and at > old.last_step_at:
        steps = (new.index or 0) - (old.index or 0)
        if steps > 0:
            times = (*times, (at - old.last_step_at) / steps)[-_STEP_TIMES_KEPT:]
    total = new.total or (old.total if new.unit == old.unit else None)
    recent = (*history.recent, new.index)[-_RECENT_KEPT:] if new.index is not None else history.recent
    progress = replace(
        new,
        total=total,
        values=new.values or old.values,
        last_step_at=at,
        usual_step_s=median(times) if times else new.usual_step_s,
    )
    return replace(history, progress=progress, step_times=tuple(times), recent=recent)
