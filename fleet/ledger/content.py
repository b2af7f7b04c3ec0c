"""What the JSON columns hold, and the two ways in which a row can be wrong: rotten, or strange to us."""

from typing import Any

import msgspec

from fleet.model.run import Run
from fleet.model.spec import BoxSpec, TargetSpec
from fleet.model.verdict import Severity, Verdict

Row = dict[str, Any]
Kinds = dict[tuple[str, str], Any]

# By table and column; those that only the patrol knows are added by who knows them.
CONTENT: Kinds = {
    ("run", "content"): Run,
    ("box", "content"): BoxSpec,
    ("target", "content"): TargetSpec,
    ("verdict", "content"): Verdict,
    ("event", "verdict"): Verdict | None,
}
_BAD = (msgspec.MsgspecError, ValueError, TypeError)  # ValueError: bytes that are no text


def rotten(table: str, row: Row, kinds: Kinds) -> str:
    """Why nobody could ever have written `row` like that; empty when somebody could."""
    for column, value in row.items():
        if (table, column) not in kinds or value is None:
            continue
        try:
            found = msgspec.json.decode(value)
        except _BAD as error:
            return f"{column}: {error}"
        if table == "run" and (not isinstance(found, dict) or found.get("run_id") != row.get("run_id")):
            return f"{column}: of another run"
    return ""


def strange(table: str, row: Row, kinds: Kinds) -> str:
    """Why this babysit cannot read `row`; a newer one may have written it. Empty when it can."""
    for column, value in row.items():
        kind = kinds.get((table, column))
        if kind is None or (value is None and kind == Verdict | None):
            continue
        try:
            msgspec.json.decode(value, type=kind)
        except _BAD as error:
            return f"{column}: {error}"
    if table == "event" and row.get("severity") not in set(Severity):
        return "severity: not one of ours"
    return ""


def is_json(content: Any) -> bool:
    """Whether it is JSON at all, of whatever kind."""
    try:
        msgspec.json.decode(content)
    except _BAD:
        return False
    return True
