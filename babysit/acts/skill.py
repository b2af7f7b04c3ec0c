"""The Agent Skill: our rules for a coding agent, with verbs and codes from where they are defined."""

import contextlib
import difflib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from fleet.errors import EXIT_CODES, NotFound, UsageError

NAME = "babysit"
AS_OF = "2026-11"  # when the paragraphs about the hosts were checked
# Where each host looks for a project's skills. Source: agentskills.io and the hosts' own pages, 2026-11.
FOLDERS = {"claude": ".claude/skills", "codex": ".agents/skills"}
_MOST_SHOWN = 40


class Verb(Struct, frozen=True):
    """One command as the skill lists it: what it `does` (its capability), `may` in words, its help `line`."""

    name: str
    does: str
    may: str
    line: str


class Written(Struct, frozen=True):
    """What became of the file. `was` is new, same, replaced or kept; `differs` how ours differs from it."""

    path: Path
    was: str
    differs: tuple[str, ...] = ()


def text(host: str, verbs: Iterable[Verb]) -> str:
    """The whole SKILL.md for one host."""
    from fleet.text.fill import Raw, fill_markdown  # noqa: PLC0415 - jinja2 is slow to import

    # Our own constants, for a reader of the plain text: escapes would stand in its way.
    shown = [Verb(*(Raw(word) for word in (verb.name, verb.does, verb.may, verb.line))) for verb in verbs]
    codes = [(code, Raw(meaning)) for code, meaning in EXIT_CODES.items()]
    as_of = Raw(AS_OF)
    binding = Raw(fill_markdown(f"skill/{host}.md", as_of=as_of).strip())
    return fill_markdown(
        "skill/SKILL.md", name=NAME, host=host, as_of=as_of, binding=binding, verbs=shown, codes=codes
    )


def write(host: str, project: Path, verbs: Iterable[Verb], *, force: bool) -> Written:
    """The skill in its place below `project`. A file that differs is kept, unless `force`.

    Raises NotFound when there is no such folder, UsageError when it cannot be written.
    """
    if not project.is_dir():
        raise NotFound(f"no folder {project}", where=str(project))
    path = project / FOLDERS[host] / NAME / "SKILL.md"
    ours = text(host, verbs)
    try:
        theirs = path.read_bytes().decode("utf-8", "replace") if path.exists() else None
        if theirs == ours:
            return Written(path, "same")
        lines = tuple(_differs(theirs, ours)) if theirs is not None else ()
        if theirs is not None and not force:
            return Written(path, "kept", lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, ours)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
    return Written(path, "new" if theirs is None else "replaced", lines)


def _differs(theirs: str, ours: str) -> Iterable[str]:
    lines = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), "there", "ours", n=0, lineterm="")
    for number, line in enumerate(lines):
        if number == _MOST_SHOWN:
            yield "(and more)"
            return
        yield line


def _replace(path: Path, content: str) -> None:
    """Old or new, never half."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(handle, "wb") as file:  # noqa: PTH123 - the handle was opened so that no link is followed
            file.write(content.encode())
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
