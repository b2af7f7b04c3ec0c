"""What was armed on a box, read back: for a host that never saw it, or that lost the race to arm it."""

import re
from typing import Any, get_args

import msgspec
from msgspec import Struct

from fleet.arming.ask import Answer, ask, checked_name
from fleet.arming.code import decode_code
from fleet.errors import ProbeUnreadable
from fleet.link.base import Link
from fleet.model.run import Code
from fleet.model.spec import NAME_PATTERN, Leftovers, RunSpec, Stage
from fleet.text.boxjson import from_box

_FRAGMENTS = ("frame", "ground", "read_run")
_LIMIT_S = 20.0
_FRAME_BYTES = 4096  # what a frame adds to its contents
_RUN_BYTES_MAX = 464 * 1024  # spec.json 256 KiB, plan 64 KiB, code.json 64 KiB, and the rest
SPEC_BYTES_MAX = 256 * 1024
_NONCE = re.compile(r"[0-9a-f]{32}\n")
_TOO_LONG = 27  # read_run.sh: the file is longer than it may be
_DIGITS_MAX = 6
PLAN_FORMAT = "1"
_NUMBER = re.compile(r"\d{1,6}")
_STAGE = re.compile(rf"(\d\d-[A-Za-z0-9._-]{{1,64}}) (\d{{1,19}}) ({'|'.join(get_args(Leftovers))}) ([01])")
_PLAN_KEYS = {"format", "run", "run_id", "tag", "chain", "onbox", "python", "lockdir", "cwd", "spec_digest"}
_CHAIN = re.compile(r"chain-[0-9a-f]{8}\.sh")
_TAG_END = re.compile(r"-[0-9a-f]{16}")


class FoundRun(Struct, frozen=True):
    """One run as its folder on the box describes it. Paths are the box's; None where the plan says `-`.

    `owner` is the run id that has the run's name now: another one when this run was superseded, None
    when nobody has it.
    `stages` are the plan's stage lines: `NN-NAME`, limit mark in KiB, leftovers rule, strict. `code` is what
    its last start ran, None where it was armed before that was written down, or where it is damaged. `loops`
    is the folder in which its stages' loops are listed, None where that is as ever.
    """

    run_id: str
    owner: str | None
    folder: str
    tag: str
    chain: str
    onbox: str | None
    python: str | None
    lock_dir: str | None
    cwd: str | None
    spec_digest: str
    stages: tuple[tuple[str, int, str, bool], ...]
    nonce: str
    budget: int
    spec: RunSpec
    code: Code | None = None
    loops: str | None = None

    @property
    def run(self) -> str:
        """The run's name."""
        return self.spec.name


class LogTail(Struct, frozen=True):
    """A piece of a run's log: `data` begins at offset `start` of a file of `size` bytes.

    NUL bytes are dropped, so that `data` may be shorter than what it covers.
    """

    data: bytes
    start: int
    size: int


def read_run(
    link: Link, *, state_dir: str | None, run_name_or_id: str, limit_s: float = _LIMIT_S, where: str = ""
) -> FoundRun | None:
    """The run that has this name, or this id; None when the box knows neither.

    Raises NotFound when the name's owner has lost its folder, ProbeUnreadable for records that are
    damaged, too long or contradict each other, LinkError.
    """
    where = where or run_name_or_id
    name = checked_name(run_name_or_id, what="run name or id")
    pairs = [("act", "run"), ("state", state_dir or "-"), ("run", name)]
    answer = ask(link, _FRAGMENTS, pairs, where=where, limit_s=limit_s, max_bytes=_RUN_BYTES_MAX)
    if answer.get("id") is None:
        return None
    plan, stages = _plan(_text(answer, "plan"), where)
    spec = decode_spec(_content(answer, "spec"), where=where)
    kept = answer.get("code")
    code = decode_code(kept.content) if kept is not None and kept.status == 0 else None
    spec = msgspec.structs.replace(spec, code=code.globs if code else ())
    run_id = answer.must("id").text
    known = re.fullmatch(NAME_PATTERN, run_id) and plan["run_id"] == run_id and plan["run"] == spec.name
    tagged = plan["tag"].startswith(run_id) and _TAG_END.fullmatch(plan["tag"][len(run_id) :])
    if not known or not tagged or not _CHAIN.fullmatch(plan["chain"]):
        raise ProbeUnreadable(f"the records of {run_id[:64]!r} contradict each other", where=where)
    nonce, budget = _text(answer, "nonce"), _text(answer, "budget").strip()
    if not _NONCE.fullmatch(nonce) or not budget.isdecimal() or len(budget) > _DIGITS_MAX:
        raise ProbeUnreadable(f"the nonce or the budget of {run_id} is damaged", where=where)
    return FoundRun(
        run_id=run_id,
        owner=answer.word("owner"),
        folder=answer.must("folder").text,
        tag=plan["tag"],
        chain=plan["chain"],
        onbox=_or_none(plan["onbox"]),
        python=_or_none(plan["python"]),
        lock_dir=_or_none(plan["lockdir"]),
        cwd=_or_none(plan["cwd"]),
        spec_digest=plan["spec_digest"],
        stages=stages,
        nonce=nonce.strip(),
        budget=int(budget),
        spec=spec,
        code=code,
        loops=plan.get("loops") or None,
    )


def list_runs(link: Link, *, state_dir: str | None, where: str, limit_s: float = _LIMIT_S) -> tuple[str, ...]:
    """The names of all runs on the box, sorted. Raises ProbeUnreadable, LinkError."""
    pairs = [("act", "names"), ("state", state_dir or "-")]
    answer = ask(link, _FRAGMENTS, pairs, where=where, limit_s=limit_s)
    section = answer.get("names")
    return tuple(sorted(section.text.split())) if section else ()


def tail_log(
    link: Link,
    *,
    state_dir: str | None,
    run_id: str,
    max_bytes: int,
    from_byte: int | None = None,
    limit_s: float = _LIMIT_S,
) -> LogTail:
    """At most `max_bytes` of the run's log: its end, or what follows offset `from_byte`.

    Costs the same for a log of any length. Raises NotFound when there is no such run or no log yet,
    ProbeUnreadable when the log is no plain file, LinkError.
    """
    pairs = [
        ("act", "log"),
        ("state", state_dir or "-"),
        ("id", checked_name(run_id, what="run id")),
        ("max", str(max(0, max_bytes))),
        ("from", "-" if from_byte is None else str(max(0, from_byte))),
    ]
    answer = ask(link, _FRAGMENTS, pairs, where=run_id, limit_s=limit_s, max_bytes=max_bytes + _FRAME_BYTES)
    size, start = answer.must("size").text, answer.must("start").text
    if not size.isdecimal() or not start.isdecimal():
        raise ProbeUnreadable("the log has no size", where=run_id)
    return LogTail(answer.must("log").content, int(start), int(size))


def decode_spec(content: bytes, *, where: str) -> RunSpec:
    """spec.json as the RunSpec it was made from; a key that we do not know is passed over.

    Raises ProbeUnreadable for anything else.
    """
    document = from_box(content, dict[str, Any], max_bytes=SPEC_BYTES_MAX, where=where, what="spec.json")
    try:
        spec = msgspec.convert(_known(document), RunSpec, strict=True)
    except msgspec.ValidationError as error:
        raise ProbeUnreadable(f"spec.json on the box is not a run: {error}", where=where) from None
    names = (spec.name, *(stage.name for stage in spec.stages))
    if not spec.stages or not all(re.fullmatch(NAME_PATTERN, name) for name in names):
        raise ProbeUnreadable("spec.json on the box names a run or a stage as none can be named", where=where)
    return spec


def _known(content: dict[str, Any]) -> dict[str, Any]:
    """The same without the keys of a younger babysit."""
    stages = content.get("stages")
    kept = {key: value for key, value in content.items() if key in RunSpec.__struct_fields__}
    if isinstance(stages, list):
        kept["stages"] = [
            {key: value for key, value in stage.items() if key in Stage.__struct_fields__}
            if isinstance(stage, dict)
            else stage
            for stage in stages
        ]
    return kept


def _text(answer: Answer, name: str) -> str:
    try:
        return _content(answer, name).decode()
    except UnicodeDecodeError:
        raise ProbeUnreadable(f"the file {name} of the run is no text", where=answer.where) from None


def _content(answer: Answer, name: str) -> bytes:
    section = answer.must(name)
    if section.status == _TOO_LONG:
        raise ProbeUnreadable(f"the file {name} of the run is longer than it can be", where=answer.where)
    if section.status != 0:
        raise ProbeUnreadable(f"the file {name} of the run cannot be read", where=answer.where)
    return section.content


def _plan(content: str, where: str) -> tuple[dict[str, str], tuple[tuple[str, int, str, bool], ...]]:
    """The plan's fields and its stage lines. Raises ProbeUnreadable for another format, or a damaged one."""
    fields: dict[str, str] = {}
    stages = []
    for line in content.removesuffix("\n").split("\n"):  # a folder may be named with U+2028
        key, equals, value = line.partition("=")
        if key == "stage":
            stages.append(_stage(value, where))
        elif not equals or key in fields:
            raise ProbeUnreadable(f"a line of the plan on the box is damaged: {line[:80]!r}", where=where)
        else:
            fields[key] = value
    found = fields.get("format", "")
    if _NUMBER.fullmatch(found) and int(found) > int(PLAN_FORMAT):
        raise ProbeUnreadable(
            f"armed by a newer babysit: the plan on the box has format {found}, this one reads {PLAN_FORMAT}",
            where=where,
            hint="nothing was touched; update babysit here, or use the machine that armed it",
            next=("babysit --version",),
        )
    if found != PLAN_FORMAT:
        raise ProbeUnreadable(
            f"the plan on the box has format {found[:20]!r}, not {PLAN_FORMAT}", where=where
        )
    missing = sorted(_PLAN_KEYS - fields.keys())
    if missing or not stages:
        raise ProbeUnreadable(f"the plan on the box lacks {', '.join(missing or ['stages'])}", where=where)
    return fields, tuple(stages)


def _stage(value: str, where: str) -> tuple[str, int, str, bool]:
    match = _STAGE.fullmatch(value)
    if match is None:
        raise ProbeUnreadable(f"a stage of the plan on the box is damaged: {value[:80]!r}", where=where)
    name, mark_kib, leftovers, strict = match.groups()
    return name, int(mark_kib), leftovers, strict == "1"


def _or_none(value: str) -> str | None:
    return None if value == "-" else value
