"""What a run used of its box, as the tool there summed it up: believed within bounds, as a document. Pure."""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from fleet.errors import BabysitError, NotFound, ProbeUnreadable
from fleet.model.run import Run
from fleet.steering.answers import unreadable
from fleet.steering.call import Called
from fleet.steering.says import harmless
from fleet.text.boxjson import from_box
from fleet.text.quote import sh
from fleet.text.untrusted import render_untrusted
from onbox.usage.remarks import remarks

SCHEMA = "babysit.usage/1"
_TOOLS = "onbox.usage/1"
_MAX_BYTES = 256 * 1024
_SHOWN, _NOTHING = 0, 3
_STATE = "~/.local/state/babysit"
_TEXTS = frozenset({"stage", "file", "metadata", "summary"})
_END_TEXTS = frozenset({"left_running", "monitor_errors"})
Number = int | float
Spread = tuple[Number, Number, Number]


class Bucket(Struct, frozen=True):
    """A stretch of time: `[lowest, mean, highest]` of what was measured in it; None: it was not."""

    at_ms: int
    samples: int
    cpu_pct: Spread | None = None
    memory_bytes: Spread | None = None
    gpu_pct: Spread | None = None
    gpu_memory_bytes: Spread | None = None
    io_bytes_s: Spread | None = None
    processes: Spread | None = None


class Chart(Struct, frozen=True):
    """The buckets of one attempt. `from_ms`: only what came after it was asked for."""

    attempt: int | None
    from_ms: int | None
    width_ms: int
    out_of_order: int
    buckets: tuple[Bucket, ...]


class Oom(Struct, frozen=True):
    """The kernel's count of such kills before and after."""

    before: int | None
    after: int | None
    scope: Literal["cgroup", "machine"] | None


class Left(Struct, frozen=True):
    """A process that ran on."""

    pid: int | None
    command: str | None


class End(Struct, frozen=True):
    """The end record; all that is None was not told."""

    at_ms: int | None
    exit_code: int | None
    signal: int | None
    core_dumped: bool
    killed_by: Literal["user", "timeout", "oom", "unknown"] | None
    oom: Oom | None
    left_running: tuple[Left, ...]
    left_running_count: int
    monitor_errors: tuple[str, ...]
    max_rss_exact: bool
    wall_s: Number | None
    utime_s: Number | None
    stime_s: Number | None
    max_rss_kb: Number | None
    max_rss_floor_kb: Number | None
    minflt: Number | None
    majflt: Number | None
    nvcsw: Number | None
    nivcsw: Number | None
    rchar: Number | None
    wchar: Number | None
    read_bytes: Number | None
    write_bytes: Number | None
    samples_taken: Number | None
    samples_dropped: Number | None
    monitor_cpu_s: Number | None


class Metadata(Struct, frozen=True):
    """What was started, and where."""

    pid: int | None
    command: tuple[str, ...]
    host: str | None
    interval_ms: tuple[int | None, ...]


class Phase(Struct, frozen=True):
    """One stage in one attempt, or one file. `alive` None: nobody can tell; `exit` None: no end record."""

    stage: str | None
    attempt: int | None
    file: str
    drawn: bool
    bytes: int
    samples: int
    damaged: int
    torn: bool
    started_ms: int | None
    last_ms: int | None
    alive: bool | None
    metadata: Metadata
    wall_s: Number | None
    cpu_mean_pct: Number | None
    cpu_peak_pct: Number | None
    memory_peak_bytes: Number | None
    memory_limit_bytes: Number | None
    cgroup_peak_bytes: Number | None
    rising_since_ms: int | None
    memory_peak_at_ms: int | None
    gpus: int
    gpu_mean_pct: Number | None
    gpu_memory_peak_bytes: Number | None
    read_bytes: Number
    write_bytes: Number
    processes_peak: Number | None
    exit: End | None
    summary: dict[str, Number | None] | None


class Profile(Struct, frozen=True):
    """The whole answer; texts in it are the box's."""

    schema: str
    now_ms: int
    left_out: int
    phases: tuple[Phase, ...]
    chart: Chart


class _Why(Struct, frozen=True):
    code: str
    what: str


class _Refusal(Struct, frozen=True):
    schema: str
    error: _Why


class Wish(Struct, frozen=True):
    """What is asked for: a run, or a file on the box; None: all stages and attempts, all of the time."""

    run: Run | None
    file: str | None = None
    stage: str | None = None
    attempt: int | None = None
    last_s: float | None = None

    def words(self) -> tuple[str, ...]:
        """The tool's command line; what was typed is the value of an option, or comes after `--`."""
        flags = [] if self.stage is None else [f"--stage={self.stage}"]
        flags += [] if self.attempt is None else [f"--attempt={self.attempt}"]
        flags += [] if self.last_s is None else [f"--last={self.last_s:g}"]
        return ("usage", "--json", *flags, "--", self._place())

    def _place(self) -> str:
        if self.run is None:
            return _from_home(self.file or "")
        state = _from_home(self.run.box.state_dir or _STATE)
        return f"{state}/runs/{self.run.run_id}"


def _from_home(path: str) -> str:
    return path if path.startswith(("/", "~/")) or path == "~" else f"~/{path}"


def profile_of(called: Called, wish: Wish, *, box: str) -> Profile:
    """What was answered. Raises NotFound where there is nothing to show, ProbeUnreadable."""
    if called.status not in (_SHOWN, _NOTHING) or not called.printed.startswith(b"{"):
        raise unreadable(called, box)
    kind: type[Profile | _Refusal] = Profile if called.status == _SHOWN else _Refusal
    found: Profile | _Refusal = from_box(
        called.printed, kind, max_bytes=_MAX_BYTES, where=box, what="its answer"
    )
    if found.schema != _TOOLS:
        raise ProbeUnreadable("its answer is of another kind than was asked for", where=box)
    if isinstance(found, _Refusal):
        raise _nothing(found.error, wish, box)
    return found


def _nothing(why: _Why, wish: Wish, box: str) -> BabysitError:
    if wish.run is None:
        hint = "a path is seen from the home folder on the box"
        error = NotFound(f"{wish.file} on {box} shows nothing", where=box, hint=hint)
        error.untrusted = (why.what,)
        return error
    name, stages = wish.run.name, wish.run.spec.stages
    typed = f"{sh(box)} {sh(name)}"
    match why.code:
        case "no-run" | "not-there":
            return NotFound(
                f"the folder of run {name} is gone from {box}", where=name, next=("babysit status",)
            )
        case "not-monitored":
            edit = f'in babysit.toml, under name = "{stages[-1].name}" of [run.{name}]: monitor = true'
            what = f"no stage of {name} is watched, so that nobody counted what it used"
            return NotFound(what, where=name, hint=f"{edit}; it holds from the next arm on")
        case "no-file":
            watched = ", ".join(stage.name for stage in stages if stage.monitor)
            what = f"no watched stage of {name} ({watched}) has begun yet"
            return NotFound(what, where=name, next=("babysit patrol --once", f"babysit logs {typed}"))
        case "no-match":
            error = NotFound(
                f"{name} has no such stage and attempt", where=name, next=(f"babysit usage {typed}",)
            )
        case _:
            error = NotFound(f"what {name} used on {box} cannot be read", where=name)
    error.untrusted = (why.what,)
    return error


def numbers(found: Profile) -> dict[str, Any]:
    """The answer as plain values, every text in it harmless: what the words and curves are made of."""
    plain: dict[str, Any] = harmless(msgspec.to_builtins(found))
    return plain


def document(found: Profile, wish: Wish, *, box: str, took_s: float) -> dict[str, Any]:
    """The one JSON document, schema babysit.usage/1; what the box wrote stands in `untrusted_` fields."""
    plain = numbers(found)
    known = (
        {f"{at:02d}-{stage.name}": stage.name for at, stage in enumerate(wish.run.spec.stages, 1)}
        if wish.run
        else {}
    )
    return {
        "schema": SCHEMA,
        "ok": True,
        "exit_code": 0,
        "box": box,
        "run": wish.run.name if wish.run else None,
        "id": wish.run.run_id if wish.run else None,
        "file": render_untrusted(wish.file) if wish.file else None,
        "took_s": round(took_s, 3),
        "box_now_ms": plain["now_ms"],
        "left_out": plain["left_out"],
        "phases": [_phase(phase, known.get(str(phase["stage"]))) for phase in plain["phases"]],
        "chart": plain["chart"],
        "untrusted_says": list(remarks(plain)),
        "next": [],
    }


def _phase(phase: dict[str, Any], stage: str | None) -> dict[str, Any]:
    end = phase["exit"]
    return {
        "stage": stage,
        **_marked(phase, _TEXTS),
        "exit": None if end is None else _marked(end, _END_TEXTS),
    }


def _marked(values: dict[str, Any], texts: frozenset[str]) -> dict[str, Any]:
    return {f"untrusted_{key}" if key in texts else key: value for key, value in values.items()}
