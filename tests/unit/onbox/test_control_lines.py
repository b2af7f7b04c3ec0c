# ruff: noqa: ARG005 - a control's form is given
import json
from pathlib import Path

import pytest

from onbox.control import RuntimeController, lines
from onbox.control.lines import expired, file_name, jsonable, parsed, why_not

SAMPLES = Path(__file__).parents[2] / "data/runtimectl"
COMMANDS = (SAMPLES / "commands.jsonl").read_bytes()
ACKS = [json.loads(line) for line in (SAMPLES / "acks.jsonl").read_text().splitlines()]
OURS = ("rank", "world", "step")


def silent(ctx):
    raise ValueError


def raises(ctx, value):
    raise RuntimeError("größe")


def test_our_lines_are_those_of_010():
    for line in COMMANDS.splitlines(keepends=True):
        document = parsed(line)
        if "ts" in document and document["id"] not in {f"raw-{n}" for n in range(10)}:
            assert lines.encoded(document) == line
    for line in (SAMPLES / "acks.jsonl").read_bytes().splitlines(keepends=True):
        assert lines.encoded(json.loads(line)) == line


def test_the_commands_of_010_get_the_acks_of_010(tmp_path):
    (tmp_path / "commands.jsonl").write_bytes(COMMANDS)
    program = RuntimeController(tmp_path, expire_s=None)
    program.register("lr", lambda ctx, v: None, lambda args, kwargs: ([float(args[0])], kwargs))
    program.register("note", lambda ctx, t: None)
    program.register("save", lambda ctx, label=None: None)
    program.register("both", lambda ctx, *a, **k: None)
    program.register("raises", raises)
    program.register("swap", lambda ctx, *a, **k: None, lambda a, k: ((9,), {"b": a}))
    program.register("silent", silent)
    returned = program.poll_and_apply({}, 0)
    written = [json.loads(line) for line in (tmp_path / "acks.jsonl").read_text().splitlines()]
    assert returned == written
    assert program.faults == 0, program.last_fault
    named = {json.loads(line)["id"] for line in COMMANDS.splitlines() if b'"id"' in line}
    assert len(written) == len(ACKS)
    for ours, theirs in zip(written, ACKS, strict=True):
        assert tuple(ours)[-3:] == OURS and [ours.pop(key) for key in OURS] == [0, 1, None]
        assert list(ours) == list(theirs)
        same = {key for key in theirs if key != "ts" and (key != "id" or theirs["id"] in named)}
        if theirs.get("error") == "":
            assert ours["error"] == "ValueError"  # said where 0.1.0 says nothing
            same.discard("error")
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


def test_what_was_given_without_an_id_gets_one(tmp_path):
    (tmp_path / "commands.jsonl").write_text('{"path":"nobody"}\nnonsense\n')
    acks = RuntimeController(tmp_path).poll_and_apply({}, 0)
    assert [ack["path"] for ack in acks] == ["nobody", ""]
    assert all(len(ack["id"]) == 36 for ack in acks) and len({ack["id"] for ack in acks}) == 2


INVALID = {
    "no JSON": b"set lr=1",
    "a list": b"[1]",
    "a number": b"7",
    "a text": b'"set"',
    "null": b"null",
    "half a line": b'{"id":"a","pa',
    "no UTF-8": b'{"id":"\xff"}',
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "a long number": b'{"id":"a","args":[' + b"9" * 5000 + b"]}",
    "a million digits": b"9" * 1_000_000,
    "nothing": b"",
}


@pytest.mark.parametrize("line", INVALID.values(), ids=INVALID)
def test_what_is_no_command_is_an_invalid_one(line):  # S28
    document = parsed(line)
    assert (document["op"], document["path"]) == ("invalid", "")
    assert why_not(document, {"": 1}) == "unsupported op: invalid"


WHY_NOT = [
    ({"path": "lr"}, None),
    ({"path": "lr", "args": None}, "command args must be a list"),
    ({"path": "lr", "args": {}, "kwargs": []}, "command args must be a list"),
    ({"path": "lr", "kwargs": []}, "command kwargs must be an object"),
    ({"path": "lr", "kwargs": [], "op": "get"}, "command kwargs must be an object"),
    ({"path": "nobody", "op": "get"}, "unsupported op: get"),
    ({"path": "lr", "op": None}, "unsupported op: None"),
    ({"path": "lr", "op": ["set"]}, "unsupported op: ['set']"),
    ({"path": "nobody"}, "unknown path: nobody"),
    ({}, "unknown path: None"),
    ({"path": ["lr"]}, "unknown path: ['lr']"),
    ({"path": {"lr": 1}}, "unknown path: {'lr': 1}"),
    ({"path": 7}, "unknown path: 7"),
]


@pytest.mark.parametrize(("document", "said"), WHY_NOT, ids=lambda value: str(value)[:40])
def test_why_a_command_is_rejected(document, said):
    assert why_not(document, {"lr": None}) == said


EXPIRED = [
    ({"ts": 1000.0}, 100.0, False),
    ({"ts": 899.0}, 100.0, True),
    ({"ts": 899.0}, None, False),
    ({"ts": 5000.0}, 100.0, False),  # a clock that went back
    ({}, 100.0, False),
    ({"ts": "long ago"}, 100.0, False),
    ({"ts": True}, 100.0, False),
    ({"ts": float("nan")}, 100.0, False),
    ({"ts": 10**400}, 100.0, False),
    ({"ts": 1000.0, "expires": 999.0}, 100.0, True),
    ({"ts": 1000.0, "expires": 999.0}, None, True),
    ({"ts": 1000.0, "expires": 1001.0}, 100.0, False),
    ({"ts": 1000.0, "expires": None}, 100.0, False),
    ({"ts": 1000.0, "expires": "now"}, 100.0, False),
]


@pytest.mark.parametrize(("document", "limit_s", "is_it"), EXPIRED)
def test_when_a_command_is_too_old(document, limit_s, is_it):
    said = expired(document, 1000.0, limit_s)
    assert (said is not None) == is_it
    assert said is None or said.startswith("expired: ")


class Odd:
    def __repr__(self):
        raise RuntimeError


CYCLE = []
CYCLE.append(CYCLE)

JSONABLE = [
    ([1, "a", None], [1, "a", None]),
    ((1, 2), [1, 2]),
    ({"a": (1,)}, {"a": [1]}),
    ([1j], ["1j"]),
    ([{1, 2}], ["{1, 2}"]),
    ([b"x"], ["b'x'"]),
    ({(1, 2): 3}, "{(1, 2): 3}"),
    (CYCLE, "[[...]]"),
    (Odd(), None),
    (["x" * (2 << 20)], "['xxx"),
]


@pytest.mark.parametrize(("value", "expected"), JSONABLE, ids=range(len(JSONABLE)))
def test_what_json_has_no_word_for_is_text(value, expected):
    found = jsonable(value)
    json.dumps(found)
    assert len(json.dumps(found)) < 1000
    if expected is None:
        assert "Odd" in found
    elif isinstance(expected, str):
        assert found.startswith(expected)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("a-B_9", "a-B_9"),
        ("../x", None),
        (".taken", None),
        ("", None),
        ("x" * 65, None),
        (8, None),
        (["a"], None),
        ("ü", None),
    ],
    ids=str,
)
def test_an_id_is_a_safe_file_name(identity, expected):  # S37
    name = file_name(identity)
    assert name == expected if expected else len(name) == 32 and set(name) <= set("0123456789abcdef")


def test_no_line_holds_what_ends_one_or_moves_a_cursor():
    text = "".join(map(chr, range(0x200))) + "\u2028\u2029\ud800"
    line = lines.encoded({"id": text}).decode()
    assert line.splitlines(keepends=True) == [line]
    assert json.loads(line)["id"] == text
    assert not [character for character in line[:-1] if ord(character) < 32 or 127 <= ord(character) < 160]
