"""The profile of a run on the box: what a known file comes to, and that no file breaks it or makes it long."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from hypothesis import given, settings
from hypothesis import strategies as st
from usage_lines import T0, end, gpu, metadata, metrics, ramp, run_folder, tree, written

from onbox.usage import command as usage
from onbox.usage import profile as profiling
from onbox.usage.buckets import Buckets
from onbox.usage.files import Nothing, Wanted
from onbox.usage.profile import profile
from onbox.usage.remarks import remarks
from onbox.usage.says import charts, curves, picture, table
from onbox.wire import identity

ROOT = Path(__file__).parents[3]
MOMENTS = st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e12)), min_size=1, max_size=60)


def of_file(path, **wanted):
    return profile(path, Wanted(**wanted))


def one(tmp_path, *lines, tail=b""):
    (phase,) = of_file(written(tmp_path / "u.jsonl", list(lines), tail))["phases"]
    return phase


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.integers(2, 200))
def test_buckets_keep_every_low_and_high_and_never_become_more(moments, most):
    buckets = Buckets(most)
    moments.sort(key=lambda moment: moment[0])
    for before, (at_ms, value) in zip([moments[0], *moments], moments, strict=False):
        buckets.add(at_ms, at_ms - before[0], {"x": value})
    rows = buckets.rows()
    values = [value for _, value in moments]
    assert len(rows) <= most and sum(row["samples"] for row in rows) == len(moments)
    assert min(row["x"][0] for row in rows) == pytest.approx(min(values), abs=1)
    assert max(row["x"][2] for row in rows) == pytest.approx(max(values), abs=1)
    assert all(row["x"][0] <= row["x"][1] <= row["x"][2] for row in rows)
    times = [row["at_ms"] for row in rows]
    assert times == sorted(set(times)) and times[0] <= moments[0][0] and times[-1] <= moments[-1][0]


def test_a_mean_weighs_each_value_by_the_time_that_it_held():
    buckets = Buckets(2)
    for at_ms, held_ms, value in ((0, 0, 999.0), (900, 900, 10.0), (1000, 100, 110.0), (1999, 0, 0.0)):
        buckets.add(at_ms, held_ms, {"x": value})
    assert [row["x"] for row in buckets.rows()] == [[10.0, 20.0, 999.0], [0.0, 0.0, 0.0]]
    buckets.add(-5, 0, {"x": 1.0})
    assert buckets.before == 1


def test_the_last_of_it_is_counted_from_the_last_moment_that_is_believed(tmp_path):  # R157
    lines = [metadata(), *ramp(11), tree(T0 + 10**13)]
    document = profile(written(tmp_path / "one.jsonl", lines), Wanted(last_s=3.0))
    assert document["phases"][0]["damaged"] == 1
    assert document["chart"]["from_ms"] == T0 + 7000
    assert sum(bucket["samples"] for bucket in document["chart"]["buckets"]) == 4


def test_of_very_many_stages_those_that_are_left_out_are_counted(tmp_path):  # R157
    (tmp_path / "usage").mkdir()
    for number in range(1, 27):
        written(tmp_path / f"usage/{number:02d}-one.1.jsonl", [metadata(), *ramp(2), end(T0 + 1000), "torn"])
    document = profile(tmp_path, Wanted())
    assert len(document["phases"]) + document["left_out"] == 26 and document["left_out"] >= 2
    assert document["phases"][-1]["stage"] == "26-one"
    said = list(remarks({**document, "left_out": 1}))
    assert said[-1] == "1 older one is not shown; each by --stage and --attempt"
    assert "one, attempt 1: 1 line of its samples cannot be read" in said


def test_a_known_file_comes_to_what_it_must(tmp_path):  # R157
    lines = [metadata(), *ramp(disk_read_bytes=0), end(T0 + 10_000)]
    lines[5]["aggregated"]["disk_read_bytes"] = 0
    for at, line in enumerate(lines[1:-1]):
        line["aggregated"].update(
            disk_read_bytes=at * 500_000,
            disk_write_bytes=at * 250_000,
            cgroup_limit_kb=4096,
            cgroup_used_kb=3500,
        )
    document = of_file(written(tmp_path / "u.jsonl", lines))
    (phase,) = document["phases"]
    assert (phase["samples"], phase["damaged"], phase["torn"], phase["wall_s"]) == (11, 0, False, 10.0)
    assert (phase["cpu_mean_pct"], phase["cpu_peak_pct"], phase["processes_peak"]) == (50.0, 50.0, 2)
    assert phase["memory_peak_bytes"] == 3000 * 1024  # the kernel's figure, above the largest sample
    assert (phase["memory_limit_bytes"], phase["cgroup_peak_bytes"]) == (4096 * 1024, 3500 * 1024)
    assert (phase["read_bytes"], phase["write_bytes"]) == (7_000_000, 8_000_000)
    rows = document["chart"]["buckets"]
    assert rows[0]["at_ms"] == T0 and sum(row["samples"] for row in rows) == 11
    assert {tuple(row["io_bytes_s"]) for row in rows[1:]} == {(750_000, 750_000, 750_000)}
    assert max(row["memory_bytes"][2] for row in rows) == 2000 * 1024
    assert "gpu_pct" not in rows[0]


def test_without_an_end_record_samples_alone_must_do(tmp_path):
    phase = one(tmp_path, metadata(), *ramp())
    assert phase["exit"] is None and phase["alive"] is None and phase["wall_s"] == 10.0
    assert (phase["cpu_mean_pct"], phase["memory_peak_bytes"]) == (50.0, 2000 * 1024)


def test_a_foreign_file_of_samples_has_neither_head_nor_end(tmp_path):
    lines = [{"kind": "sample", **metrics(T0 + at * 100, 10.0 * at, 500)} for at in range(5)]
    document = of_file(written(tmp_path / "u.jsonl", lines))
    (phase,) = document["phases"]
    assert (phase["samples"], phase["processes_peak"], phase["cpu_peak_pct"], phase["stage"]) == (
        5,
        1,
        40.0,
        None,
    )
    assert next(remarks(document)).startswith(
        "u.jsonl: has no end record, as files of other programs have none"
    )


@pytest.mark.parametrize(
    ("given", "busy", "memory"),
    [
        (gpu(80.0, 20.0, used=5 << 30), 50.0, 10 << 30),
        (gpu(80.0, used=5 << 30, mine=3 << 30), 80.0, 3 << 30),
        ({**gpu(80.0, used=5 << 30), "device_delta": [{"device_index": 0, "memory_used": 1 << 30}, {"memory_used": -5}]}, 80.0, 1 << 30),
        ({"system_metrics": "x", "process_data": 3}, None, None),
        ({"system_metrics": [{"system_utilization_gpu": "9"}, 7]}, None, 0),
    ],
)  # fmt: skip
def test_gpus_are_read_as_their_driver_tells_of_them(tmp_path, given, busy, memory):
    phase = one(tmp_path, tree(T0, gpu=given), tree(T0 + 1000, gpu=given))
    assert (phase["gpu_mean_pct"], phase["gpu_memory_peak_bytes"]) == (busy, memory)


GOOD = json.dumps(tree(T0 + 1000)).encode()
BAD_LINES = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"kind":"tree"}', b'{"kind":"tree","ts_ms":5}', b"x" * 3_000_000,
    b'{"kind":"tree","ts_ms":5,"aggregated":[]}', GOOD.replace(b'"ts_ms"', b'"when"'), b'{"kind":"sample","ts_ms":1e400,"cpu_usage":1}',
    b'{"kind":"sample","ts_ms":-4,"cpu_usage":1}', b'{"kind":"sample","ts_ms":true,"cpu_usage":1}', b'{"kind":"sample","ts_ms":9999999999999,"cpu_usage":1}',
    b'{"kind":"sample","ts_ms":' + b"9" * 100_000 + b',"cpu_usage":1}', b'{"kind":"sample","ts_ms":NaN,"cpu_usage":1}', b'{"kind":"sample","ts_ms":5,"cpu_usage":-1}',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:30]))
def test_a_damaged_line_is_counted_and_the_rest_is_read(tmp_path, line):
    phase = one(tmp_path, metadata(), GOOD, line, tree(T0 + 2000))
    assert (phase["samples"], phase["damaged"], phase["torn"]) == (2, 1, False)


@pytest.mark.parametrize(
    ("tail", "torn", "samples"), [(b"", False, 2), (GOOD[:-40], True, 2), (b"{", True, 2), (GOOD, False, 3)]
)
def test_a_torn_last_line_is_no_damage(tmp_path, tail, torn, samples):
    phase = one(tmp_path, metadata(), tree(T0), tree(T0 + 500), tail=tail)
    assert (phase["samples"], phase["torn"], phase["damaged"]) == (samples, torn, 0)


def test_lines_of_kinds_that_are_not_known_are_passed_over(tmp_path):
    phase = one(
        tmp_path,
        {"kind": "env", "ts_ms": T0},
        metadata(),
        {"kind": "child", "ts_ms": T0},
        {"kind": "new"},
        {},
        tree(T0),
    )
    assert (phase["samples"], phase["damaged"]) == (1, 0)


def test_a_clock_that_is_set_back_neither_breaks_nor_bends_the_curve(tmp_path):
    document = of_file(
        written(tmp_path / "u.jsonl", [tree(T0 + at) for at in (0, 1000, -500_000, 2000, 3000)])
    )
    assert document["chart"]["out_of_order"] == 1 and document["phases"][0]["samples"] == 5
    assert document["chart"]["buckets"][0]["at_ms"] == T0


def test_stages_and_attempts_are_told_and_the_newest_is_drawn(tmp_path):  # R157
    folder = run_folder(tmp_path / "run")
    document = of_file(folder)
    assert [(phase["stage"], phase["attempt"], phase["drawn"]) for phase in document["phases"]] == [
        ("01-prepare", 1, False), ("02-train", 1, False), ("02-train", 2, True),
    ]  # fmt: skip
    assert document["chart"]["attempt"] == 2 and document["chart"]["buckets"][0]["at_ms"] == T0 + 60_000
    first = of_file(folder, attempt=1)
    assert [phase["drawn"] for phase in first["phases"]] == [True, True]
    assert sum(row["samples"] for row in first["chart"]["buckets"]) == 22
    for stage in ("train", "02-train"):
        assert [phase["attempt"] for phase in of_file(folder, stage=stage)["phases"]] == [1, 2]
    last = of_file(folder, last_s=5.0)
    assert (
        sum(row["samples"] for row in last["chart"]["buckets"]) == 6 and last["phases"][-1]["samples"] == 21
    )
    assert len(of_file(folder, points=2)["chart"]["buckets"]) == 2


@pytest.mark.parametrize(
    ("wanted", "code"),
    [({"stage": "eval"}, "no-match"), ({"attempt": 9}, "no-match"), ({"stage": "rain"}, "no-match")],
)
def test_what_is_not_there_is_said_with_what_is(tmp_path, wanted, code):
    with pytest.raises(Nothing) as caught:
        of_file(run_folder(tmp_path / "run"), **wanted)
    assert caught.value.code == code and "02-train.2" in caught.value.what


def empty_folder(path):
    path.mkdir()


def unwatched(path):
    path.mkdir()
    (path / "plan").write_text("format=1\nstage=01-train 5 fail 1\n")


def not_begun(path):
    unwatched(path)
    (path / "usage").mkdir()
    with (path / "plan").open("a") as plan:
        plan.write("monitor=01-train\n")


def no_sample(path):
    written(path, [metadata(), b"some log", b"and more"])


def listening(path):
    with socket.socket(socket.AF_UNIX) as one_end:
        one_end.bind(str(path))


REFUSED = [
    (Path.absolute, "not-there"), (empty_folder, "no-run"), (unwatched, "not-monitored"), (not_begun, "no-file"), (no_sample, "no-sample"),
    (os.mkfifo, "not-plain"), (listening, "unreadable"), (lambda path: path.write_bytes(b""), "no-sample"), (lambda path: path.symlink_to("/dev/zero"), "not-plain"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "code"), REFUSED, ids=[code for _, code in REFUSED])
def test_where_there_is_nothing_to_show_the_answer_says_why(tmp_path, capsys, make, code):
    path = tmp_path / "x"
    make(path)
    assert usage.main(["--json", "--", str(path)]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["exit_code"], document["error"]["code"]) == (False, 3, code)
    assert usage.main([str(path)]) == 3
    said = capsys.readouterr()
    assert not said.out and said.err.startswith(f"usage: {path}: ")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["a", "--points", "0"],
        ["a", "--points", "201"],
        ["a", "--attempt", "x"],
        ["a", "--last", "nan"],
        ["--no"],
    ],
)
def test_a_wrong_command_line_is_refused(words, capsys):
    assert usage.main(words) == 2
    assert "usage" in capsys.readouterr().err


def test_a_command_that_lives_is_told_from_one_that_is_gone(tmp_path):
    me = identity.of(os.getpid())
    ours = {"host": os.uname().nodename, "boot_id": me.boot_id, "start_ticks": me.start_ticks}
    head = {**metadata(**ours), "pid": me.pid}
    assert one(tmp_path, head, tree(T0))["alive"] is True
    assert one(tmp_path, {**head, "onbox": {**ours, "start_ticks": 1}}, tree(T0))["alive"] is False
    assert one(tmp_path, {**head, "onbox": {**ours, "boot_id": "another"}}, tree(T0))["alive"] is False
    assert one(tmp_path, {**head, "onbox": {**ours, "host": "elsewhere"}}, tree(T0))["alive"] is None
    assert one(tmp_path, head, tree(T0), end(T0))["alive"] is None


ENDS = [
    ({}, "exit 0", None),
    ({"exit_code": 3}, "exit 3", None),
    ({"exit_code": None, "signal": 15, "killed_by": "user"}, "SIGTERM", "ended by SIGTERM on request"),
    ({"exit_code": None, "signal": 9, "killed_by": "timeout"}, "timeout", "its time ran out, and it was ended by SIGKILL"),
    ({"exit_code": None, "signal": 11, "killed_by": "unknown", "core_dumped": True}, "SIGSEGV", "died by SIGSEGV, core dumped; nothing shows who sent it"),
    ({"exit_code": None, "signal": 77, "killed_by": "unknown"}, "signal 77", "died by signal 77; nothing shows who sent it"),
    ({"exit_code": None}, "no status", None),
    (
        {"exit_code": None, "signal": 9, "killed_by": "oom", "oom": {"before": 2, "after": 3, "scope": "machine"}, "summary": {"peak_mem_rss_kb": 9_765_625}}, "oom",
        "killed by the OOM killer at 10 GB; the machine's count of such kills went from 2 to 3",
    ),
    ({"left_running": [{"pid": 5, "command": "tail -f"}] * 9}, "exit 0", "left running: " + ", ".join(["tail -f (pid 5)"] * 8) + " and 1 more"),
    ({"monitor_errors": ["usage.jsonl: No space left on device"]}, "exit 0", "its watcher met an error: usage.jsonl: No space left on device"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "word", "says"), ENDS, ids=[str(word) for _, word, _ in ENDS])
def test_an_end_is_told_with_its_evidence(tmp_path, changes, word, says):  # R157
    document = of_file(written(tmp_path / "u.jsonl", [metadata(), *ramp(), end(T0 + 10_000, **changes)]))
    said = [line.removeprefix("u.jsonl: ") for line in remarks(document)]
    cost = "11 samples, 2 missed; watching took 0.05 s of CPU"
    assert said == ([says, cost] if says else [cost])
    head, row = table(document)
    assert row[head.index("END") : head.index("CPU")].strip() == word


@pytest.mark.parametrize(
    ("record", "signal", "by"),
    [
        ("nonce=0f0f\nattempt=2\nat=1\n", 15, "user"),
        ("nonce=0f0f\nattempt=2\nat=1\n", 9, "user"),
        ("nonce=0f0f\nattempt=2\nat=1\n", 11, "unknown"),
        ("nonce=0f0f\nattempt=1\nat=1\n", 15, "unknown"),
        ("nonce=beef\nattempt=2\nat=1\n", 15, "unknown"),
        ("nonce=0f0f\nattempt=x\n", 15, "unknown"),
        (None, 15, "unknown"),
    ],
)
def test_who_was_stopped_by_its_owner_is_told_so(tmp_path, record, signal, by):
    folder = run_folder(tmp_path / "run")
    (folder / "nonce").write_text("0f0f\n")
    if record is not None:
        (folder / "stopping").write_text(record)
    gone = end(T0, exit_code=None, signal=signal, killed_by="unknown")
    written(folder / "usage/03-more.2.jsonl", [metadata(), *ramp(), gone])
    (phase,) = profile(folder, Wanted(stage="more"))["phases"]
    assert phase["exit"]["killed_by"] == by


def test_the_oom_killer_is_named_with_what_it_found(tmp_path):  # R157
    document = of_file(run_folder(tmp_path / "run"), attempt=1)
    assert (
        "train, attempt 1: killed by the OOM killer at 4.1 of 4.19 MB, after its memory rose for 9 s; "
        "its cgroup's count of such kills went from 0 to 1"
    ) in list(remarks(document))


def test_a_table_and_its_curves_stay_within_their_width(tmp_path):
    folder = run_folder(tmp_path / "run")
    for name in ("07-a-stage-with-a-very-long-name-that-goes-on.2.jsonl",):
        big = {"exit_code": None, "signal": 11, "wall_s": 1e7, "read_bytes": 10**15}
        written(folder / "usage" / name, [metadata(), *ramp(gpu=gpu(100.0, mine=79 << 30)), end(T0, **big)])
    document = of_file(folder)
    for width in (60, 80, 120):
        lines = [*table(document, width), *charts(document, width, ascii_only=False)]
        assert max(map(len, lines)) <= width
    assert picture(document).startswith(b"\x89PNG")
    assert "GPU" in table(document)[0] and "GPU" not in table(of_file(folder, stage="prepare"))[0]


def test_what_never_moved_is_said_and_not_drawn(tmp_path):
    document = of_file(
        written(tmp_path / "u.jsonl", [tree(T0 + at * 1000, mem_kb=100 * at) for at in range(9)])
    )
    lines = list(charts(document, 80, ascii_only=True))
    assert lines[1] == "from 2026-09-21 14:13:20 UTC by the box's clock"
    assert lines[-1] == "all the time: CPU 50 % of a core, disk 0 B/s, processes 1"
    assert [line for line in lines if line.startswith("memory, kB  mean ")]
    assert set(curves(document).series) == {"CPU, % of a core", "memory, kB", "disk, B/s", "processes"}
    only = of_file(written(tmp_path / "v.jsonl", [tree(T0)]))
    assert list(charts(only, 80, ascii_only=True)) == [] and picture(only) is None


def test_the_document_is_short_whatever_the_run_is_long(tmp_path):
    wild = "\U0001f600" * 900
    for attempt in range(1, 41):
        lines = [
            {**metadata(), "cmd": [wild] * 30, "executable": wild},
            *([tree(T0 + at * 37, 1.23456789 * at, 10**12 + at, at, gpu=gpu(at / 7, mine=10**15 + at)) for at in range(1000)] if attempt == 40 else ramp(3)),
            end(T0, left_running=[{"pid": 9, "command": wild}] * 20, monitor_errors=[wild] * 5),
        ]  # fmt: skip
        written(tmp_path / f"run/usage/01-train.{attempt}.jsonl", lines)
    document = of_file(tmp_path / "run")
    assert len(json.dumps(document)) <= profiling.MAX_BYTES < 128 * 1024
    assert document["phases"][-1]["attempt"] == 40 and document["left_out"] + len(document["phases"]) == 40
    assert 100 <= len(document["chart"]["buckets"]) <= 200


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted(
    {
        *end(0),
        *end(0)["summary"],
        *metadata()["onbox"],
        *metrics(0),
        "aggregated",
        "gpu",
        "cmd",
        "pid",
        "t0_ms",
        "kind",
    }
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_value_anywhere_breaks_it(tmp_path_factory, data):
    lines = [metadata(), tree(T0), tree(T0 + 500, gpu=gpu(5.0)), end(T0 + 900)]
    for _ in range(data.draw(st.integers(1, 4))):
        line = data.draw(st.sampled_from(lines))
        inner = [value for value in line.values() if isinstance(value, dict)]
        data.draw(st.sampled_from([line, *inner]))[data.draw(st.sampled_from(KEYS))] = data.draw(ANYTHING)
    path = written(tmp_path_factory.mktemp("any") / "u.jsonl", lines)
    try:
        document = of_file(path)
    except Nothing:
        return
    json.dumps(document, allow_nan=False)
    assert max(map(len, [*table(document), *charts(document, 80, ascii_only=True)])) <= 80
    list(remarks(document))


def test_an_answer_that_cannot_be_written_is_said_in_a_line(tmp_path):
    path = written(tmp_path / "u.jsonl", [metadata(), tree(T0), end(T0 + 900)])
    words = [sys.executable, "-m", "onbox", "usage", str(path)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    said = "usage: the answer cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (74, said)
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    done = subprocess.run(closed, cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_memory_that_nobody_saw_is_not_said_to_be_none(tmp_path):
    last = end(T0 + 3)
    last["summary"]["peak_mem_rss_kb"] = 0  # gone before it was looked at, and smaller than its watcher
    lines = [metadata(), tree(T0, mem_kb=0), last]
    assert one(tmp_path, *lines)["memory_peak_bytes"] is None


@pytest.mark.parametrize("version", sorted({"3.8", "3.13"} & set(pythons.found())))
def test_another_python_says_the_same(tmp_path, version):
    folder = run_folder(tmp_path / "run")
    said = []
    for python in (sys.executable, pythons.found()[version]):
        done = subprocess.run(
            [python, "-m", "onbox", "usage", folder, "--json"], cwd=ROOT, capture_output=True, check=True
        )
        said.append({**json.loads(done.stdout), "now_ms": 0})
    assert said[0] == said[1]
    env = {"LC_ALL": "C", "PATH": os.environ["PATH"], "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [pythons.found()[version], "-m", "onbox", "usage", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
        env=env,
    )
    assert shown.stdout.isascii() and b"train    1" in shown.stdout and b"*" in shown.stdout
