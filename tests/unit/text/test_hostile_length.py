"""What a box can make long it cannot make slow: documents, redaction, and text that no UTF-8 can write.

A reader whose time grew as the square of the length would take from minutes to days here.
"""

import json
import re

import pytest
from unit.text.test_boxjson import read

from fleet.errors import ProbeUnreadable
from fleet.text.redact import redact
from fleet.text.untrusted import render_untrusted

MANY = 60_000


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": "' + b'\\"' * MANY, b'"' * (MANY + 1), b'{"' + b"\\\\" * MANY, b'"' + b"[" * MANY, b'{"a": "' + b'\\"' * MANY + b"\\", b'"\\\n' * MANY,
        b'"' + b"\\ud800" * MANY, b"\\" * MANY, b'"a' * MANY, b"]" * MANY,
    ],
    ids=lambda content: str(content[:12]),
)  # fmt: skip
def test_a_document_without_an_end_is_refused_in_the_time_of_one_reading(content):  # S22 S28
    with pytest.raises(ProbeUnreadable):
        read(content, kind=object)


def test_a_long_text_is_read_in_the_time_of_one_reading():  # S22
    for text in ('\\"' * MANY, "\\\\" * MANY, "[{" * MANY, "\U0001f468" * MANY, "\ud800" * MANY):
        assert len(read(json.dumps(text).encode(), kind=str, max_bytes=1 << 23)) == len(text)


def test_depth_is_counted_in_every_writing_of_the_same_document():  # S28
    deep = "[" * 200 + "]" * 200
    assert read(json.dumps(deep).encode(), kind=str) == deep
    for code in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
        with pytest.raises(ProbeUnreadable):
            read(deep.encode(code), kind=object)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("\\ud800", "\ufffd"), ("\\udcff.pt", "\ufffd.pt"), ("\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600"), ("\\uDBFF\\uDFFF", "\U0010ffff"),
        ("\\\\ud800", "\\ud800"), ("\\\\\\ud800", "\\\ufffd"), ("\\ud83d\\n", "\ufffd\n"), ("\\u00e4", "ä"),
    ],
)  # fmt: skip
def test_half_of_a_pair_is_no_text_that_could_stop_us(written, text):  # S28
    """Python writes the name of a file that is no UTF-8 so; to store or print it raised an error."""
    found = read(f'{{"{written}": "{written}"}}'.encode(), kind=dict)
    assert found == {text: text} and json.dumps(found) and text.encode()


@pytest.mark.parametrize(
    "piece", ["x", "eyJ-", "eyJ", "eyJhbGciOi.", "://", "x://", "x://y", "-----BEGIN ", "-----BEGIN A", "-----BEGIN PRIVATE KEY-----", "Authorization: ",
              "authorization: bearer ", "ghp_", "12345678:AA", "sk-", "a.eyJ", "\\", "é", "@"],
)  # fmt: skip
def test_what_is_said_is_looked_through_in_the_time_of_one_reading(piece):  # S10 S22
    text = piece * (MANY // len(piece))
    assert redact(text)
    assert redact(render_untrusted(text))


def test_a_token_is_masked_wherever_it_begins():  # S10
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    for before in ("", " ", "-", "x-", "token=", '"', "Bearer ", "/", "a.b.", "_"):
        assert not re.search("eyJ|dBjf", redact(f"{before}{token} ")), before
    assert (
        redact("a.b.eyJ") == "a.b.eyJ" and redact("http://u:p@h http://x/y@z") == "http://***@h http://x/y@z"
    )
