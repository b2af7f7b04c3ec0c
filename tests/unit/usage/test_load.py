"""Files of samples read back, in every shape that ours and denet's have; and what they tell."""

import json
import stat

import pytest

from onbox.meter import records
from onbox.meter.records import Child, Metrics
from onbox.usage import analysis, load

T0 = 1_700_000_000_000


def tree(at_s, cpu=0.0, rss=0, children=()):
    total = Metrics(T0 + int(at_s * 1000), cpu, rss, thread_count=2)
    parent = records.process(total._replace(mem_rss_kb=rss // 2), 0)
    listed = [Child(pid, json.dumps(name), records.process(total, 0)) for pid, name in children]
    return records.tree(total, 1 + len(listed), parent, listed, {"cgroup_limit_kb": 4096})


HEAD = b'{"kind":"metadata","pid":7,"cmd":["x"],"executable":"/x","t0_ms":1}\n'
CHILD = records.child(T0, 8, 7, ["y"], "/y")
LINES = [tree(0), tree(1, 100, 2048, [(8, "y")]), tree(3, 50, 1024, [(8, "y")])]
END = records.line({"kind": "exit", "exit_code": 3, "signal": None, "killed_by": None, "wall_s": 9.0})


@pytest.fixture
def file(tmp_path):
    def write(*lines):
        path = tmp_path / "x.jsonl"
        path.write_bytes(b"".join(lines))
        return path

    return write


def test_only_samples_come_back(file):
    path = file(HEAD, LINES[0], CHILD, *LINES[1:], END)
    found = load.load_metrics(path)
    assert [one["ts_ms"] - T0 for one in found] == [0, 1000, 3000]
    assert load.load_metrics(str(path), include_metadata=True)[0]["pid"] == 7


@pytest.mark.parametrize("torn", [b'{"kind":"tree","ts_ms":17', b"\x00\xff\n", b"[1]\n", b"5\n", b"\n"])
def test_a_torn_or_foreign_line_is_passed_over(file, torn):
    assert len(load.load_metrics(file(HEAD, *LINES, torn))) == 3


def test_nothing_is_an_empty_list_and_a_missing_file_is_said(file, tmp_path):
    assert load.load_metrics(file()) == []
    with pytest.raises(FileNotFoundError):
        load.load_metrics(tmp_path / "no")


def test_lines_of_denet_without_kinds_and_its_lists(file):
    plain = [{"ts_ms": T0 + at, "cpu_usage": 1.0, "mem_rss_kb": 5 + at} for at in (0, 100)]
    head = {"pid": 1, "cmd": ["x"], "executable": "", "t0_ms": 1}
    lines = [json.dumps(one).encode() + b"\n" for one in (head, *plain)]
    assert load.load_metrics(file(*lines)) == plain
    assert load.load_metrics(file(json.dumps(plain, indent=2).encode())) == plain
    assert load.generate_summary_from_file(file(*lines))["peak_mem_rss_kb"] == 105


def test_the_summary_of_a_file_and_of_its_end(file):
    found = load.generate_summary_from_file(file(HEAD, *LINES))
    assert json.loads(found) == dict(found.items())
    assert (found["sample_count"], found["peak_mem_rss_kb"], found["max_processes"]) == (3, 2048, 2)
    assert (found["total_time_secs"], found["cgroup_limit_kb"], found["exit_code"]) == (3.0, 4096, None)
    assert found["avg_cpu_usage"] == pytest.approx((100 + 2 * 50) / 3, abs=0.01)
    with_end = load.generate_summary_from_file(file(HEAD, *LINES, END))
    assert (with_end["exit_code"], with_end["elapsed_time"]) == (3, 9.0)
    told = json.loads(END) | {"summary": {"peak_mem_rss_kb": 9999, "sample_count": 77, "odd": 1}}
    exact = load.generate_summary_from_file(file(HEAD, *LINES, records.line(told)))
    assert (exact["peak_mem_rss_kb"], exact["sample_count"], exact.get("odd")) == (9999, 3, None)


def test_the_summary_of_samples_in_memory():
    texts = [line.decode() for line in LINES]
    found = load.generate_summary_from_metrics_json([*texts, "garbage", "{}"], 12.5)
    assert (found["sample_count"], found["elapsed_time"], found["peak_mem_rss_kb"]) == (3, 12.5, 2048)


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_what_is_saved_comes_back(tmp_path, form):
    samples = [json.loads(line) for line in LINES]
    path = tmp_path / "out"
    load.save_metrics(samples, path, form)
    assert load.load_metrics(path) == samples
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if form == "jsonl":
        assert '"t0_ms":' in path.read_text().splitlines()[0]


def test_rows(tmp_path):
    samples = [json.loads(line) for line in LINES]
    load.save_metrics(samples, tmp_path / "out.csv", "csv")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 4
    found = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert (found["ts_ms"], found["cpu_usage"], found["mem_rss_kb"], found["process_count"]) == (
        str(T0 + 1000),
        "100.0",
        "2048",
        "2",
    )
    assert load.convert_format([], "csv") == ""
    with pytest.raises(ValueError, match="xml"):
        load.convert_format(samples, "xml")


def values(*cpu):
    return [{"ts_ms": T0 + 100 * at, "cpu_usage": one} for at, one in enumerate(cpu)]


@pytest.mark.parametrize(
    ("cpu", "peaks"),
    [
        ((0, 5, 10, 50, 100, 60, 10, 0, 90, 20, 0, 0), [4, 8]),
        ((0, 5, 10), [2]),
        ((7,), [0]),
        ((0, 0, 0), []),
        ((), []),
        ((9, 9, 9), [0]),
        ((9, 0, 0, 9), [0, 3]),
    ],
)
def test_the_highest_is_always_a_peak(cpu, peaks):
    assert [(one["ts_ms"] - T0) // 100 for one in analysis.find_peaks(values(*cpu))] == peaks


def test_peaks_of_a_sum():
    samples = [json.loads(line) for line in LINES]
    assert [one["ts_ms"] for one in analysis.find_peaks(samples, "mem_rss_kb")] == [T0 + 1000]


def test_windows():
    mean = analysis.aggregate_metrics([json.loads(line) for line in LINES], 2)
    assert [one["_window_size"] for one in mean] == [2, 1]
    assert mean[0]["aggregated"]["cpu_usage"] == 50 and mean[0]["ts_ms"] == T0 + 500
    assert mean[0]["kind"] == "tree"
    assert analysis.aggregate_metrics(values(1, 5, 3), 3, "max")[0]["cpu_usage"] == 5
    for bad in ((0, "mean"), (3, "mode")):
        with pytest.raises(ValueError, match="window"):
            analysis.aggregate_metrics(values(1), *bad)


def test_statistics_of_a_tree_and_of_each_process():
    samples = [json.loads(line) for line in LINES]
    found = analysis.resource_utilization(samples)
    assert (found["avg_cpu"], found["max_mem_mb"], found["total_time_sec"]) == (50.0, 2.0, 3.0)
    each = analysis.process_tree_analysis(samples)
    assert each["main_process"]["max_memory_mb"] == 1.0
    assert each["child_processes"][8]["command"] == "y" and each["child_processes"][8]["max_cpu"] == 100
    assert analysis.resource_utilization([]) == analysis.process_tree_analysis([]) == {}
