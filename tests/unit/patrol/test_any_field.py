"""Every field of every record in a probe's answer made to hold anything: read or missing, and shown harmless."""

import json
import time

import msgspec
import pytest
from any_json import cases
from unit.patrol.build import (
    BOOT,
    BOX_NOW,
    GONE,
    NOW,
    attempt,
    end,
    facts,
    folded,
    known,
    probe,
    run,
)

from fleet.arming.code import decode_code
from fleet.arming.read_run import decode_spec
from fleet.errors import ProbeUnreadable
from fleet.ledger.store import encode
from fleet.model.verdict import Verdict
from fleet.notices.message import message
from fleet.text.frame import Section
from handbook.facts import facts as handbook_facts
from handbook.render import render
from patrol.decide import decide
from patrol.history import History, fold
from patrol.readers.broken import read_broken
from patrol.readers.loops import loops_of, read_loops
from patrol.readers.usage import read_usage
from patrol.report import document, lines
from patrol.status import status_table

RUN = run()
STAGE = "02-train"
CARD = {
    "format": 1, "pid": 71, "start_ticks": 500, "boot_id": BOOT, "host": "h", "cwd": "/", "script": "t.py", "started_at": NOW, "tag": f"{RUN.tag}/{STAGE}",
    "group": None, "rank": 0, "world": 2, "loops": [{"n": 1, "label": "train", "total": 100, "started_at": NOW}],
}  # fmt: skip
STATE = {
    "pid": 71, "iteration": 34, "total": 100, "elapsed_sec": 3.4, "eta_sec": 66.0, "tracked": {"loss": 0.5, "kl": 0.1}, "updated": "2026-11-22",
}  # fmt: skip
ENTRY = {
    "pid": 71, "label": "train", "script": "t.py", "language": "python", "start_time": "2027-01-15T07:55:00+00:00", "ppid": 1,
}  # fmt: skip
USED = {
    "format": 1, "stage": STAGE, "attempt": 1, "at_ms": int(BOX_NOW * 1000) - 4000, "pid": 71, "cpu_usage": 99.5, "mem_rss_kb": 3900, "process_count": 3,
    "cgroup_used_kb": 3800, "cgroup_limit_kb": 4000, "gpu_busy": 3.0,
    "summary": {"peak_mem_rss_kb": 3950, "peak_mem_rss_at_ms": int(BOX_NOW * 1000) - 9000, "peak_cgroup_used_kb": 3800, "rising_since_ms": int(BOX_NOW * 1000) - 60_000, "avg_cpu_usage": 180.5},
    "end": None,
}  # fmt: skip
ENDED = {
    **USED, "end": {"exit_code": None, "signal": 9, "killed_by": "oom", "oom": {"before": 3, "after": 4, "scope": "cgroup"}, "wall_s": 61.5, "left_running": [{"pid": 7}]},
}  # fmt: skip
BROKEN = {
    "format": 1, "tag": f"{RUN.tag}/{STAGE}", "rank": 0, "n": 1, "label": "x", "ended": "broken", "exit_code": 88, "saved": "/home/dev/loopmonitor_break_71_2027.json",
    "started_at": BOX_NOW - 900, "ended_at": BOX_NOW - 301, "state": {"iteration": 34, "tracked": {}},
}  # fmt: skip
FAILED = {**GONE, "end": known(end("failed", stage=STAGE, rc=88, why="exit"))}
OURS = ("train", "gpu1")


def loops(card=b"", state=b"", entry=b""):
    sizes = f"71 500 S {int(BOX_NOW) - 1} 600 {len(card)} {len(state)} {len(entry)}\n".encode()
    content = sizes + card + b"\n" + state + b"\n" + entry
    found = read_loops(Section("loops", None, 0, content), known(BOOT), BOX_NOW)
    alive = known((*facts().alive.value, *[type(facts().alive.value[0])(71, "tag", "x")]))
    return {"loops": loops_of(found, RUN.tag, alive)}


def usage(content):
    return {"usage": read_usage(Section("usage", None, 0, content), RUN, known(attempt()), BOX_NOW)}


def ended(content):
    return {
        **usage(content),
        **FAILED,
        "end": known(end("failed", stage=STAGE, rc=None, signal=9, why="signal")),
    }


def broken(content):
    return {"broken": read_broken(Section("broken", None, 0, content), RUN.tag, BOX_NOW), **FAILED}


def dumped(value):
    return json.dumps(value).encode()


RECORDS = {
    "card": (CARD, lambda content: loops(content, dumped(STATE))),
    "state": (STATE, lambda content: loops(dumped(CARD), content)),
    "registry": ({"71": ENTRY}, lambda content: loops(b"", dumped(STATE), content.strip()[1:-1])),
    "state of a foreign loop": (STATE, lambda content: loops(b"", content, dumped({"71": ENTRY})[1:-1])),
    "usage": (USED, usage),
    "usage at its end": (ENDED, ended),
    "broken loop's head": (BROKEN, lambda content: broken(content[:3072] + b"\n" + content[-400:] + b"\n")),
}  # fmt: skip
SHARES = [
    pytest.param(13, id="some"),
    pytest.param(1, id="every", marks=[pytest.mark.fault, pytest.mark.timeout(600)]),
]


def told(changed):
    """All that is said of one look, of a run that was seen before; each text must only be shown."""
    before = fold(History(), RUN, probe(), NOW - 60)
    seen = probe(facts(**changed))
    history = folded(RUN, seen, before)
    verdict = decide(RUN, seen, history, NOW)
    assert msgspec.json.decode(encode(verdict), type=Verdict).row == verdict.row
    encode(history)
    shown = [*lines([verdict], NOW), *status_table([RUN], {RUN.run_id: verdict}, {}, {}, NOW)]
    said = document([verdict], at=NOW, cursor="1", exit_code=0)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    title, body = message(verdict, "ev-1", NOW)
    page = render(handbook_facts(RUN, host="gpu1.example", verdict=verdict), NOW)
    for text in (*shown, title, *body.split("\n"), *page.split("\n")):
        assert text.isprintable(), text
    assert max(map(len, shown)) <= 80
    ours = [title, *(line for line in body.split("\n") if "untrusted" not in line), *verdict.next]
    ours += [line for line in page.split("\n") if not line.startswith("box| ")]
    ours += [seen.says for seen in verdict.evidence]
    assert not [text for text in ours if "onerror" in text or "babysit stop all" in text or "/etc/" in text]
    return verdict


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", RECORDS)
def test_any_field_of_a_record_may_hold_anything(kind, share):  # S22 S23 S25 S28
    record, read = RECORDS[kind]
    whole = told(read(dumped(record)))
    assert whole.loops or whole.usage or whole.broken
    for content in cases(record, share):
        began = time.process_time()
        told(read(content))
        assert time.process_time() - began < 5, content[:300]


SPEC = {
    "name": "train", "stages": [{"name": "train", "command": "true", "leftovers": "fail", "strict": True, "monitor": True}], "cwd": "/x", "artifacts": ["a"],
    "results": ["r"], "budget": 3,
}  # fmt: skip
CODE = {
    "format": 1, "attempt": 1, "folder": "/x", "commit": "0" * 40, "dirty": False, "git_why": "", "hasher": "sha256",
    "files": [{"path": "a.py", "digest": "sha256:" + "0" * 64}], "left_out": 0, "globs": ["*.py"],
}  # fmt: skip


@pytest.mark.parametrize("share", SHARES)
def test_any_field_of_what_was_armed_may_hold_anything(share):  # S28
    for content in cases(SPEC, share):
        try:
            spec = decode_spec(content, where="gpu1")
        except ProbeUnreadable:
            continue
        encode(spec)
    for content in cases(CODE, share):
        decode_code(content)


def test_a_name_that_is_no_utf8_is_shown_and_kept():  # S23
    """A file name's odd byte in a label, a tracked name or a path: nothing could be stored of such a look."""
    odd = {"n": 1, "label": "run-\udcff", "total": None, "started_at": NOW}
    verdict = told(loops(dumped({**CARD, "loops": [odd]}), dumped({**STATE, "tracked": {"k\ud800": 1.5}})))
    assert (verdict.loops[0].label, verdict.loops[0].tracked) == ("run-\ufffd", (("k\ufffd", 1.5),))
    saved = "/home/dev/m\udcfcll/loopmonitor_break_71_2027.json"
    assert told(broken(dumped({**BROKEN, "saved": saved}) + b"\n\n")).broken.saved == saved.replace(
        "\udcfc", "\ufffd"
    )
