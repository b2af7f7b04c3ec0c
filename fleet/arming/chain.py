"""A run's files as they will lie on its box: the generated chain, its plan, its stages. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fleet.arming.ask import checked_name
from fleet.arming.code import CODE_FILE, encode_code
from fleet.errors import UsageError
from fleet.model.run import Run
from fleet.model.spec import SIGNAL_PREFIX, RunSpec, Stage
from fleet.text.fill import fill_sh

MAX_STAGES = 99
CHECKPOINT_FILE = "checkpoint.sh"
_PLAN_FORMAT = 1
# What spec.json of format 1 had from its first day: a babysit of that day reads these keys and refuses
# others. A younger key is written only where its owner set it.
_SPEC_KEYS = frozenset(
    {"name", "stages", "box", "cwd", "artifacts", "results", "heartbeat", "stall_after_s", "start_grace_s"}
    | {"budget"}
)
_STAGE_KEYS = frozenset({"name", "command", "leftovers", "strict"})
# A soft RSS limit has no effect since Linux 2.4.30 (getrlimit(2)). Nobody sets one above 1 PiB, so that
# a run's own odd number up there is a mark. Source: tests/integration/chain.
_PIB_KIB = 1 << 40
_MARK_STEP = 256  # room for MAX_STAGES odd numbers


class BoxPlan(Struct, frozen=True):
    """What the box offers a run: where its records lie, and what it can use there.

    `lockdir` is `-` for the run's own folder, else a folder on a local disk in which the run gets one of
    its own. `python` and `onbox` are absolute paths; without both no supervisor tells signals apart.
    """

    state_dir: str
    lockdir: str = "-"
    python: str | None = None
    onbox: str | None = None


class ChainFiles(Struct, frozen=True):
    """`files` maps a path inside the run's folder to its bytes. All of them may be 0600."""

    chain_name: str
    files: dict[str, bytes]


def render(run: Run, plan: BoxPlan) -> ChainFiles:
    """All files of `run`, ready to be placed. The same run and plan always give the same bytes.

    Raises UsageError for names that cannot be file names and for values that do not stay on their line.
    """
    checked_name(run.run_id, what="run id")
    stages = stage_ids(run.spec.stages)
    text = fill_sh("chain.sh", run_id=run.run_id, stages=stages).encode()
    name = f"chain-{hashlib.sha256(text).hexdigest()[:8]}.sh"
    files = {
        "plan": _plan(run, plan, name, stages),
        "spec.json": spec_file(run.spec),
        "budget": f"{run.spec.budget}\n".encode(),
        "nonce": f"{run.nonce}\n".encode(),
        name: text,
    }
    for stage_id, stage in zip(stages, run.spec.stages, strict=True):
        files[f"stages/{stage_id}.sh"] = _command(stage)
    if run.code is not None:
        files[CODE_FILE] = encode_code(run.code)
    checkpoint = checkpoint_file(run.spec)
    if checkpoint is not None:
        files[CHECKPOINT_FILE] = checkpoint
    return ChainFiles(name, files)


def stage_ids(stages: Sequence[Stage]) -> tuple[str, ...]:
    """`01-prepare`, `02-train` …: the names of markers and stage files, which keep the stages' order.

    Raises UsageError for no stage, more than 99, or a name that cannot be part of a file name.
    """
    if not 1 <= len(stages) <= MAX_STAGES:
        raise UsageError(f"a chain has 1 to {MAX_STAGES} stages, not {len(stages)}")
    return tuple(
        f"{number:02}-{checked_name(stage.name, what='stage name')}"
        for number, stage in enumerate(stages, start=1)
    )


def checkpoint_file(spec: RunSpec) -> bytes | None:
    """The file that a stop runs first: the owner's line as written; None where it is a signal, or nothing."""
    line = spec.checkpoint
    if line is None or line.startswith(SIGNAL_PREFIX):
        return None
    return _command(Stage(CHECKPOINT_FILE, line))


def tag_of(run_id: str, nonce: str) -> str:
    """What a run's processes carry in their environment; it does not give the nonce away."""
    return f"{run_id}-{_hash(nonce)[:16]}"


def marks_of(nonce: str, stages: Sequence[str]) -> tuple[int, ...]:
    """One number of KiB a stage, odd and above 1 PiB, that no other run or stage has; at most 2^45."""
    base = _PIB_KIB + int(_hash(nonce)[-9:], 16) * _MARK_STEP
    return tuple(base + 2 * index + 1 for index in range(len(stages)))


def _hash(nonce: str) -> str:
    return hashlib.sha256(nonce.encode()).hexdigest()


def digest_of(spec: RunSpec) -> str:
    """What makes two jobs of one name the same job: stages and folder, not thresholds. 16 hex digits.

    Format 1 fixed what counts: a field that a stage gets later must not make every old run another job.
    """
    stages = [_keyed(stage, _STAGE_KEYS, rest=False) for stage in spec.stages]
    return hashlib.sha256(msgspec.json.encode((stages, spec.cwd))).hexdigest()[:16]


def spec_file(spec: RunSpec) -> bytes:
    """spec.json. The globs of `code` stand in the code's own file, which an older babysit does not read."""
    content = _keyed(msgspec.structs.replace(spec, code=()), _SPEC_KEYS, rest=True)
    content["stages"] = [_keyed(stage, _STAGE_KEYS, rest=True) for stage in spec.stages]
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _keyed(value: RunSpec | Stage, keys: frozenset[str], *, rest: bool) -> dict[str, Any]:
    """The fields among `keys`, in their order; with `rest` also those others that are not as by default."""
    return {
        field.name: getattr(value, field.name)
        for field in msgspec.structs.fields(value)
        if field.name in keys or (rest and getattr(value, field.name) != field.default)
    }


def _plan(run: Run, plan: BoxPlan, chain_name: str, stages: Sequence[str]) -> bytes:
    lockdir = plan.lockdir if plan.lockdir == "-" else f"{plan.lockdir.rstrip('/')}/{run.run_id}"
    pairs = [
        ("format", str(_PLAN_FORMAT)),
        ("run", run.name),
        ("run_id", run.run_id),
        ("tag", run.tag),
        ("chain", chain_name),
        ("onbox", plan.onbox or "-"),
        ("python", plan.python or "-"),
        ("lockdir", lockdir),
        ("cwd", run.spec.cwd or "-"),
        ("spec_digest", run.spec_digest),
    ]
    for stage_id, stage, mark in zip(stages, run.spec.stages, marks_of(run.nonce, stages), strict=True):
        pairs.append(("stage", f"{stage_id} {mark} {stage.leftovers} {int(stage.strict)}"))
    watched = [stage_id for stage_id, stage in zip(stages, run.spec.stages, strict=True) if stage.monitor]
    if watched:
        # One line for all of them: an older reader refuses a key that comes twice, a stage's apart.
        pairs.append(("monitor", " ".join(watched)))
    if run.box.loops is not None:
        pairs.append(("loops", run.box.loops))
    for key, value in pairs:
        if not value or any(char in value for char in "\n\r\0"):
            raise UsageError(f"not a value that fits on one line: {key} = {value!r}", where=run.name)
    return "".join(f"{key}={value}\n" for key, value in pairs).encode("utf-8", "surrogateescape")


def _command(stage: Stage) -> bytes:
    """The stage's file: its command as written, with the newline that ends a text file."""
    if "\0" in stage.command:
        raise UsageError("a command cannot hold a NUL character", where=stage.name)
    end = "" if stage.command.endswith("\n") else "\n"
    return f"{stage.command}{end}".encode("utf-8", "surrogateescape")
