"""JSON that a box wrote: read only within bounds, and only as the type that was expected."""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fleet.errors import ProbeUnreadable

MAX_DEPTH = 32
MAX_DIGITS = 18  # what a 64-bit number holds; more is no count, size or time of ours

T = TypeVar("T")
# Half of a pair is how Python writes a byte that is no UTF-8: nothing of ours could be written with it.
_PAIR_OR_HALF = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# A string without an end goes to the end of all: were it looked for again at each quote in it, the time would
# be its length squared.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def from_box(
    content: bytes, kind: type[T], *, max_bytes: int, where: str, what: str, odd_numbers: bool = False
) -> T:
    """`content` as a `kind`. `what` names the document in the message.

    Raises ProbeUnreadable when it is longer than `max_bytes`, nested deeper than `MAX_DEPTH`, holds a key
    twice, a number of more than `MAX_DIGITS` digits or none that JSON knows, or is no `kind`. With
    `odd_numbers` such a number is text, as it was written: a program may track what it likes. Text that no
    UTF-8 can write has U+FFFD in it.
    """
    number, real, constant = (_or_text(_number), _or_text(_float), str) if odd_numbers else _STRICT
    try:
        _bound(content, max_bytes)
        document = json.loads(
            # Of bytes it would take UTF-16 too, in which no bracket was counted.
            _PAIR_OR_HALF.sub(_whole, content).decode(),
            object_pairs_hook=_no_key_twice,
            parse_int=number,
            parse_float=real,
            parse_constant=constant,
        )
        return msgspec.convert(document, kind, strict=True)
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise ProbeUnreadable(f"{what} cannot be used: {error}", where=where) from None


def _bound(content: bytes, max_bytes: int) -> None:
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes} bytes")
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(content):
        if found[0] in (b"[", b"{"):
            depth += 1
        elif found[0] in (b"]", b"}"):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _whole(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _number(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a number in it has more than {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > 2 * MAX_DIGITS or value in (float("inf"), float("-inf")):
        raise ValueError("a number in it is out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _or_text(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(digits: str) -> Any:
        try:
            return read(digits)
        except ValueError:
            return digits

    return number


_STRICT: tuple[Callable[[str], Any], ...] = (_number, _float, _no_constant)
