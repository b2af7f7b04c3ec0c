"""What the ledger's `content` columns hold, frozen: field names, types and defaults of every value in them.

`python tests/unit/ledger/test_stored.py > tests/data/stored.txt` writes the frozen text anew, once the change
has what it needs: a new field a default, any other change a migration that rewrites what lies there.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from fleet.ledger import schema
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, TargetSpec
from fleet.model.verdict import Verdict
from patrol.history import History
from patrol.incidents import Incident

FROZEN = Path(__file__).parents[2] / "data/stored.txt"
STORED: dict[str, type] = {
    "box.content": BoxSpec,
    "event.verdict": Verdict,
    "history.content": History,
    "incidents.content": Incident,
    "run.content": Run,
    "target.content": TargetSpec,
    "verdict.content": Verdict,
}


def text() -> str:
    """The whole of it: a line a column, then one a field, each type below the one that needs it first."""
    roots = dict.fromkeys(STORED.values())
    lines = [f"ledger format {schema.VERSION}"]
    lines += [f"{column}: {kind.__name__}" for column, kind in sorted(STORED.items())]
    done: set[type] = set()
    waiting = list(roots)
    while waiting:
        kind = waiting.pop(0)
        if kind in done:
            continue
        done.add(kind)
        lines.append("")
        info = inspect.type_info(kind)
        if isinstance(info, inspect.EnumType):
            lines.append(f"{kind.__name__}: {' '.join(sorted(str(member.value) for member in kind))}")
            continue
        assert isinstance(info, inspect.StructType)
        tag = f" {info.tag_field}={info.tag}" if info.tag_field else ""
        lines.append(f"{kind.__name__}{tag}{' closed' if info.forbid_unknown_fields else ''}")
        for field in info.fields:
            needed: list[type] = []
            shape = _shape(field.type, needed)
            lines.append(f"  {field.encode_name}: {shape}{_default(field)}")
            waiting += needed
    return "\n".join(lines) + "\n"


def _shape(info: Any, needed: list[type]) -> str:
    def of(each: Any) -> str:
        return _shape(each, needed)

    match info:
        case inspect.UnionType(types=types):
            found = " | ".join(sorted(map(of, types)))
        case inspect.StructType(cls=cls) | inspect.EnumType(cls=cls):
            needed.append(cls)
            found = str(cls.__name__)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            found = f"[{of(item)}, ...]"
        case inspect.TupleType(item_types=items):
            found = f"[{', '.join(map(of, items))}]"
        case inspect.DictType(key_type=key, value_type=value):
            found = f"{{{of(key)}: {of(value)}}}"
        case inspect.LiteralType(values=values):
            found = " | ".join(sorted(map(repr, values)))
        case _:
            found = _plain(info)
    return found


def _plain(info: Any) -> str:
    name = type(info).__name__.removesuffix("Type").lower()
    limits = [
        f"{key} {value}"
        for key in ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length")
        if (value := getattr(info, key, None)) is not None
    ]
    return f"{name}({', '.join(limits)})" if limits else name


def _default(field: Any) -> str:
    if field.required:
        return ""
    made = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f" = {msgspec.json.encode(made).decode()}"


def test_what_is_stored_changes_only_on_purpose():
    assert text() == FROZEN.read_text(), (
        "values in the ledger changed their shape: an older file must still be read. Give a new field a "
        "default, or append a migration to fleet/ledger/schema.py; then write tests/data/stored.txt anew "
        "(the docstring of this file says how)"
    )


def test_every_column_with_a_blob_is_frozen():
    blobs = set()
    for script in schema.MIGRATIONS:
        for statement in script.split("CREATE TABLE ")[1:]:
            body = statement.split(");")[0]
            blobs |= {
                f"{statement.split()[0]}.{part.split()[0]}"
                for part in body.split("(", 1)[1].split(",")
                if " BLOB" in part
            }
    assert blobs == set(STORED)


if __name__ == "__main__":
    print(text(), end="")
