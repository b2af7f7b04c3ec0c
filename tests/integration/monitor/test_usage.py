"""`babysit usage` over a real ssh: what a run used, in a table, in curves, as a picture and as one document."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from usage_lines import T0, end, metadata, ramp, run_folder, tree, written

sys.path.insert(0, str(Path(__file__).parents[1] / "steering"))

import host_rig
from waiting import wait_until

pytestmark = pytest.mark.timeout(300)
gpu, desk = host_rig.gpu, host_rig.desk

ROOT = Path(__file__).parents[3]
SPEC = """
[run.plain]
box = "gpu1"
[[run.plain.stages]]
name = "train"
command = "true"

[run.seen]
box = "gpu1"
[[run.seen.stages]]
name = "prepare"
command = "true"
[[run.seen.stages]]
name = "train"
command = "true"
monitor = true
"""


def owned(box, path):
    owner = box.home.stat()
    for each in (path, *path.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


def folder_of(box, desk, run):
    ids = dict(host_rig.rows(desk, "SELECT json_extract(content, '$.spec.name'), run_id FROM run"))
    return box.home / ".local/state/babysit/runs" / ids[run]


@pytest.fixture
def seen(gpu, desk):
    """A run whose usage was written by hand, and its folder."""
    desk.spec(SPEC)
    assert desk.run("arm", "gpu1", "seen", "--again").returncode == 0
    folder = folder_of(gpu, desk, "seen")
    shutil.rmtree(folder / "usage", ignore_errors=True)
    made = run_folder(gpu.home / "made")
    (made / "usage").rename(folder / "usage")
    shutil.rmtree(made)
    owned(gpu, folder / "usage")
    return folder


def test_it_is_shown_over_one_connection_and_changes_nothing_here(gpu, desk, seen):  # R157
    before, known = gpu.traffic(), (desk.state / "ledger.db").stat().st_mtime_ns
    done = desk.run("usage", "gpu1", "seen")
    after = gpu.traffic()
    assert done.returncode == 0, done.said
    assert (after.connections - before.connections, after.sessions - before.sessions) == (1, 1)
    assert (desk.state / "ledger.db").stat().st_mtime_ns == known
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["STAGE", "TRY", "WALL", "END", "CPU", "%", "MEMORY", "GPU", "DISK", "PROC"]
    assert [line.split()[:2] for line in lines[1:4]] == [["prepare", "1"], ["train", "1"], ["train", "2"]]
    assert "train, attempt 1: killed by the OOM killer at 4.1 of 4.19 MB" in done.stdout
    assert (
        "watching took 0.05 s of CPU" in done.stdout
        and "attempt 2 from 2026-09-21 14:14:20 UTC" in done.stdout
    )
    assert "memory, MB  mean " in done.stdout and max(map(len, lines)) <= 80
    assert not host_rig.askers(gpu)
    # The same as a document, and as a picture.
    found = desk.run(
        "usage", "gpu1", "seen", "--json", "--stage", "train", "--attempt", "1", "--png", "u.png"
    )
    assert found.returncode == 0, found.said
    (phase,) = found.json["phases"]
    assert (phase["stage"], phase["attempt"], phase["exit"]["killed_by"], phase["drawn"]) == (
        "train",
        1,
        "oom",
        True,
    )
    assert phase["exit"]["oom"] == {"before": 0, "after": 1, "scope": "cgroup"}
    assert sum(bucket["samples"] for bucket in found.json["chart"]["buckets"]) == 11
    assert (desk.home / "u.png").read_bytes().startswith(b"\x89PNG")
    last = desk.run("usage", "gpu1", "seen", "--last", "5s", "--json").json
    assert sum(bucket["samples"] for bucket in last["chart"]["buckets"]) == 6
    assert desk.run("usage", "gpu1", "seen", "--png", "no/such/folder.png").returncode == 2


WATCHED = """
[run.real]
box = "gpu1"
[[run.real.stages]]
name = "train"
command = '''
python3 -c "
import os, time
held = b'x' * 60_000_000
open('held', 'w').close()
while not os.path.exists('go'): time.sleep(0.05)
"
exit 3'''
monitor = true
"""


def test_a_stage_that_was_really_watched_is_shown_while_it_runs_and_after(gpu, desk):  # R157
    desk.spec(WATCHED)
    assert desk.run("arm", "gpu1", "real").returncode == 0
    wait_until((gpu.home / "held").exists, 60, "the job's memory")

    def phase():
        found = desk.run("usage", "gpu1", "real", "--json")
        return found.json["phases"][-1] if found.returncode == 0 else {"samples": 0}

    def holds():
        found = phase()
        return found["samples"] > 1 and found["memory_peak_bytes"] > 60_000_000

    wait_until(holds, 60, "a sample of it")
    running = desk.run("usage", "gpu1", "real").stdout
    assert "running" in running.splitlines()[1] and "train, attempt 1: is running; last sample" in running, (
        running
    )
    (gpu.home / "go").touch()
    wait_until(lambda: phase().get("exit"), 60, "its end record")
    over = phase()
    assert (over["exit"]["exit_code"], over["exit"]["killed_by"], over["stage"], over["damaged"]) == (
        3,
        None,
        "train",
        0,
    )
    assert 60_000_000 < over["memory_peak_bytes"] < 120_000_000 and over["exit"]["wall_s"] > 0
    shown = desk.run("usage", "gpu1", "real").stdout
    assert " exit 3 " in shown and "watching took" in shown and "memory, MB  mean " in shown, shown


def test_each_way_to_have_nothing_says_what_to_do(gpu, desk, seen):  # R157
    assert desk.run("arm", "gpu1", "plain").returncode == 0
    plain = desk.run("usage", "gpu1", "plain")
    assert plain.returncode == 3 and "monitor = true" in plain.stderr, plain.said
    unknown = desk.run("usage", "gpu1", "sean")
    assert unknown.returncode == 3 and "did you mean seen?" in unknown.stderr, unknown.said
    box = desk.run("usage", "gpu1")
    assert box.returncode == 3 and "gpu1 is a box: BOX RUN" in box.stderr, box.said
    other = desk.run("usage", "gpu1", "seen", "--stage", "eval")
    assert other.returncode == 3 and "02-train.2" in other.stderr, other.said
    for words in (
        [],
        ["gpu1", "seen", "--file", "x"],
        ["gpu1", "--file", "x", "--stage", "train"],
        ["gpu1", "seen", "--last", "x"],
    ):
        assert desk.run("usage", *words).returncode == 2, words
    lost = desk.run("usage", "gpu1", "--file", "no/such", "--json")
    assert lost.returncode == 3 and lost.json["untrusted_lines"] == ["no such file or directory"], lost.said
    shutil.rmtree(seen / "usage")
    early = desk.run("usage", "gpu1", "seen")
    assert early.returncode == 3 and "no watched stage of seen (train) has begun yet" in early.stderr, (
        early.said
    )
    shutil.rmtree(seen)
    gone = desk.run("usage", "gpu1", "seen")
    assert gone.returncode == 3 and "is gone from gpu1" in gone.stderr, gone.said
    gpu.drop_sshd()
    try:
        assert desk.run("usage", "gpu1", "seen").returncode == 11
    finally:
        gpu.raise_sshd()


def test_a_path_is_data_wherever_it_stands(gpu, desk):  # S3
    name = "a 'b' \"c\" $(touch canary) `id` \\x -- ; ü"
    written(gpu.home / "samples" / name, [tree(T0 + at * 1000, mem_kb=at) for at in range(9)])
    owned(gpu, gpu.home / "samples")
    for typed in (f"samples/{name}", f"{gpu.inside_home}/samples/{name}", f"~/samples/{name}"):
        done = desk.run("usage", "gpu1", "--file", typed)
        assert (
            done.returncode == 0
            and "has no end record, as files of other programs have none" in done.stdout.replace("\n  ", " ")
        ), done.said
    assert not list(gpu.home.rglob("canary"))


def test_what_stands_in_a_file_cannot_act_on_a_terminal(gpu, desk):  # S23 S38
    evil = "x\x1b]52;c;AAAA\x07\u202e\r\n"
    lines = [
        {**metadata(stage=evil), "cmd": [evil] * 9}, b"\x1b[2J" * 100, b"[" * 200_000, *ramp(),
        end(T0, left_running=[{"pid": 1, "command": evil}], monitor_errors=[evil]),
    ]  # fmt: skip
    written(gpu.home / "evil.jsonl", lines, tail=b'{"kind":"tree\x1b')
    owned(gpu, gpu.home / "evil.jsonl")
    for words in (
        ["--file", "evil.jsonl"],
        ["--file", "evil.jsonl", "--json"],
        ["--file", "/dev/zero"],
        ["--file", ".", "--json"],
    ):
        done = desk.run("usage", "gpu1", *words)
        assert done.returncode in (0, 3), done.said
        assert not set(done.said) & {"\x1b", "\u202e", "\x07", "\r"} and "Traceback" not in done.said
    shown = desk.run("usage", "gpu1", "--file", "evil.jsonl").stdout
    assert "2 lines of its samples cannot be read" in shown.replace("\n  ", " ") and "\\x1b" in shown


PEAK = """
import sys
from onbox.usage import command as usage
usage.main([sys.argv[1], "--json"])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def test_memory_does_not_grow_with_the_file(tmp_path):  # R157
    def peak_kb(path):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        document, peak = done.stdout.splitlines()
        assert len(json.loads(document)["chart"]["buckets"]) > 90
        return int(peak)

    small = written(tmp_path / "small", ramp(200))
    large = tmp_path / "large"
    piece = "".join(json.dumps(line) + "\n" for line in ramp(200))
    with large.open("w") as file:
        for at in range(100):
            file.write(piece.replace(str(T0)[:8], str(int(str(T0)[:8]) + 4 * at)))
    grown = peak_kb(large) - peak_kb(small)
    print(
        f"{large.stat().st_size / 1e6:.0f} MB of samples took {grown} kB more than {small.stat().st_size / 1e3:.0f} kB"
    )
    assert grown < 4000
