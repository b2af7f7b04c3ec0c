"""TOML tables to frozen values, or every mistake in them with key path and hint. Pure."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fleet.errors import SpecError, UsageError
from fleet.model.spec import (
    CHECKPOINT_SIGNALS,
    NAME_PATTERN,
    SIGNAL_PREFIX,
    BoxSpec,
    RunSpec,
    Spec,
    Stage,
    TargetSpec,
)
from fleet.text.say import plural

SECTIONS: dict[str, type[msgspec.Struct]] = {"box": BoxSpec, "run": RunSpec, "notify": TargetSpec}
NAME_RULE = "letters, digits, dot, dash, underscore; a letter or digit first; at most 64"
_HOST = re.compile(r"[A-Za-z0-9_:][^\s\x00-\x1f\x7f\[\]]*")
_QUOTES = "\"'"
_SECTION_LINE = re.compile(r"""^[ \t]*\[(box|run|notify)\.("[^"]+"|'[^']+'|[^\]"'.]+)\]""", re.MULTILINE)


def decode(text: str, path: str) -> Spec:
    """The whole spec of one file's text.

    Raises SpecError with all problems, each as `key.path: what (hint)`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} is not valid TOML", where=path, problems=(str(error),)) from None
    problems: list[str] = []
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for section, entries in tables.items():
        if section not in SECTIONS:
            problems.append(f"{section}: no such section{_meant(section, SECTIONS)}")
        elif not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            problems.append(f"{section}: write it as [{section}.NAME]")
        else:
            for name, entry in entries.items():
                value = _entry(
                    SECTIONS[section], f"{section}.{name}", {**_implied(section, name), **entry}, problems
                )
                if value is not None:
                    found[section][name] = value
    problems += _across(found["run"])
    if problems:
        raise SpecError(
            f"{path} has {plural(len(problems), 'mistake')}", where=path, problems=tuple(problems)
        )
    found_at = _SECTION_LINE.finditer(text)
    lines = {f"{m[1]}.{m[2].strip(_QUOTES)}": text.count("\n", 0, m.start()) + 1 for m in found_at}
    return Spec(path, found["box"], found["run"], found["notify"], lines)


def bare_box(name: str) -> BoxSpec:
    """A box that no file describes: the name is an alias of the user's ssh_config."""
    return BoxSpec(name=name, host=name)


def bare_run(name: str, box: str, command: str) -> RunSpec:
    """A run given as `arm BOX RUN -- CMD`: one stage of the run's own name.

    Raises UsageError for a command with bytes that are no text.
    """
    try:
        command.encode()
    except UnicodeEncodeError:
        what = "the command is no UTF-8; records cannot hold it"
        hint = "write it in UTF-8, or into a script on the box and arm that"
        raise UsageError(what, where=name, hint=hint) from None
    return RunSpec(name=name, box=box, stages=(Stage(name=name, command=command),))


def is_name(text: str) -> bool:
    """Whether `text` is a name by the one grammar."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def meant(word: str, known: Mapping[str, object]) -> str | None:
    """The known name that `word` was probably meant to be."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)), None)


def _implied(section: str, name: str) -> dict[str, Any]:
    return {"name": name, "host": name} if section == "box" else {"name": name}


def _entry(shape: type[msgspec.Struct], path: str, table: dict[str, Any], problems: list[str]) -> Any:
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    found = len(problems)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            of_stage = shape is RunSpec and key in Stage.__struct_fields__
            hint = f" (hint: it belongs to a stage, below [[{path}.stages]])" if of_stage else ""
            problems.append(f"{path}.{key}: no such key{hint or _meant(key, fields)}")
        elif key == "stages" and shape is RunSpec:
            values[key] = tuple(_stages(f"{path}.stages", value, problems))
        else:
            try:
                values[key] = msgspec.convert(value, fields[key].type)
            except msgspec.ValidationError as error:
                problems.append(f"{path}.{key}: {_said(error, key)}")
    problems += [
        f"{path}.{field.name}: missing{_HINTS.get(field.name, '')}"
        for field in fields.values()
        if field.required and field.name not in table
    ]
    problems += _within(shape, path, values)
    return shape(**values) if len(problems) == found else None


def _stages(path: str, tables: Any, problems: list[str]) -> Iterator[Stage]:
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{path}: needs one or more stages{_HINTS['stages']}")
        return
    seen: list[object] = []
    for number, table in enumerate(tables, 1):
        stage = _entry(Stage, f"{path}[{number}]", table, problems)
        name = table.get("name")
        if name in seen and name is not None:
            problems.append(f"{path}[{number}].name: {name!r} is there twice; markers are kept by name")
        seen.append(name)
        if stage is not None:
            yield stage


def _within(shape: type[msgspec.Struct], path: str, values: dict[str, Any]) -> Iterator[str]:
    if shape is BoxSpec and not _HOST.fullmatch(str(values.get("host", "x"))):
        yield f"{path}.host: {values['host']!r} is no host name (no spaces, brackets or leading dash)"
    if shape is Stage and not str(values.get("command", "x")).strip():
        yield f"{path}.command: is empty"
    for key in ("cwd", "state_dir", "lock_dir", "ipc_link", "loops", "command", "checkpoint"):
        value = str(values.get(key, ""))
        if "\0" in value or (key not in ("command", "checkpoint") and "\n" in value):
            yield f"{path}.{key}: holds a character that no path or command can hold"
    for key in ("ipc_link", "loops"):
        if not str(values.get(key, "/")).startswith(("/", "~/")):
            yield f"{path}.{key}: must be an absolute folder of the box, or begin with ~/"
    kind, _, file = str(values.get("url", "")).partition(":")
    if kind == "file" and not file.startswith(("/", "~/")):
        yield f"{path}.url: the file's path must be absolute or begin with ~/ (a tick may run in any folder)"
    yield from _checkpoint(path, values)
    for key in ("artifacts", "results", "heartbeat", "code"):
        if any("\n" in item or "\0" in item or not item for item in values.get(key, ())):
            yield f"{path}.{key}: an entry is empty or holds a line break"


def _checkpoint(path: str, values: dict[str, Any]) -> Iterator[str]:
    checkpoint = values.get("checkpoint")
    if checkpoint is None:
        return
    if not checkpoint.strip():
        yield f"{path}.checkpoint: is empty"
    kind, _, name = checkpoint.partition(":")
    if f"{kind}:" != SIGNAL_PREFIX:
        return
    if name not in CHECKPOINT_SIGNALS:
        yield f"{path}.checkpoint: {name!r} is no signal for it (known: {', '.join(CHECKPOINT_SIGNALS)})"
    if not values.get("artifacts"):
        yield f"{path}.artifacts: missing; what a signal saves is seen by a file that changes"


def _across(runs: Mapping[str, RunSpec]) -> Iterator[str]:
    for run in runs.values():
        if run.box is not None and not is_name(run.box):
            yield f"run.{run.name}.box: {run.box!r} is no box name ({NAME_RULE})"


def _said(error: msgspec.ValidationError, key: str) -> str:
    text = str(error).partition(" - at ")[0]
    return (
        f"is no name ({NAME_RULE})"
        if "matching regex" in text and key == "name"
        else text + _HINTS.get(key, "")
    )


_HINTS = {
    "stages": ' (hint: [[run.NAME.stages]] with name = "train" and command = "python train.py")',
    "url": ' (hint: a reference, "env:NAME", "file:PATH", "cmd:PROGRAM"; never the address itself)',
    "command": " (hint: the line you would type on the box)",
}


def _meant(word: str, known: Mapping[str, object]) -> str:
    close = meant(word, known)
    return f" (did you mean {close}?)" if close else f" (known: {', '.join(known)})"
