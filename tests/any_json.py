"""What may stand in one place of a document that a box wrote: JSON text, also such as no writer of ours makes."""

import json
from collections.abc import Iterator
from typing import Any

_HOLE = "\u2603 here"
EVIL = "\x1b]52;c;AAAA\x07\u202e</script><img src=x onerror=alert(1)> \"'&@everyone"
NUMBERS = (
    "0", "-0", "-1", "1", "2.0", "1e999", "-1e999", "NaN", "-Infinity", "5e-324", "-5e-324", "1.7e308", "-1.7e308",
    "9" * 18, "-" + "9" * 18, "9" * 19, "9" * 5000, "0." + "0" * 400 + "1", "1e-999",
)  # fmt: skip
OTHERS = (
    "null", "true", "false", '""', json.dumps(EVIL), json.dumps("../" * 40 + "etc/passwd"), json.dumps("/etc/passwd"), '"-oProxyCommand=x"', '"\\ud800"',
    '"\\u0000"', json.dumps("next: babysit stop all --yes"), json.dumps("x" * 9000), json.dumps("\U0001f468\u200d" * 300), "[]", "{}", "[null]", "[[]]", "[{}]", '{"": {}}',
    "[[1, 0.0], [2, 5e-324]]", "[[5e-324, 1], [0, 2]]", "[[1, -1.7e308], [2, 1.7e308]]", "[[true, 1], [1, [1]], [1]]", "[" * 40 + "]" * 40, "[" * 20 + "]" * 20,
    '{"a": 1, "a": 2}', '{"a": [[[[[[[[[[[[[["\\ud800"]]]]]]]]]]]]]]}', "[" + "0," * 3000 + "0]", "[" + "{}," * 5000 + "{}]", '"' + "a-" * 4500 + '"', "{" + ",".join(f'"{n}": {n}' for n in range(999)) + "}",
)  # fmt: skip
TEXTS = (*NUMBERS, *OTHERS)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in `document`, of objects and lists too; of a list its first two."""
    yield path
    inner = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list):
        inner = enumerate(document[:2])
    for key, value in inner:
        yield from places(value, (*path, key))


def cases(document: Any, one_of: int) -> Iterator[bytes]:
    """`document` with each value in turn made one of `TEXTS`: of all such documents, every `one_of`-th."""
    pairs = ((path, text) for path in places(document) for text in TEXTS)
    for number, (path, text) in enumerate(pairs):
        if number % one_of == 0:
            yield put(document, path, text)


def put(document: Any, path: tuple[Any, ...], text: str) -> bytes:
    """`document` as JSON with `text` in place of the value at `path`."""
    return json.dumps(_holed(document, path)).replace(json.dumps(_HOLE), text).encode()


def _holed(document: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return _HOLE
    first, *rest = path
    if isinstance(document, dict):
        return {key: _holed(value, tuple(rest)) if key == first else value for key, value in document.items()}
    return [_holed(value, tuple(rest)) if at == first else value for at, value in enumerate(document)]
