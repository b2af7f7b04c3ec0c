"""Samples of real processes: whose they are, what they add up to, and that looking costs little and grows with nothing."""

import itertools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import pythons
import rig
from waiting import wait_until

from onbox.meter.sampler import Options, Sampler
from onbox.meter.tree import Tree

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("sampling.py")
PYTHONS = pythons.found()
SLEEP = ["sleep", "300"]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def made():
    """`made(options)` is a sampler whose descriptors are given back with the test."""
    found = []

    def make(options):
        found.append(Sampler(options))
        return found[-1]

    yield make
    for each in found:
        each._tree.close()


def sampled(cmd, python=sys.executable, limit=None, **wish):
    """Every line that a sampler gave for `cmd`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, SCRIPT, json.dumps({"cmd": cmd, **wish})],
        capture_output=True,
        env=environment,
        cwd="/",
        check=False,
        timeout=120,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{"kind"')]
    assert lines[0]["kind"] == "metadata" and lines[-1]["kind"] == "exit"
    return lines


def trees(lines):
    return [line for line in lines if line["kind"] == "tree"]


def at_last(lines):
    """The last sample in which anything lived: the one that was waited for."""
    return [line for line in trees(lines) if line["aggregated"]["process_count"]][-1]


def took(lines, who):
    """CPU seconds that the samples say."""
    return sum(
        (line[who] or {}).get("cpu_usage", 0) / 100 * (line["at"] - before["at"])
        for before, line in itertools.pairwise(trees(lines))
    )


def python(source):
    return [sys.executable, "-S", "-c", source]


@pytest.mark.parametrize("version", ["3.8", rig.seldom("3.11"), "3.13"])
def test_even_true_has_a_sample_and_an_end(version):
    if version not in PYTHONS:
        pytest.skip(f"no Python {version} here")
    lines = sampled(["true"], PYTHONS[version])
    first, *_, end = trees(lines) + lines[-1:]
    assert lines[0]["cmd"] == ["true"] and lines[0]["onbox"]["format"] == 1
    assert first["aggregated"]["mem_rss_kb"] == first["parent"]["cpu_usage"] == 0
    assert (end["exit_code"], end["samples_taken"]) == (0, len(trees(lines)))
    assert end["rchar"] < 100_000 and end["minflt"] > 0
    assert end["utime_s"] + end["stime_s"] < 1


@pytest.mark.parametrize("megabytes", [40, rig.seldom(200)])
def test_the_peak_of_a_short_job_is_exact(megabytes):
    lines = sampled(python(f"x = b'x' * ({megabytes} << 20)"), interval_s=0.2)
    end = lines[-1]
    assert end["max_rss_exact"]
    assert megabytes * 1024 <= end["max_rss_kb"] <= megabytes * 1024 + 14_000, "and a Python's own"
    assert end["summary"]["peak_mem_rss_kb"] >= end["max_rss_kb"]


@pytest.mark.parametrize("lists", [True, False], ids=["lists of children", "a scan of all"])
def test_a_tree_is_summed_and_each_process_is_named_once(lists):
    cmd = ["sh", "-c", "sleep 300 & (sleep 301; true) & wait"]
    oldest = PYTHONS[min(PYTHONS, key=lambda version: int(version[2:]))]
    lines = sampled(cmd, oldest, lists=lists, until={"children": ["sh", "sleep", "sleep"]}, more=4)
    last = at_last(lines)
    assert last["aggregated"]["process_count"] == 4
    assert sorted(child["command"] for child in last["children"]) == ["sh", "sleep", "sleep"]
    parts = [last["parent"], *(child["metrics"] for child in last["children"])]
    for key in ("mem_rss_kb", "mem_vms_kb", "thread_count", "syscall_read_bytes", "page_faults_cached"):
        assert last["aggregated"][key] == sum(part[key] for part in parts), key
    assert last["mem_rss_kb"] == last["aggregated"]["mem_rss_kb"]
    named = [line["cmd"] for line in lines if line["kind"] == "child" and line["exe"].endswith("sleep")]
    named = [cmd for cmd in named if cmd]  # in the middle of its exec it has no words
    assert sorted(named) == [["sleep", "300"], ["sleep", "301"]]


# A grandchild in a session of its own whose parent is gone before anybody looks.
ORPHAN = '(setsid sh -c \'(exec "$0" -S -c "$1" $$ "$2") &\' "$@" &); exec sleep 300'
GROWS = """
import os, sys, time
while os.getppid() == int(sys.argv[1]): time.sleep(0.01)
held = chr(120) * (60 << 20)
open(sys.argv[2], "w").close()
time.sleep(300)
"""


def orphaned(folder, **wish):
    there = str(folder / "there")
    return sampled(["sh", "-c", ORPHAN, "sh", sys.executable, GROWS, there], after=there, **wish)


@pytest.mark.parametrize(
    "wish",
    [
        {"alone": True},
        rig.seldom({"mark": "0123456789abcdef"}),
        rig.seldom({"alone": True, "lists": False}),
        {"mark": "0123456789abcdef", "lists": False},
    ],
    ids=["alone", "by its mark", "alone, a scan", "by its mark, a scan"],
)
def test_an_orphan_counts_and_a_stranger_does_not(wish, tmp_path):
    until = {"mem_rss_kb": 61 << 10, "children": [Path(sys.executable).name[:15]]}
    lines = orphaned(tmp_path, until=until, stranger=True, **wish)
    most = at_last(lines)
    assert most["mem_rss_kb"] > 60 * 1024
    assert most["aggregated"]["process_count"] == 2
    assert ["sleep", "300"] not in [line["cmd"] for line in lines if line["kind"] == "child"]


def test_an_orphan_without_session_or_mark_is_left_to_who_may_have_started_it(tmp_path):
    lines = orphaned(tmp_path, interval_s=0.1, more=9)
    assert max(line["mem_rss_kb"] for line in trees(lines)) < 40 * 1024


def test_orphans_that_ended_are_told_and_their_figures_stay():
    job = """
import os, time
ready, tell = os.pipe()
for i in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open("/dev/null", "w").write("x" * 1000000)
            os.write(tell, b"%8d" % os.getpid())
            time.sleep(0.3)
        os._exit(0)
for pid in [int(os.read(ready, 8)) for i in range(3)]:
    try:
        while not os.kill(pid, 0): time.sleep(0.02)  # it can be told so until it was collected
    except ProcessLookupError: pass
"""
    lines = sampled(python(job), alone=True)
    assert lines[-1]["wchar"] >= 3_000_000
    written = [line["aggregated"]["syscall_write_bytes"] for line in trees(lines)]
    assert written == sorted(written), "what was written stays written"
    assert written[-1] >= 3_000_000
    assert lines[-1]["left_running"] == []


def test_children_that_came_and_went_between_two_samples_count():
    job = "import subprocess, sys\nfor i in range(6): subprocess.run([sys.executable, '-S', '-c', 'sum(range(2000000))'])"
    lines = sampled(python(job), interval_s=0.4)
    end = lines[-1]
    assert end["utime_s"] + end["stime_s"] == pytest.approx(took(lines, "aggregated"), rel=0.25, abs=0.15)
    assert took(lines, "parent") < took(lines, "aggregated") / 2, "the command itself did little"
    assert end["summary"]["avg_cpu_usage"] > 0


def test_the_cpu_of_a_loop_is_what_the_kernel_says():
    lines = sampled(python("import time\nwhile time.process_time() < 0.5: pass"))
    end = lines[-1]
    assert end["utime_s"] + end["stime_s"] == pytest.approx(0.5, abs=0.25)
    assert took(lines, "parent") == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize(
    "name",
    rig.some(
        ["a b", "a) S 1 2 (", "((", "x\ny", "\x1b[31m", "ü", b"\xff\xfe".decode("utf-8", "surrogateescape")],
        2,
    ),
)
def test_a_command_may_have_any_name(tmp_path, name):
    program = tmp_path / "bin"
    program.mkdir()
    (program / name).symlink_to("/bin/sleep")
    short = os.fsencode(name)[:15].decode("utf-8", "replace")
    lines = sampled(
        ["sh", "-c", 'PATH=$0:$PATH; "$1" 300 & wait', str(program), name],
        until={"children": [short]},
        more=4,
    )
    last = at_last(lines)
    assert [child["metrics"]["thread_count"] for child in last["children"]] == [1]
    shown = os.fsencode(name).decode("utf-8", "replace")
    assert last["children"][0]["command"] == short
    assert [line["cmd"] for line in lines if line["kind"] == "child"][-1] == [shown, "300"]


def test_what_an_argument_hides_is_hidden_in_every_line():
    lines = sampled(
        ["sh", "-c", "sleep 300 & wait", "x", "--token", "hunter2"], until={"children": ["sleep"]}
    )
    assert "hunter2" not in json.dumps(lines)
    assert lines[0]["cmd"][-2:] == ["--token", "***"]


def test_without_children_the_command_stands_alone(tmp_path):
    there = str(tmp_path / "there")
    cmd = ["sh", "-c", 'sleep 300 & : >"$0"; wait', there]
    lines = sampled(cmd, after=there, until={"mem_rss_kb": 1}, more=5, options={"include_children": False})
    kinds = {line["kind"] for line in lines}
    assert kinds == {"metadata", "sample", "exit"}
    assert all(line["process_count"] <= 1 for line in lines if line["kind"] == "sample")
    assert lines[-1]["summary"]["peak_mem_rss_kb"] > 0


def test_the_largest_children_have_a_place_and_all_count():
    job = """
import os, time
ready, tell = os.pipe()
for size in range(8, -1, -1):
    if size == 0:
        [os.read(ready, 1) for _ in range(8)]
    if os.fork() == 0:
        held = b"x" * (size << 20)
        os.write(tell, b"x")
        break
time.sleep(300)
"""
    lines = sampled(python(job), until={"process_count": 10}, options={"max_children": 3})
    last = max(trees(lines), key=lambda line: line["aggregated"]["process_count"])
    assert last["aggregated"]["process_count"] == 10
    assert len(last["children"]) == 3 and last["aggregated"]["children_left_out"] == 6
    shown = [child["metrics"]["mem_rss_kb"] for child in last["children"]]
    assert last["mem_rss_kb"] > sum(shown) + last["parent"]["mem_rss_kb"]
    assert min(shown) > 5 * 1024


def test_what_it_was_started_in():
    env = sampled(["true"], options={"env": True, "stage": "01-x", "attempt": 2})[0]
    assert env["env"]["kernel"] == os.uname().release and env["env"]["lscpu"]["sockets"] >= 1
    assert env["env"]["affinity_inherited"]
    assert (env["onbox"]["stage"], env["onbox"]["attempt"]) == ("01-x", 2)


def test_what_is_dear_or_seldom_changes_comes_now_and_then():
    lines = sampled(["sh", "-c", "sleep 300 & wait"], until={"mem_pss_kb": 1}, more=4)
    asked = [line for line in trees(lines) if "mem_pss_kb" in line["aggregated"]]
    assert len(asked) == 1 and len(trees(lines)) > 5
    assert 0 < asked[0]["aggregated"]["mem_pss_kb"] <= asked[0]["mem_rss_kb"] + 256
    if Path("/proc/pressure/memory").exists():
        assert set(asked[0]["aggregated"]["psi_mem"]) == {"some_avg10", "full_avg10"}


@pytest.fixture
def child():
    """A command that is there already; ended at the end."""
    started = []

    def start(cmd, **more):
        started.append(subprocess.Popen(cmd, start_new_session=True, **more))
        return started[-1]

    yield start
    for one in started:
        os.killpg(one.pid, 9)
        one.wait()
        if one.stdout is not None:
            one.stdout.close()


def test_who_runs_already_counts_from_now_with_the_memory_it_has(made, child):
    one = child(
        python(
            "import sys, time\nx = b'x' * (20 << 20)\nprint(sum(range(9000000)), flush=True)\ntime.sleep(300)"
        ),
        stdout=subprocess.PIPE,
    )
    assert one.stdout is not None and one.stdout.readline()
    sampler = made(Options())
    head, first = map(json.loads, sampler.attach(one.pid))
    assert head["cmd"][1] == "-S" and head["executable"]
    assert first["aggregated"]["mem_rss_kb"] > 20 * 1024
    assert first["aggregated"]["page_faults_cached"] == first["aggregated"]["cpu_usage"] == 0
    whole = made(Options(since_process_start=True))
    assert json.loads(whole.attach(one.pid)[-1])["aggregated"]["page_faults_cached"] > 5000
    with pytest.raises(ProcessLookupError):
        Sampler(Options()).attach(2**22 + 1)


def test_moved_is_memory_or_another_set_of_processes(made, child, tmp_path):
    one = child(
        ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.01; done; exec sleep 300', str(tmp_path / "go")]
    )
    two = child(SLEEP)
    busy, still = made(Options()), made(Options())
    busy.attach(one.pid)
    still.attach(two.pid)
    wait_until(lambda: (busy.sample(), busy.moved())[1], 45, "its children come and go")
    wait_until(lambda: (still.sample(), not still.moved())[1], 45, "a sleeper does not move")
    (tmp_path / "go").touch()
    wait_until(lambda: (busy.sample(), not busy.moved())[1], 45, "it rests")


def test_the_dead_are_not_living_and_the_living_are_found_at_once(made, child):
    one = child(python("import os, time\nif os.fork() == 0: os._exit(0)\ntime.sleep(300)"))
    wait_until(
        lambda: any(processes.stat(pid)[:2] == ["Z", str(one.pid)] for pid in processes.pids()),
        45,
        "a zombie",
    )
    sampler = made(Options())
    sampler.attach(one.pid)
    assert [pid for pid, _ in sampler.living()] == [one.pid]
    last = json.loads(sampler.sample()[-1])
    assert (last["aggregated"]["process_count"], last["children"]) == (1, [])


def test_a_child_of_a_thread_is_found(made, child):
    job = "import subprocess, threading, time\nfor i in range(40): threading.Thread(target=time.sleep, args=(300,)).start()\n"
    one = child(python(job + "threading.Thread(target=lambda: subprocess.run(['sleep', '300'])).start()"))
    sampler = made(Options())
    sampler.attach(one.pid)
    wait_until(
        lambda: (sampler.sample(), len(sampler.living(fresh=False)) == 2)[1], 45, "the child of a thread"
    )


def reads():
    """How often this process has asked the kernel for bytes."""
    return int(Path("/proc/self/io").read_text().split()[5])


def test_the_work_does_not_grow_with_other_processes(made, child):
    one = child(SLEEP)
    sampler = made(Options())
    sampler.attach(one.pid)

    def usual():
        found = []
        for _ in range(10):
            before = reads()
            sampler.sample()
            found.append(reads() - before)
        return sorted(found)[5]  # now and then it also looks at what changes seldom

    alone = usual()
    child(["sh", "-c", "for i in $(seq 99); do sleep 300 & done; wait"])
    assert usual() <= alone + 8, "a look at the lists of children, and no more"
    for _ in range(30):
        child(SLEEP)
    usual()  # each is looked at once
    assert usual() <= alone + 8, "children of ours that are none of the tree's"


def test_a_tree_that_sleeps_is_not_looked_through_because_others_start_something(made, child):
    sampler = made(Options())
    sampler.attach(child(SLEEP).pid)
    found = []
    for _ in range(15):
        subprocess.run(["true"], check=True)
        before = reads()
        between = reads()
        sampler.sample()
        found.append(reads() - between - (between - before))
    assert sorted(found)[7] <= 2, "the memory of its cgroup, and at first its own highest"


def few():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.parametrize("count", [200, rig.seldom(1000)])
@pytest.mark.parametrize("limit", [None, few], ids=["plenty of descriptors", "few descriptors"])
def test_many_processes(limit, count):
    job = f"import os, time\nfor i in range({count - 1}):\n if os.fork() == 0: time.sleep(300); os._exit(0)\ntime.sleep(300)"
    lines = sampled(python(job), limit=limit, interval_s=0.3, until={"process_count": count}, alone=True)
    assert max(line["aggregated"]["process_count"] for line in trees(lines)) == count
    assert lines[-1]["left_running"] == []


def held():
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_are_bounded_and_given_back(made, child):
    one = child(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 300 & done; wait"])
    before = held()
    sampler = made(Options())
    sampler.attach(one.pid)
    wait_until(lambda: (sampler.sample(), len(sampler.living()) == 10)[1], 45, "all of it")
    assert held() - before <= sampler._files.most + 3
    sampler._tree.close()
    assert held() <= before


FLAT = """
import os, resource, sys
from onbox.meter import records
from onbox.meter.records import Child, Metrics
from onbox.meter.summary import Summary
from onbox.meter.sampler import Options, Sampler

def held():
    return int(open('/proc/self/statm').read().split()[1]) * 4

def feed(whole, first, last):
    for at in range(first, last):
        total = Metrics(1700000000000 + at * 100, at % 90, 1000 + at % 7777, at, at, at, at, at, at, at, at, at, 3, at)
        parent = records.process(total, 0)
        records.tree(total, 2, parent, [Child(7, '"x"', parent)], {'cgroup_used_kb': at})
        whole.add(total, 2, {'cgroup_used_kb': at})
    whole.as_dict()

whole = Summary()
feed(whole, 0, 5000)
before = held()
feed(whole, 5000, int(sys.argv[2]))
print('summary', held() - before)
sampler = Sampler(Options())
sampler.attach(os.getppid())
for _ in range(500): sampler.sample()
before = held()
for _ in range(int(sys.argv[1])): sampler.sample()
print('sampler', held() - before)
assert whole.as_dict()['sample_count'] == int(sys.argv[2])
"""


def grown(samples, summed):
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(samples), str(summed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return {name: int(kib) for name, kib in map(str.split, done.stdout.splitlines())}


def test_memory_does_not_grow_with_the_number_of_samples():
    found = grown(1500, 20_000)
    assert found["summary"] < 1024 and found["sampler"] < 1024


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_memory_does_not_grow_over_a_hundred_thousand_real_samples():
    found = grown(100_000, 100_000)
    assert found["summary"] < 1024 and found["sampler"] < 2048


def test_a_limit_is_found_behind_however_many_mounts(child, tmp_path):  # R43
    # The kernel gives a list of mounts in pieces of a page; one overlay with its layers may fill that.
    pid = child(SLEEP).pid
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.current").write_text("2097152\n")
    (group / "memory.max").write_text("4194304\n")
    proc = tmp_path / "proc"
    for name in (str(pid), str(os.getpid()), "self"):
        (proc / name).mkdir(parents=True)
        for each in Path("/proc", name).iterdir():
            (proc / name / each.name).symlink_to(each)
    for each in ("loadavg", "vmstat", "pressure"):
        (proc / each).symlink_to(Path("/proc", each))
    (proc / str(pid) / "cgroup").unlink()
    (proc / str(pid) / "cgroup").write_text("0::/\n")
    (proc / "self" / "mountinfo").unlink()
    others = "".join(f"{at} 1 0:9 / /m/{at} rw - overlay x lowerdir={'x' * 90}\n" for at in range(1000))
    (proc / "self" / "mountinfo").write_text(others + f"9999 1 0:9 / {group} rw - cgroup2 cgroup2 rw\n")
    sampler = Sampler(Options(), proc=str(proc))
    try:
        lines = [json.loads(line) for line in sampler.attach(pid)]
    finally:
        sampler._tree.close()
    assert lines[0]["capabilities"]["cgroup"] == "v2"
    assert lines[-1]["aggregated"]["cgroup_limit_kb"] == 4096


def test_a_root_that_is_not_there():
    with pytest.raises(ProcessLookupError):
        Tree(2**22 + 1, alone=False)
