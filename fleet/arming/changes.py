"""In what one job differs from another of the same name, line by line. Pure."""

import difflib
from collections.abc import Iterator

from fleet.model.spec import RunSpec, Stage

_LINES_MAX = 24


def job_changes(old: RunSpec, new: RunSpec) -> tuple[str, ...]:
    """What `new` does otherwise than `old`: folder, stages, commands; `-` was, `+` would be.

    At most 25 lines. Thresholds do not count: they may change without making another run. `old` may be a
    box's text.
    """
    lines = list(_changes(old, new))
    more = len(lines) - _LINES_MAX
    return tuple(lines) if more <= 0 else (*lines[:_LINES_MAX], f"and {more} more lines")


def _changes(old: RunSpec, new: RunSpec) -> Iterator[str]:
    if old.cwd != new.cwd:
        yield "  folder"
        yield from (f"    - {old.cwd or '~'}", f"    + {new.cwd or '~'}")
    before, after = {stage.name: stage for stage in old.stages}, {stage.name: stage for stage in new.stages}
    for name in dict.fromkeys((*before, *after)):
        was, is_now = before.get(name), after.get(name)
        if was == is_now:
            continue
        yield f"  stage {name}"
        yield from _sides(_text(was), _text(is_now))
    kept = [name for name in before if name in after], [name for name in after if name in before]
    if kept[0] != kept[1]:
        yield "  order of the stages"
        yield from (f"    - {' && '.join(before)}", f"    + {' && '.join(after)}")


def _text(stage: Stage | None) -> list[str]:
    if stage is None:
        return []
    rules = [f"leftovers = {stage.leftovers}", f"strict = {str(stage.strict).lower()}"]
    return [*stage.command.splitlines(), *rules]


def _sides(was: list[str], is_now: list[str]) -> Iterator[str]:
    for line in difflib.ndiff(was, is_now):
        if line[:2] in ("- ", "+ "):
            yield f"    {line[:2]}{line[2:]}"
