"""What a host makes of a profile: believed only in its own form, shown harmless, each refusal with its next step."""

import json

import pytest
from hostile import ENTRIES
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_samples import a_run
from msgspec.structs import replace
from usage_lines import T0, end, metadata, ramp, run_folder, tree, written

from fleet.errors import NotFound, ProbeUnreadable
from fleet.model.spec import Stage
from fleet.steering.call import Called
from fleet.steering.usage import Wish, document, numbers, profile_of
from onbox.usage.files import Wanted
from onbox.usage.profile import profile
from onbox.usage.remarks import remarks
from onbox.usage.says import charts, table

EVIL = "x\x1b]52;c;AAAA\x07\u202e"


def run(*stages):
    found = a_run()
    return replace(
        found,
        spec=replace(found.spec, stages=stages or (Stage("prepare", "a"), Stage("train", "b", monitor=True))),
    )


def called(content, status=0):
    printed = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Called(status, printed, (), shipped=False, took_s=0.4)


def refused(code, what="because"):
    return called(
        {
            "schema": "onbox.usage/1",
            "ok": False,
            "exit_code": 3,
            "error": {"code": code, "what": what, "next": ""},
        },
        3,
    )


def test_the_words_put_what_was_typed_behind_its_option_or_at_the_end():
    plain = Wish(run(), stage="--json", attempt=2, last_s=90.0).words()
    assert plain == (
        "usage",
        "--json",
        "--stage=--json",
        "--attempt=2",
        "--last=90",
        "--",
        f"~/.local/state/babysit/runs/{run().run_id}",
    )
    for state, place in (("/data/x", "/data/x"), ("~/x", "~/x"), ("x", "~/x"), ("~", "~")):
        moved = run()
        moved = replace(moved, box=replace(moved.box, state_dir=state))
        assert Wish(moved).words()[-1] == f"{place}/runs/{moved.run_id}"
    for typed, place in (("/tmp/u.jsonl", "/tmp/u.jsonl"), ("u.jsonl", "~/u.jsonl"), ("-x; id", "~/-x; id")):
        assert Wish(None, typed).words()[-1] == place


def test_a_document_names_what_is_the_boxs_as_untrusted(tmp_path):  # R157 S25
    wish = Wish(run())
    found = profile_of(called(profile(run_folder(tmp_path / "run"), Wanted())), wish, box="gpu1")
    shown = document(found, wish, box="gpu1", took_s=0.41)
    assert (shown["schema"], shown["ok"], shown["exit_code"], shown["run"], shown["box"]) == (
        "babysit.usage/1",
        True,
        0,
        "train",
        "gpu1",
    )
    assert [phase["stage"] for phase in shown["phases"]] == ["prepare", "train", "train"]
    last = shown["phases"][-1]
    assert last["untrusted_metadata"]["command"] == ["python", "train.py"] and last["exit"]["exit_code"] == 0
    assert last["exit"]["untrusted_left_running"] == [] and last["gpu_memory_peak_bytes"] == 2 << 30
    assert shown["chart"]["attempt"] == 2 and shown["chart"]["buckets"][-1]["memory_bytes"][2] == 4000 * 1024
    assert any("OOM killer" in line for line in shown["untrusted_says"])
    # A stage that the run does not have is the box's word only.
    other = document(found, Wish(run(Stage("train", "b"))), box="gpu1", took_s=0.4)
    assert [phase["stage"] for phase in other["phases"]] == [None, None, None]
    assert other["phases"][0]["untrusted_stage"] == "01-prepare"
    json.dumps(shown, allow_nan=False)


WHY = [
    ("no-run", "the folder of run train is gone from gpu1", "babysit status"),
    ("not-monitored", "no stage of train is watched", "monitor = true"),
    ("no-file", "no watched stage of train (train) has begun yet", "babysit patrol --once"),
    ("no-match", "train has no such stage and attempt", "babysit usage gpu1 train"),
    ("no-sample", "what train used on gpu1 cannot be read", EVIL),
    (EVIL, "what train used on gpu1 cannot be read", EVIL),
]


@pytest.mark.parametrize(("code", "what", "helps"), WHY, ids=[code for code, _, _ in WHY])
def test_each_reason_for_nothing_has_its_words_and_its_next_step(code, what, helps):  # R157
    with pytest.raises(NotFound) as caught:
        profile_of(refused(code, EVIL), Wish(run()), box="gpu1")
    error = caught.value
    assert error.what.startswith(what) and error.exit_code == 3
    assert helps in (error.hint, *error.next, *error.untrusted) or helps in error.hint
    assert EVIL not in error.what + error.hint + "".join(error.next)


def test_a_file_that_shows_nothing_is_said_with_the_boxs_words_apart():
    with pytest.raises(NotFound) as caught:
        profile_of(refused("not-there", EVIL), Wish(None, "u.jsonl"), box="gpu1")
    assert caught.value.what == "u.jsonl on gpu1 shows nothing" and caught.value.untrusted == (EVIL,)


@pytest.mark.parametrize(
    "answer",
    [
        called(b""), called(b"{}"), called(b"[" * 99), called({}, 2), called(b"hello"), called(b'{"schema":"onbox.usage/1"}'),
        called({"schema": "onbox.ipc/1", "error": {"code": "a", "what": "b"}}, 3), called({"schema": "onbox.usage/1", "error": None}, 3),
        called(b'{"schema":"onbox.usage/1","now_ms":1e999,"left_out":0,"phases":[]}'), called(b"{" + b" " * 300_000 + b"}"),
    ],
)  # fmt: skip
def test_what_is_no_such_answer_is_not_believed(answer):  # S38
    with pytest.raises(ProbeUnreadable):
        profile_of(answer, Wish(run()), box="gpu1")


def test_texts_of_a_box_are_harmless_wherever_they_are_shown(tmp_path):  # S23
    lines = [
        {**metadata(stage=EVIL), "cmd": [EVIL] * 3, "executable": EVIL}, *ramp(),
        end(T0, left_running=[{"pid": 1, "command": EVIL}], monitor_errors=[EVIL], killed_by=EVIL, oom=EVIL),
    ]  # fmt: skip
    content = profile(written(tmp_path / "x.jsonl", lines), Wanted())
    content["phases"][0]["file"] = EVIL
    found = profile_of(called(content), Wish(None, "x.jsonl"), box="gpu1")
    plain = numbers(found)
    shown = [*table(plain), *charts(plain, 80, ascii_only=False), *remarks(plain)]
    shown.append(json.dumps(document(found, Wish(None, EVIL), box="gpu1", took_s=0.4), ensure_ascii=False))
    assert "\\x1b" in "".join(shown)
    assert not {char for line in shown for char in line if ord(char) < 32 or char == "\u202e"}


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for at, inner in enumerate(value[:2]):
            yield from leaves(inner, (*path, at))
    else:
        yield path


SAMPLE = None
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9), st.sampled_from([entry.decode("utf-8", "replace") for _, entry in ENTRIES]))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_answer_of_a_box_breaks_what_is_shown(tmp_path_factory, data):  # S22
    global SAMPLE  # noqa: PLW0603 - made once
    if SAMPLE is None:
        folder = tmp_path_factory.mktemp("sample")
        SAMPLE = json.dumps(
            profile(written(folder / "u.jsonl", [metadata(), tree(T0), *ramp(), end(T0)]), Wanted())
        )
    content = json.loads(SAMPLE)
    paths = list(leaves(content))
    for _ in range(data.draw(st.integers(1, 5))):
        *outer, last = data.draw(st.sampled_from(paths))
        place = content
        for step in outer:
            place = place[step]
        place[last] = data.draw(VALUES)
    try:
        found = profile_of(called(content), Wish(run()), box="gpu1")
    except ProbeUnreadable:
        return
    plain = numbers(found)
    shown = [*table(plain), *charts(plain, 80, ascii_only=False)]
    assert max(map(len, shown)) <= 80
    assert all(line.isprintable() for line in [*shown, *remarks(plain)])
    json.dumps(document(found, Wish(run()), box="gpu1", took_s=0.4), allow_nan=False)
