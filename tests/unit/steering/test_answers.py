"""What a box answers: believed only in its own form, shown harmless, numbers as numbers."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hostile import ENTRIES
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_samples import a_run

from fleet.errors import ProbeUnreadable
from fleet.steering import charts, queue, says
from fleet.steering.answers import next_of, said, untyped
from fleet.steering.call import Called

EVIL = "x\x1b]52;c;AAAA\x07\u202e</script><img src=x onerror=alert(1)> \"'&"
STATE = {
    "pid": 71,
    "iteration": 3421,
    "total": 10000,
    "elapsed_sec": 517.2,
    "eta_sec": 994.6,
    "tracked": {"loss": 0.3847, "lr": 0.001},
}


def part(**changes):
    return {
        "pid": 71, "label": "train", "kind": "onbox", "n": 1, "exit_code": 0, "tag": None, "confirmed": True, "says": "done", "reply": None, **changes,
    }  # fmt: skip


def called(*parts, status=0, verb="peek", **changes):
    content = {
        "schema": "onbox.ipc/1", "verb": verb, "ok": status == 0, "exit_code": status, "answers": parts, "error": None, **changes,
    }  # fmt: skip
    return Called(status, json.dumps(content).encode(), (), shipped=False, took_s=0.4)


def one(verb="peek", status=0, **changes):
    (document,) = said(called(part(exit_code=status, **changes), status=status, verb=verb), where="gpu1")
    return document


def shown(verb, **changes):
    return says.lines(verb, one(verb, changes.pop("status", 0), **changes).answers[0], 0.42)


def nobody(code="no-loop", status=3, next_step="ipc list"):
    error = {"code": code, "what": "No alive processes matching 'all'.", "next": next_step}
    return said(called(status=status, error=error), where="gpu1")[0]


@pytest.mark.parametrize(
    ("run", "what"),
    [(None, "no loop runs on this box"), ("train", "no loop of run train runs on this box")],
)
def test_where_no_target_was_typed_none_is_spoken_of(run, what):
    found = untyped(nobody(), run)
    assert found.error.what == what and list(says.error_lines(found)) == [what]
    content = says.document(found, box="my gpu", runs={}, took_s=1.0)
    assert content["untrusted_error"]["what"] == what and content["next"] == ["babysit ipc 'my gpu' list"]
    usage = nobody("usage", 2)
    assert untyped(usage, run) == usage and untyped(one(), run) == one()


def test_a_box_on_which_thousands_of_loops_were_killed_can_be_listed_and_cleaned():
    dead = [part(pid=number, says="does not run: no such process") for number in range(3000)]
    for verb in ("list", "clean"):
        (document,) = said(called(*dead, verb=verb), where="gpu1")
        assert len(document.answers) == 3000


def test_what_has_no_label_is_named_by_its_number():
    assert shown("clean", label="", says="removed")[0].startswith("pid 71: removed")


def test_the_next_command_is_one_that_helps():
    assert next_of(one(), "gpu1") == ()
    assert next_of(nobody("usage", 2), "gpu1") == ("babysit ipc gpu1 list",)  # several are meant: which?
    typed = nobody("usage", 2, "ipc --help")
    assert next_of(typed, "gpu1") == ("babysit ipc --help",) and len(list(says.error_lines(typed))) == 1
    folder = nobody("folder", 2, "ls -la /home/dev/.ipc")
    assert next_of(folder, "gpu1") == () and "on the box: ls -la /home/dev/.ipc" in says.error_lines(folder)


def test_a_paused_loop_is_shown_as_one():
    assert shown("peek", says="it is paused", reply={"state": STATE, "paused": True})[1:] == [
        "  it is paused"
    ]


def test_a_peek_is_one_line():  # R155
    assert shown("peek", reply={"state": STATE}) == [
        "train (pid 71)  iter 3421/10000 (34.2 %) · 8 min 37 s, ETA 16 min 35 s · loss 0.3847 · lr 0.001"
    ]
    inner = {"iteration": 3, "total": None, "elapsed_sec": 4000, "eta_sec": None, "tracked": {}}
    assert shown("peek", n=2, reply={"state": inner}) == ["train (pid 71/2)  iter 3 · 1 h 6 min"]
    assert shown("peek", says="no state yet", confirmed=False) == [
        "train (pid 71): no state yet (not confirmed)"
    ]


def test_a_set_says_from_when_on_it_holds():
    reply = {"key": "lr", "value": "0.0001", "iteration": 3430}
    assert shown("set", reply=reply) == ["train (pid 71): set lr = 0.0001, applied at iteration 3430 (0.4 s)"]
    assert shown("set", says="sent", confirmed=False) == ["train (pid 71): sent (not confirmed)"]
    assert shown("set", status=22, says="not a Python literal") == ["train (pid 71): not a Python literal"]


def test_a_loop_that_does_not_answer_is_shown_as_it_was_seen_last():
    found = shown("peek", status=124, says="no answer in 1 s", reply={"state": STATE})
    assert found[0] == "train (pid 71): no answer in 1 s" and found[1].startswith("  last known: iter 3421/")


def test_memory_and_stack_are_read_out():
    assert shown("memory", reply={"rss_bytes": 812_000_000, "peak_bytes": 1_100_000_000}) == [
        "train (pid 71): 812 MB now, 1.1 GB at its peak"
    ]
    frames = [{"file": "t.py", "line": 3, "function": "f", "code": "g()"}] * 60
    found = shown(
        "stack", says="1 thread", reply={"threads": [{"name": "MainThread", "main": True, "frames": frames}]}
    )
    assert found[:3] == ["train (pid 71): 1 thread", "  MainThread (main)", "    20 outer frames left out"]
    assert found[3:5] == ["    t.py:3 in f", "      g()"] and len(found) == 3 + 80


@pytest.mark.parametrize("kind", ["", *sorted({kind for kind, _ in ENTRIES})])
def test_nothing_of_a_box_acts_on_a_screen(kind):  # S23 S25
    texts = [EVIL, *(entry.decode("utf-8", "replace") for name, entry in ENTRIES if name == kind)]
    for text in texts:
        state = {**STATE, "tracked": {text: text, "l": [text], "d": {text: text}}}
        frames = [{"file": text, "line": text, "function": text, "code": text}]
        replies = {
            "peek": {"state": state}, "set": {"key": text, "value": text, "iteration": text}, "stack": {"threads": [{"name": text, "frames": frames}, text]},
            "list": {"start_time": text, "rank": text, "world": 2}, "memory": {"rss_bytes": text}, "continue": None,
        }  # fmt: skip
        for verb, reply in replies.items():
            document = one(verb, label=text, says=text, tag=text, reply=reply)
            every = says.lines(verb, document.answers[0], 1.0)
            assert all(line.isprintable() for line in every), (verb, text)
            content = says.document(document, box="gpu1", runs={}, took_s=1.0)
            assert all(value.isprintable() for value in _texts(content))
            outside = {
                key: value for key, value in content["answers"][0].items() if not key.startswith("untrusted_")
            }
            assert text == "" or not any(text in value for value in _texts(outside) if len(text) > 9)


def _texts(value):
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(
    "found",
    [
        Called(1, b"Traceback", ("KeyError: x",), False, 1.0), Called(0, b"", (), False, 1.0), Called(0, b"{", (), False, 1.0), Called(0, b"[]", (), False, 1.0),
        called(schema="onbox.ipc/2"), called(exit_code=3), called(part(exit_code=7)), called(part(pid="71")), called(part(label=None)),
        called(part(reply=[1])), called(error="x"), called(answers="x"), called(status=141),
        Called(0, b'{"a": 1, "a": 2}', (), False, 1.0), Called(0, b"[" * 5000, (), False, 1.0), Called(0, b'{"answers": ' + b"[" * 100, (), False, 1.0),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_never_read_as_one(found):  # R155 S30
    with pytest.raises(ProbeUnreadable):
        said(found, where="gpu1")


def test_an_odd_number_is_text_and_breaks_no_answer():
    content = called(part(reply={"state": {"tracked": {"big": 1}}})).printed.replace(
        b'"big": 1', b'"big": ' + b"9" * 300
    )
    (document,) = said(Called(0, content, (), False, 1.0), where="gpu1")
    assert says.progress(document.answers[0]).endswith(f'big "{"9" * 60}… (line cut)"')


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([0, 3, 22, 124]))
def test_no_bytes_of_a_box_are_a_surprise(content, status):
    for text in (content, b"{" + content, called(status=status).printed + content):
        try:
            found = said(Called(status, text, (), False, 1.0), where="gpu1")
        except ProbeUnreadable:
            continue
        assert found[-1].exit_code == status


def test_the_run_of_a_loop_is_found_by_its_tag():
    run = a_run()
    document = one(tag=f"{run.tag}/01-train")
    content = says.document(document, box="gpu1", runs={run.tag: run}, took_s=1.0)
    assert content["answers"][0]["run"] == run.name
    assert (
        says.document(one(tag="other/01"), box="gpu1", runs={run.tag: run}, took_s=1.0)["answers"][0]["run"]
        is None
    )


HISTORY = {
    "loss": [[i, 1 / i] for i in range(1, 3000)],
    EVIL: [[1, "x"], [2, 10**400], "y"],
    "one": [[5, 2.0]],
    "n": None,
}


class Tags(HTMLParser):
    """Every tag and attribute of a page, as a browser would see them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_a_page_loads_nothing_and_runs_nothing():  # S32
    parts = one("plot", label=EVIL, reply={"state": STATE, "history": HISTORY}).answers
    page = charts.as_page(charts.series_of(parts), parts, box="gpu1", at="2026-11-22")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    seen = Tags()
    seen.feed(page)
    policy = dict(seen.attributes)["content"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    allowed = {"html", "meta", "title", "style", "h1", "h2", "p", "small", "svg", "line", "text", "polyline"}
    assert set(seen.tags) == allowed
    assert not [
        name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "style")
    ]
    assert "url(" not in style and "\x1b" not in page and "\u202e" not in page
    assert seen.tags.count("polyline") == 4


def test_a_chart_is_drawn_here_from_what_was_fetched():  # R155
    parts = one("plot", reply={"state": STATE, "history": HISTORY}).answers
    series = charts.series_of(parts)
    assert all(line.isprintable() for line in charts.as_text(series, 80, ascii_only=False).split("\n"))
    assert charts.as_text(series, 80, ascii_only=True).isascii()
    assert charts.as_png(series).startswith(b"\x89PNG")
    several = said(
        called(part(reply={"history": HISTORY}), part(pid=72, reply={"history": HISTORY})), where="g"
    )[0]
    assert "71: loss" in charts.series_of(several.answers) and "72: loss" in charts.series_of(several.answers)
    assert charts.series_of(one("plot").answers) == {}


COMMAND = {"id": "87c5edfc", "ts": 1.0, "op": "set", "path": "lr", "args": [0.5], "kwargs": {}}


def queued(*documents, status=0, complaints=()):
    text = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
    return Called(status, text.rstrip(b"\n"), complaints, False, 0.4)


def test_each_rank_that_acknowledged_is_told():
    acks = [{"id": "87c5edfc", "status": "applied", "rank": rank, "world": 2, "step": 40} for rank in (0, 1)]
    found = queue.outcome(queued(COMMAND, *acks), where="gpu1")
    assert list(queue.outcome_lines(found, 0.4)) == [
        "rank 0 of 2: applied at step 40 (0.4 s)", "rank 1 of 2: applied at step 40 (0.4 s)",
    ]  # fmt: skip
    assert queue.says(found) == "rank 0 of 2: applied at step 40; rank 1 of 2: applied at step 40"
    rejected = queue.outcome(queued(COMMAND, {"status": "rejected", "error": EVIL}, status=22), where="gpu1")
    assert next(queue.outcome_lines(rejected, 0.4)).startswith("rejected: x\\x1b]52")
    warned = queue.outcome(
        queued(COMMAND, complaints=("runtimectl: a real runtimectl will replay 3 commands",)), where="g"
    )
    assert warned.complaints == ("a real runtimectl will replay 3 commands",)
    content = queue.document(warned, box="gpu1", queue="/q", took_s=0.4)
    assert (content["schema"], content["exit_code"]) == ("babysit.ctl/1", 0) and content[
        "untrusted_acks"
    ] == []


@pytest.mark.parametrize("content", [b"", b"x", b"[1]", b"{}\n[", b'{"a":1}\n"x"'])
def test_what_is_no_outcome_is_never_read_as_one(content):
    with pytest.raises(ProbeUnreadable):
        queue.outcome(Called(0, content, (), False, 1.0), where="gpu1")
    with pytest.raises(ProbeUnreadable):
        queue.state(Called(0, content, (), False, 1.0), where="gpu1")


def test_a_queue_is_told_with_who_listens():
    said_ = {"queue_dir": "/q", "commands": 2, "acks": 1, "last_acks": [{"id": EVIL, "path": "lr", "status": "applied"}], "pending": 1, "listener": {"pid": 7, "alive": True, "host": EVIL}}  # fmt: skip
    found = queue.state(Called(0, json.dumps(said_).encode(), (), False, 1.0), where="gpu1")
    every = list(queue.state_lines(found))
    assert every[0] == "2 commands, 1 acknowledgement, 1 without one" and "listens" in every[1]
    assert all(line.isprintable() for line in every)
