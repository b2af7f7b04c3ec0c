"""JSON from a box: what is not plainly the expected document is refused, within bounds."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ProbeUnreadable
from fleet.model.spec import RunSpec, Stage
from fleet.text.boxjson import MAX_DEPTH, from_box

SPEC = RunSpec("train", (Stage("train", "python train.py"),))
GOOD = {"name": "train", "stages": [{"name": "train", "command": "python train.py"}]}


def read(content: bytes, kind=RunSpec, max_bytes: int = 2_000_000):
    return from_box(content, kind, max_bytes=max_bytes, where="gpu1", what="spec.json")


def test_a_document_is_read_as_what_it_is():
    assert read(json.dumps(GOOD).encode()) == SPEC


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{}", "cannot be used"),
        (b"not json", "Expecting value"),
        (b"[" * 100_000, f"deeper than {MAX_DEPTH}"),
        (b'{"a":' * 100_000, f"deeper than {MAX_DEPTH}"),
        (b'{"name": "x", "stages": [], "budget": ' + b"9" * 1_000_000 + b"}", "more than 18 digits"),
        (b'{"name": "x", "stages": [], "budget": 1e999}', "out of range"),
        (b'{"name": "x", "stages": [], "budget": NaN}', "NaN is no JSON"),
        (b'{"name": "x", "name": "y", "stages": []}', "twice"),
        (b'{"name": "x", "stages": [], "unheard": 1}', "unknown field"),
        (b'{"name": "x", "stages": "rm -rf"}', "Expected `array`"),
        (b'{"name": "../x", "stages": []}', "matching regex"),
        (b'{"name": "x", "stages": [], "budget": "3"}', "Expected `int`"),
        (b'"' + b"x" * 3_000_000 + b'"', "longer than"),
        (b'{"name": "' + b"[" * 20, "Unterminated string"),
    ],
    ids=lambda value: str(value[:30]),
)
def test_anything_else_is_refused_at_once(content, says):  # S28
    with pytest.raises(ProbeUnreadable) as caught:
        read(content)
    assert says in caught.value.what and "spec.json" in caught.value.what


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(content):  # S28
    with contextlib.suppress(ProbeUnreadable):
        read(content)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
        max_leaves=20,
    )
)
def test_every_plain_document_comes_through(document):
    assert read(json.dumps(document).encode(), kind=object) == document
