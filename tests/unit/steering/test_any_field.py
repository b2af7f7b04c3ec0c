"""Every field of every answer about loops, queues and usage, made to hold anything: refused, or shown harmless."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from any_json import EVIL, cases, places
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_samples import a_run
from msgspec.structs import replace
from usage_lines import T0, end, metadata, ramp, tree, written

from babysit.verbs.speak import error_document
from fleet.errors import NotFound, ProbeUnreadable
from fleet.model.spec import Stage
from fleet.steering import charts, queue, says
from fleet.steering.answers import next_of, said, untyped
from fleet.steering.call import Called
from fleet.steering.question import VERBS
from fleet.steering.usage import Wish, numbers, profile_of
from fleet.steering.usage import document as usage_document
from onbox.usage.files import Wanted
from onbox.usage.profile import profile
from onbox.usage.remarks import remarks
from onbox.usage.says import charts as curves
from onbox.usage.says import picture, table

STATE = {
    "pid": 71, "iteration": 3, "total": 9, "elapsed_sec": 5.5, "eta_sec": 6.5, "tracked": {"loss": 0.5, "n": [1, 2]}, "faults": 1,
}  # fmt: skip
REPLY: dict[str, Any] = {
    "list": {"start_time": "2026-11-22T03:00:00", "rank": 0, "world": 2, "alive": True, "why": None, "loops": [{"n": 1, "label": "train"}]},
    "peek": {"state": STATE, "paused": True},
    "plot": {"state": STATE, "history": {"loss": [[1, 0.5], [2, 0.25]], "lr": [[1, 0.1]]}},
    "set": {"key": "lr", "value": "0.1", "iteration": 4},
    "stack": {"threads": [{"name": "MainThread", "main": True, "frames": [{"file": "t.py", "line": 3, "function": "f", "code": "g()"}]}]},
    "memory": {"rss_bytes": 812, "peak_bytes": 900},
    "break": {"iteration": 4, "saved": "/home/dev/loopmonitor_break_71.json"},
}  # fmt: skip


def answer(verb: str) -> dict[str, Any]:
    part = {
        "pid": 71, "label": "train", "kind": "onbox", "n": 1, "exit_code": 0, "tag": "train-k3f9-0/01-train", "confirmed": True,
        "reply": REPLY[verb], "says": "done",
    }  # fmt: skip
    return {
        "schema": "onbox.ipc/1",
        "verb": verb,
        "ok": True,
        "exit_code": 0,
        "answers": [part],
        "error": None,
    }


REFUSAL = {
    "schema": "onbox.ipc/1", "verb": "peek", "ok": False, "exit_code": 3, "answers": [],
    "error": {"code": "no-loop", "what": "nothing", "next": "ipc list"},
}  # fmt: skip
COMMAND = {"id": "87c5", "ts": 1.0, "op": "set", "path": "lr", "args": [0.5], "kwargs": {"a": 1}}
ACK = {"id": "87c5", "status": "applied", "path": "lr", "error": None, "rank": 0, "world": 2, "step": 40}
QUEUE = {
    "queue_dir": "/q", "commands": 2, "acks": 1, "last_acks": [ACK], "pending": 1,
    "listener": {"pid": 7, "alive": True, "host": "h", "since": 1.0, "polled": True, "world": 1},
}  # fmt: skip


def called(content: bytes, status: int = 0) -> Called:
    return Called(status, content, (EVIL,), shipped=False, took_s=0.4)


def texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a document, names of keys too, with the keys that lead to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from texts(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, path)
    elif isinstance(value, str):
        yield path, value


def fits(shown: list[str], *documents: dict[str, Any]) -> None:
    """Fails where a line could act on a screen, or a document says a box's words as if they were ours."""
    assert all(line.isprintable() for line in shown), shown
    for document in documents:
        json.dumps(document, allow_nan=False)
        for path, text in texts(document):
            assert text.isprintable()
            ours = not any(key.startswith("untrusted_") for key in path)
            assert not (ours and ("onerror" in text or "babysit stop" in text or len(text) > 200)), (
                path,
                text,
            )


def ipc(content: bytes, status: int = 0) -> None:
    (document,) = said(called(content, status), where="gpu1")
    document = untyped(document, None)
    shown = [line for part in document.answers for verb in VERBS for line in says.lines(verb, part, 0.4)]
    shown += says.error_lines(document)
    fits([*shown, *next_of(document, "gpu1")], says.document(document, box="gpu1", runs={}, took_s=0.4))
    assert len(shown) < 5000
    if document.verb != "plot":
        return
    series = charts.series_of(document.answers)
    fits(charts.as_text(series, 80, ascii_only=False).split("\n"))
    assert charts.as_text(series, 80, ascii_only=True).isascii()
    if series and any(map(_changed, series.values())):
        assert len(charts.as_png(series)) < 200_000
    page = charts.as_page(series, document.answers, box="gpu1", at="now")
    assert "<img" not in page and "<script" not in page and len(page) < 300_000


def _changed(pairs: Any) -> bool:
    return pairs not in ([[1, 0.5], [2, 0.25]], [[1, 0.1]])  # a picture takes its time


def outcome(content: bytes, status: int = 0) -> None:
    found = queue.outcome(called(content, status), where="gpu1")
    fits(list(queue.outcome_lines(found, 0.4)), queue.document(found, box="gpu1", queue="/q", took_s=0.4))
    queue.says(found)


def state(content: bytes, status: int = 0) -> None:
    found = queue.state(called(content, status), where="gpu1")
    fits(list(queue.state_lines(found)), queue.document(found, box="gpu1", queue="/q", took_s=0.4))


def usage(content: bytes, status: int = 0) -> None:
    run = a_run()
    run = replace(run, spec=replace(run.spec, stages=(Stage("train", "b", monitor=True),)))
    found = profile_of(called(content, status), Wish(run), box="gpu1")
    plain = numbers(found)
    shown = [*table(plain), *curves(plain, 80, ascii_only=False)]
    assert max(map(len, shown)) <= 80
    fits([*shown, *remarks(plain)], usage_document(found, Wish(run), box="gpu1", took_s=0.4))


USED_REFUSAL = {
    "schema": "onbox.usage/1", "ok": False, "exit_code": 3, "error": {"code": "no-file", "what": "x", "next": ""},
}  # fmt: skip
READERS: dict[str, tuple[Any, Any, int]] = {
    **{f"ipc {verb}": (ipc, answer(verb), 0) for verb in REPLY},
    "ipc refusal": (ipc, REFUSAL, 3),
    "ctl status": (state, QUEUE, 0),
    "usage refusal": (usage, USED_REFUSAL, 3),
}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    lines = [
        metadata(), tree(T0), *ramp(3), end(T0 + 9000, left_running=[{"pid": 1, "command": "x"}], monitor_errors=["odd"]),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("usage")
    return profile(written(folder / "u.jsonl", lines), Wanted())


def tried(read: Any, content: bytes, status: int) -> None:
    """Reads it, and takes no error but our own, in little time."""
    began = time.process_time()
    try:
        read(content, status)
    except (ProbeUnreadable, NotFound) as error:
        fits([], error_document(error))
    assert time.process_time() - began < 5, content[:300]


SOME, EVERY = 13, 1  # of so many documents one is tried; 13 shares no factor with the number of TEXTS
SHARES = [
    pytest.param(SOME, id="some"),
    pytest.param(EVERY, id="every", marks=[pytest.mark.fault, pytest.mark.timeout(600)]),
]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", READERS)
def test_any_field_of_an_answer_may_hold_anything(kind, share):  # S22 S23 S25 S28
    read, document, status = READERS[kind]
    with contextlib.suppress(NotFound):  # a refusal that is one
        read(json.dumps(document).encode(), status)
    for content in cases(document, 3 * share if kind == "ipc plot" else share):
        tried(read, content, status)


@pytest.mark.parametrize("share", SHARES)
def test_any_field_of_a_command_and_its_acknowledgement_may_hold_anything(share):  # S28
    whole = [json.dumps(document).encode() for document in (COMMAND, ACK)]
    outcome(b"\n".join(whole))
    for changed in cases(COMMAND, share):
        tried(outcome, b"\n".join([changed, whole[1]]), 0)
    for changed in cases(ACK, share):
        tried(outcome, b"\n".join([whole[0], changed, changed]), 22)


@pytest.mark.parametrize("share", SHARES)
def test_any_field_of_a_profile_may_hold_anything(profiled, share):  # S28
    usage(json.dumps(profiled).encode())
    for content in cases(profiled, share):
        tried(usage, content, 0)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_several_fields_at_once_may_hold_anything(profiled, data):  # S28
    kinds = {**READERS, "usage": (usage, profiled, 0)}
    read, document, status = kinds[data.draw(st.sampled_from(sorted(kinds)))]
    changed = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 4))):
        *outer, last = data.draw(st.sampled_from([path for path in places(changed) if path]))
        place = changed
        for step in outer:
            place = place[step]
        place[last] = data.draw(ANY)
    tried(read, json.dumps(changed).encode(), status)


@pytest.mark.parametrize("share", SHARES)
def test_a_picture_of_hostile_numbers_is_bounded(profiled, share):  # S22
    chart = {"chart": {**profiled["chart"], "buckets": profiled["chart"]["buckets"][:3]}}
    for content in cases(chart, 4 * share):
        whole = json.dumps({**profiled, "chart": None}).encode()
        changed = whole.replace(b'"chart": null', content[1:-1])
        with contextlib.suppress(ProbeUnreadable):
            drawn = picture(numbers(profile_of(called(changed), Wish(None, "x"), box="gpu1")))
            assert len(drawn or b"") < 200_000


def test_what_no_table_of_ours_holds_is_told_apart():
    """What a listener says of being alive may be nothing that can be looked up."""
    queued = {**QUEUE, "listener": {**QUEUE["listener"], "alive": []}}
    assert "may listen" in "".join(
        queue.state_lines(queue.state(called(json.dumps(queued).encode()), where="g"))
    )


def test_a_stack_and_a_status_of_many_entries_stay_short():  # S22
    many = {
        **answer("stack"),
        "answers": [{**answer("stack")["answers"][0], "reply": {"threads": [{}] * 30_000}}],
    }
    (document,) = said(called(json.dumps(many).encode()), where="gpu1")
    assert len(says.lines("stack", document.answers[0], 0.4)) < 300
    with pytest.raises(ProbeUnreadable):
        queue.state(called(json.dumps({**QUEUE, "last_acks": [{}] * 30_000}).encode()), where="gpu1")
