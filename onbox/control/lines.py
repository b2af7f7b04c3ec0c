"""The lines of a queue as runtimectl 0.1.0 writes and reads them; pure."""

import hashlib
import json
import re
import uuid
from typing import Any, Dict, List, Optional

from onbox.wire.state import plain

MAX_LINE = 1 << 20  # bytes; a longer line is rejected, ours are not written
TEXT = 200  # characters of a value that JSON has no word for
ERROR = 4000  # characters of an error
_DIGITS = 4300  # of a whole number; Python's own limit from 3.11 on
# Control characters that JSON may hold as they are, but on which a reader splits lines or a terminal acts.
_ODD = re.compile("[\x7f-\x9f\u2028\u2029]")

Command = Dict[str, Any]
Ack = Dict[str, Any]


def dumped(document: Any, indent: Optional[int] = None) -> str:
    """`document` on one line, non-ASCII as it is but for what ends a line. Raises TypeError, ValueError."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return _ODD.sub(lambda found: "\\u%04x" % ord(found.group()), text)


def encoded(document: Any) -> bytes:
    """`document` as a line of the file, half of a surrogate pair escaped. Raises TypeError, ValueError."""
    return dumped(document).encode("utf-8", "backslashreplace") + b"\n"


def command(
    path: str,
    args: List[Any],
    kwargs: Dict[str, Any],
    *,
    op: str,
    now: float,
    expires: Optional[float] = None,
) -> Command:
    """A new command in the order of 0.1.0; `expires` (Unix time) is ours and stands after it."""
    document = {"id": str(uuid.uuid4()), "ts": now, "op": op, "path": path, "args": args, "kwargs": kwargs}
    return document if expires is None else {**document, "expires": expires}


def parsed(line: bytes) -> Command:
    """The command in `line`; what is no JSON object gets a fresh id and the op `invalid`, as 0.1.0 has it."""
    try:
        document = json.loads(line.decode("utf-8"), parse_int=_whole)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return {"id": str(uuid.uuid4()), "op": "invalid", "path": ""}
    return document


def named(document: Command) -> bool:
    """Whether the command brings an id of its own."""
    return bool(document.get("id"))


def key(identity: Any) -> bytes:
    """16 bytes that stand for an id of any JSON type."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode("ascii")).digest()[:16]


def file_name(identity: Any) -> str:
    """An id as the name of a file: itself where that is safe, else a hash."""
    if isinstance(identity, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", identity):
        return identity
    return key(identity).hex()


def begun(document: Command, now: float) -> Ack:
    """The first keys of the acknowledgement, in the order of 0.1.0. A command without an id gets one."""
    identity = document.get("id") or str(uuid.uuid4())
    return {"id": identity, "ts": now, "path": document.get("path"), "op": document.get("op", "set")}


def applied(start: Ack, args: Any, kwargs: Any) -> Ack:
    """The acknowledgement of a command that took effect with these values."""
    return {**start, "status": "applied", "args": jsonable(args), "kwargs": jsonable(kwargs)}


def refused(start: Ack, error: str) -> Ack:
    """The acknowledgement of a command that was not tried."""
    return {**start, "status": "rejected", "error": error[:ERROR]}


def failed(start: Ack, error: str) -> Ack:
    """The acknowledgement of a command that was tried, or may have been."""
    return {**start, "status": "failed", "error": error[:ERROR]}


def why_not(document: Command, controls: Any) -> Optional[str]:
    """Why 0.1.0 rejects the command, in its words and its order; None where it does not."""
    if not isinstance(document.get("args", []), list):
        return "command args must be a list"
    if not isinstance(document.get("kwargs", {}), dict):
        return "command kwargs must be an object"
    op, path = document.get("op", "set"), document.get("path")
    if op != "set":
        return "unsupported op: %s" % (op,)
    if not isinstance(path, str) or path not in controls:
        return "unknown path: %s" % (path,)
    return None


def expired(document: Command, now: float, limit_s: Optional[float]) -> Optional[str]:
    """Why the command is too old at `now` (Unix time); None where it is not, or does not say its time."""
    given, until = _number(document.get("ts")), _number(document.get("expires"))
    if until is not None and now > until:
        return "expired: %.0f s past the limit it was given" % (now - until)
    if limit_s is not None and given is not None and now - given > limit_s:
        return "expired: given %.0f s ago, more than %g s" % (now - given, limit_s)
    return None


def reason(error: BaseException) -> str:
    """What `error` says, as 0.1.0 writes it; its kind where it says nothing or cannot."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an exception of the program's own may fail at anything
        said = ""
    return said or type(error).__name__


def jsonable(value: Any) -> Any:
    """`value` itself where it is JSON of bounded size, else as far as it is, the rest as text."""
    try:
        text = json.dumps(value, default=plain)
        if len(text) > MAX_LINE:
            return _text(value)
        return json.loads(text)
    except Exception:  # noqa: BLE001 - the value is the program's own; looking at it may fail at anything
        return _text(value)


def _text(value: Any) -> str:
    try:
        return repr(value)[:TEXT]
    except Exception:  # noqa: BLE001 - as above
        return "a %s" % type(value).__name__


def _number(value: Any) -> Optional[float]:
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("a whole number of %d digits" % len(digits))
    return int(digits)
