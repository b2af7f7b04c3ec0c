"""Files of `onbox exec`, read by denet's own readers: as many samples, and the same peaks. And the other way round."""

import json
import os
import signal
import subprocess
import sys
from math import ceil
from pathlib import Path
from statistics import mean

import peers
import pytest
from peers import PYTHON, ROOT
from waiting import wait_until

from onbox import monitor

pytestmark = pytest.mark.timeout(300)
READER = Path(__file__).with_name("denet_reads.py")

GROWS = "import time\nkept = []\nfor n in range(8):\n    kept.append(bytearray(8 << 20)); time.sleep(0.06)"
WAVES = "import time\nfor n in range(6):\n    kept = bytearray((60 if n % 2 else 4) << 20)\n    time.sleep(0.15)\n    del kept"
UNTIL = "import sys, time, pathlib\nstop = pathlib.Path(sys.argv[1])\n"
WAITS = f"{UNTIL}while not stop.exists(): time.sleep(0.02)"
FOR_EVER = (
    f"{UNTIL}n = 0\nwhile not stop.exists():\n    n += 1\n    kept = bytearray((60 if n % 2 else 4) << 20)\n"
    "    time.sleep(0.1 + n % 5 * 0.04)\n    del kept"
)
TREE = f"{sys.executable} -c 'import time; x = bytearray(30 << 20); time.sleep(0.4)' & sleep 0.3 & sleep 0.5; wait"
COMMANDS = {
    "one that grows": ([sys.executable, "-c", GROWS], [], 0),
    "waves": ([sys.executable, "-c", WAVES], [], 0),
    "a tree": (["sh", "-c", TREE], [], 0),
    "without its children": (["sh", "-c", TREE], ["--no-children"], 0),
    "a moment": (["true"], [], 0),
    "words that look like keys": (["sh", "-c", 'sleep 0.1; : \\"pid\\": \\"kind\\":\\"exit\\" {'], [], 0),
    "killed": (["sh", "-c", "sleep 0.2; kill -9 $$"], [], 137),
}


@pytest.fixture(scope="module")
def _denet():
    asked = subprocess.run([PYTHON, "-c", "import denet"], capture_output=True, check=False)
    if asked.returncode:
        reason = f"no denet for {PYTHON}; next: make interop"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def words(path, command, options=()):
    said = [sys.executable, "-m", "onbox", "exec", "--quiet", "--out", path, "--interval", "25"]
    return [*said, "--max-interval", "50", *options, "--", *command]


def watched(path, command, options=()):
    return subprocess.run(
        words(path, command, options), cwd=ROOT, capture_output=True, check=False, timeout=100
    ).returncode


def watched_until(path, command, enough):
    """Nothing comes back: the command was watched until `enough()`, then `stop` beside `path` ended it."""
    with subprocess.Popen(words(path, command), cwd=ROOT) as process:
        try:
            wait_until(lambda: process.poll() is not None or enough(), 100, "enough samples")
            path.with_name("stop").touch()
            assert process.wait(60) == 0
        finally:
            process.kill()


def lines(path):
    """The samples of a file, by nobody's reader; of one that is being written the whole lines."""
    text = path.read_text().rpartition("\n")[0] if path.exists() else ""
    found = [json.loads(line) for line in text.splitlines()]
    return [one for one in found if one["kind"] in {"tree", "sample"}]


def theirs(path):
    done = subprocess.run([PYTHON, READER, path], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("_denet")
def test_denet_finds_as_many_samples_and_the_same_peaks(name, tmp_path):
    command, options, code = COMMANDS[name]
    path = tmp_path / "usage.jsonl"
    assert watched(path, command, options) == code
    samples, found, ours = lines(path), theirs(path), monitor.generate_summary_from_file(path)
    totals = [one["aggregated"] if one["kind"] == "tree" else one for one in samples]
    assert len(samples) >= 1
    assert (
        found["count"] == found["summary"]["sample_count"] == len(samples) == len(monitor.load_metrics(path))
    )
    assert found["with_metadata"] > found["count"]
    assert found["windows"] == ceil(len(samples) / 4)
    highest = max(total["mem_rss_kb"] for total in totals)
    assert found["summary"]["peak_mem_rss_kb"] == highest == max(found["highest"])
    assert found["used"]["max_mem_mb"] == pytest.approx(highest / 1024)
    assert found["used"]["max_cpu"] == pytest.approx(max(total["cpu_usage"] for total in totals))
    for field, moments in found["peaks"].items():
        values = [total[field] for total in totals]
        # It smooths over five samples, and what is then 0.8 of the highest of all is a peak.
        smooth = [mean(values[max(0, at - 2) : at + 3]) for at in range(len(values))]
        at_moment = dict(zip([one["ts_ms"] for one in samples], smooth, strict=True))
        assert all(at_moment[at] >= 0.799 * max(values) for at in moments), (field, moments)
    same = ("sample_count", "max_processes", "max_threads", "total_time_secs")
    assert {key: found["summary"][key] for key in same} == {key: json.loads(ours)[key] for key in same}
    assert json.loads(ours)["peak_mem_rss_kb"] >= highest, "the kernel's own figure counts too"


@pytest.mark.usefixtures("_denet")
def test_the_processes_of_a_tree_are_theirs_too(tmp_path):
    path = tmp_path / "usage.jsonl"
    stop = path.with_name("stop")
    tree = f"for n in 1 2 3; do {sys.executable} -c '{WAITS}' {stop} & done; wait"

    def children():
        return {child["pid"] for one in lines(path) for child in one["children"]}

    watched_until(path, ["sh", "-c", tree], lambda: len(children()) >= 3)
    assert len(children()) >= 3
    assert set(theirs(path)["tree"]) == children()


@pytest.mark.usefixtures("_denet")
def test_peaks_are_where_the_waves_are(tmp_path):
    path, so_far = tmp_path / "usage.jsonl", tmp_path / "so_far.jsonl"

    def found():
        so_far.write_text(path.read_text().rpartition("\n")[0] + "\n" if lines(path) else "")
        return lines(path) and theirs(so_far)["peaks"]["mem_rss_kb"]

    watched_until(path, [sys.executable, "-c", FOR_EVER, path.with_name("stop")], found)
    assert theirs(so_far)["peaks"]["mem_rss_kb"]


@pytest.mark.usefixtures("_denet")
def test_we_read_what_denet_wrote(tmp_path):
    path = tmp_path / "theirs.jsonl"
    here = f"pathlib.Path({str(path)!r})"
    enough = f"\nimport pathlib\nwhile not {here}.exists() or {here}.read_text().count(chr(10)) < 9: time.sleep(0.02)"
    text = (
        f"from denet import execute_with_monitoring\n"
        f"execute_with_monitoring({[sys.executable, '-c', GROWS + enough]!r}, base_interval_ms=25, output_file={str(path)!r},"
        f" write_metadata=True)"
    )
    subprocess.run([PYTHON, "-c", text], check=True, timeout=100)
    found = theirs(path)
    assert found["count"] == len(monitor.load_metrics(path)) > 3
    ours = json.loads(monitor.generate_summary_from_file(path))
    for key in ("sample_count", "max_processes", "max_threads", "peak_mem_rss_kb", "total_time_secs"):
        assert ours[key] == found["summary"][key], key


def test_denet_is_a_peer_and_no_part_of_this_project():
    for folder in ("babysit", "fleet", "handbook", "onbox", "patrol", "sentinels", "templates"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "import denet" not in path.read_text(), path
    assert "denet==0.10.3" in (Path(peers.__file__).with_name("requirements.txt")).read_text()
    assert COMMANDS["killed"][2] == signal.SIGKILL + 128
