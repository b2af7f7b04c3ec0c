import contextlib
import ctypes.util
import json
import os
import signal
import subprocess
import sys

import processes
import pytest
import rig
from waiting import wait_until

from onbox.monitor import ProcessMonitor, execute_with_monitoring

pytestmark = pytest.mark.timeout(180)


def run_tagged(words, tag, **options):
    return execute_with_monitoring(words, env={**os.environ, rig.TAG: tag}, quiet=True, **options)


def test_a_timeout_leaves_nobody_of_the_whole_tree(tmp_path):  # R159
    tag = rig.tagged()
    (tmp_path / "usage.jsonl").write_text("of an earlier run\n")
    monitors = []

    def run(folder, limit):
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_tagged(
                rig.stubborn(folder), tag, timeout=limit, grace_s=0.3, output_file=tmp_path / "usage.jsonl"
            )
        monitors.append(caught.value.monitor)
        samples = monitors[-1].get_samples()
        return max(json.loads(text)["aggregated"]["process_count"] for text in samples) > 4

    rig.whole_in_time(tmp_path, run)
    assert rig.alive(tag) == []
    end = monitors[-1].get_end()
    assert (end["killed_by"], end["left_running"]) == ("timeout", [])
    assert json.loads((tmp_path / "usage.jsonl").read_text().splitlines()[-1])["kind"] == "exit"


def test_what_ends_well_on_term_is_given_its_time(tmp_path):
    save = "trap 'sleep 0.3; echo saved; exit 0' TERM; echo up; touch \"$0\"; while :; do sleep 0.05; done"
    errors = []

    def run(folder, limit):
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_tagged(["sh", "-c", save, str(folder / "ready")], rig.tagged(), timeout=limit / 2, grace_s=60)
        errors.append(caught.value)

    rig.whole_in_time(tmp_path, run)
    assert errors[-1].output == b"up\nsaved\n"
    end = errors[-1].monitor.get_end()
    assert (end["exit_code"], end["signal"], end["killed_by"]) == (0, None, "timeout")


def test_who_is_stopped_hears_the_term_too():
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        execute_with_monitoring(["sh", "-c", "kill -STOP $$; sleep 300"], timeout=0.3, grace_s=60, quiet=True)
    assert caught.value.monitor.exit_code == -signal.SIGTERM, "behind the grace it had been killed"


PROGRAM = """
import json, subprocess, sys
from onbox.monitor import execute_with_monitoring
folder, words = sys.argv[1], sys.argv[2:]
try:
    execute_with_monitoring(words, grace_s=0.3, stdout=None, stderr=None)
except KeyboardInterrupt as error:
    end = error.monitor.get_end()
    print(json.dumps([end["killed_by"], end["left_running"]]))
    raise SystemExit(40)
"""


def test_an_interrupt_leaves_nobody_of_the_whole_tree(tmp_path):  # R159
    tag = rig.tagged()
    words = [sys.executable, "-c", PROGRAM, str(tmp_path), *rig.stubborn(tmp_path)]
    with subprocess.Popen(words, env=rig.environment(tag), stdout=subprocess.PIPE) as process:
        wait_until((tmp_path / "ready").exists, 45, "the tree to be whole")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(said)) == (40, ["user", []])
    assert rig.alive(tag) == []


# A thread that is not scheduled for a while: the command and its tree run before anybody here is told that they do.
LATE = """
import time
class Late(subprocess.Popen):
    def __init__(self, *words, **keywords):
        super().__init__(*words, **keywords)
        time.sleep(0.5)
subprocess.Popen = Late
"""
AT_ONCE = """
setsid sh -c 'trap "" TERM INT; sleep 300' &
( ( setsid sleep 300 & ) & )
kill -INT $PPID
sleep 300
"""


@pytest.mark.parametrize("pause", [True, False])
def test_an_interrupt_at_the_very_start_leaves_nobody_either(tmp_path, pause):  # R159
    tag = rig.tagged()
    program = PROGRAM.replace("\nfolder, words", LATE + "folder, words")
    program = program.replace("grace_s=0.3", f"grace_s=0.3, pause_for_attachment={pause}")
    words = [sys.executable, "-c", program, str(tmp_path), "sh", "-c", AT_ONCE]
    done = subprocess.run(
        words, env=rig.environment(tag), stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    assert (done.returncode, json.loads(done.stdout)) == (40, ["user", []])
    assert rig.alive(tag) == []


# Asked for the GPUs before the first sample, it interrupts, and only once.
SMI = """#!/bin/sh
mkdir "$0.asked" && kill -INT $PPID
exec sleep 1
"""


def test_an_interrupt_of_the_first_sample_leaves_nobody_of_who_did_not_wait_for_it(tmp_path):  # R159
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("the driver's own library is asked here")
    tag, smi = rig.tagged(), tmp_path / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    program = PROGRAM.replace("\nfolder, words", LATE + "folder, words")
    program = program.replace("grace_s=0.3", "grace_s=0.3, pause_for_attachment=False, enable_gpu=True")
    words = [sys.executable, "-c", program, str(tmp_path), "sh", "-c", "setsid sleep 300 & exec sleep 300"]
    env = rig.environment(tag, PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    left = sleepers(tag)
    for pid in rig.alive(tag):
        os.kill(pid, signal.SIGKILL)
    assert (done.returncode, json.loads(done.stdout), left) == (40, ["user", []], [])
    assert smi.with_suffix(".asked").exists()


# An orphan that writes, and has ended before the command does.
WRITES = """
(sh -c 'echo $$ >pid.new; mv pid.new pid; head -c 3000000 /dev/zero >written' &)
until [ -s pid ]; do sleep 0.01; done
until grep -q 'State:.Z' /proc/$(cat pid)/status; do sleep 0.01; done
"""


def test_what_an_orphan_wrote_whom_no_sample_saw_is_in_the_end_record(tmp_path):
    code, monitor = execute_with_monitoring(
        ["sh", "-c", WRITES], base_interval_ms=10**7, cwd=tmp_path, timeout=120
    )
    assert (code, (tmp_path / "written").stat().st_size) == (0, 3_000_000)
    assert monitor.get_end()["wchar"] > 3_000_000


def test_whoever_interrupts_twice_does_not_wait(tmp_path):
    tag = rig.tagged()
    program = PROGRAM.replace("grace_s=0.3", "grace_s=1000")
    words = [sys.executable, "-c", program, str(tmp_path), *rig.stubborn(tmp_path)]
    with subprocess.Popen(words, env=rig.environment(tag), stdout=subprocess.PIPE) as process:
        wait_until(lambda: len(sleepers(tag)) == 2, 45, "the tree to be whole")
        wait_until((tmp_path / "ready").exists, 45, "all of it")
        process.send_signal(signal.SIGINT)
        # `sleep 300` obeys the TERM of the first one: then the grace has begun.
        wait_until(lambda: not sleepers(tag), 45, "the first interrupt to be heard")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(said)) == (40, ["user", []])
    assert rig.alive(tag) == []


def sleepers(tag):
    return [pid for pid in rig.alive(tag) if processes.of(pid, "cmdline") == b"sleep\x00300\x00"]


def test_after_an_ordinary_end_the_rest_runs_on_and_is_named(tmp_path):
    tag = rig.tagged()
    os.mkfifo(tmp_path / "go")
    script = "(setsid sh -c 'echo on; : >up; read line <go; echo still; : >wrote; exec sleep 100' &)"
    script += "; while [ ! -e up ]; do sleep 0.01; done; exit 3"
    code, monitor = run_tagged(["sh", "-c", script], tag, cwd=tmp_path)
    try:
        left = monitor.get_end()["left_running"]
        assert code == 3
        assert {one["pid"] for one in left} == set(rig.alive(tag)) and len(left) == 1
        (tmp_path / "go").write_text("\n")
        wait_until((tmp_path / "wrote").exists, 45, "what was left to write on, and not to die of it")
        wait_until(lambda: monitor.stdout == b"on\nstill\n", 45, "what it wrote")
        wait_until(lambda: sleep_of(tag), 45, "what was left to go on")
    finally:
        for pid in (last := rig.alive(tag)):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(processes.lives, last)), 45, "them to end")
    execute_with_monitoring(["true"])  # whoever was left and has ended since is collected with the next
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


REUSED = """
import os, pathlib, subprocess, time
from onbox.monitor import execute_with_monitoring
_, monitor = execute_with_monitoring(["sh", "-c", "setsid sleep 100 & while ! grep -qs sleep /proc/$!/comm; do :; done"])
(left,) = monitor.get_end()["left_running"]
os.kill(left["pid"], 9)
os.waitpid(left["pid"], 0)  # the program itself collects it, and its number is given again
time.sleep(0.05)
pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(left["pid"] - 1))
mine = subprocess.Popen(["sh", "-c", "exit 9"])
assert mine.pid == left["pid"], "somebody was faster"
os.waitid(os.P_PID, mine.pid, os.WEXITED | os.WNOWAIT)
execute_with_monitoring(["true"])  # collects what was left and has ended since
print(mine.wait())
"""


def test_who_has_the_number_of_one_that_was_left_is_not_collected(tmp_path):  # R159
    done = subprocess.run(
        ["unshare", "-pf", "--mount-proc", sys.executable, "-c", REUSED],
        env=rig.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare:" in done.stderr:
        pytest.skip("no pids of our own here")
    assert (done.stdout, done.stderr) == ("9\n", "")


def sleep_of(tag):
    return [pid for pid in rig.alive(tag) if processes.of(pid, "cmdline") == b"sleep\x00100\x00"]


@pytest.mark.parametrize(
    ("kind", "megabytes"), [("exec", 40), rig.seldom(("exec", 200)), rig.seldom(("call", 40)), ("call", 200)]
)
def test_the_peak_of_a_short_job_is_what_the_job_itself_knows(megabytes, kind, tmp_path):  # R158
    job = f"""
held = bytearray({megabytes} << 20)
for at in range(0, len(held), 4096): held[at] = 1
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""
    words = [sys.executable, "-I", "-S", "-c", job]
    if kind == "exec":
        done = subprocess.run(
            [sys.executable, "-m", "onbox", "exec", "--json", "--", *words],
            env=rig.environment(),
            capture_output=True,
            check=True,
        )
        known, end = int(done.stdout), json.loads(done.stderr)
    else:  # our own size would be its floor: a program that is small
        caller = f"from onbox.monitor import *\nfrom onbox.monitor.api import *\nc, m = execute_with_monitoring({words!r})\nprint(m.stdout.decode() + m.get_end())"
        done = subprocess.run(
            [sys.executable, "-c", caller], env=rig.environment(), capture_output=True, check=True
        )
        known, end = done.stdout.splitlines()
        known, end = int(known), json.loads(end)
    print(
        f"{megabytes} MB: the job {known}, the kernel {end['max_rss_kb']}, summary {end['summary']['peak_mem_rss_kb']}"
    )
    assert end["max_rss_exact"] is True
    assert abs(end["max_rss_kb"] - known) <= known / 100
    assert abs(end["summary"]["peak_mem_rss_kb"] - known) <= known / 100


def test_a_job_of_an_instant_has_a_sample_and_an_end(tmp_path):  # R158
    for n in range(10):
        path = tmp_path / f"{n}.jsonl"
        code, monitor = execute_with_monitoring(["true"], output_file=path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["kind"] for line in lines][:2] == ["metadata", "tree"] and lines[-1]["kind"] == "exit"
        assert code == 0 and len(monitor.get_samples()) >= 2
        end = monitor.get_end()
        assert end["samples_taken"] >= 2 and end["wall_s"] > 0
        assert end["max_rss_exact"] is False and end["minflt"] > 0


def test_cpu_is_what_the_kernel_counted_whatever_the_samples_saw():  # R158
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(time.process_time())"
    code, monitor = execute_with_monitoring(
        [sys.executable, "-S", "-c", burn], base_interval_ms=60_000, text=True
    )
    end = monitor.get_end()
    assert (code, len(monitor.get_samples())) == (0, 2)
    assert end["utime_s"] + end["stime_s"] == pytest.approx(float(monitor.stdout), abs=0.15)


def test_the_last_sample_has_the_totals_to_the_end():  # R158
    job = ["sh", "-c", "head -c 3000000 /dev/zero >/dev/null; exit 3"]
    code, monitor = execute_with_monitoring(job, base_interval_ms=60_000)
    end, last = monitor.get_end(), json.loads(monitor.get_samples()[-1])
    assert (code, end["samples_taken"], last["aggregated"]["process_count"]) == (3, 2, 0)
    assert last["aggregated"]["syscall_write_bytes"] == end["wchar"] >= 3_000_000
    assert last["parent"]["mem_rss_kb"] == 0


def test_orphans_that_ended_are_counted_and_no_zombie_is_left(tmp_path):  # R158
    burn = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    (tmp_path / "burn.py").write_text(burn)
    # A zombie can be signalled too: this comes to its end when the orphan was collected.
    script = '(setsid "$0" -S burn.py & echo $! >pid); while kill -0 $(cat pid); do sleep 0.02; done'
    _, monitor = execute_with_monitoring(["sh", "-c", script, sys.executable], cwd=tmp_path)
    end = monitor.get_end()
    assert end["utime_s"] + end["stime_s"] > 0.35
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_callers_own_children_are_never_collected_nor_ended(tmp_path):  # R159
    with subprocess.Popen(["sleep", "60"]) as sleeper, subprocess.Popen(["sh", "-c", "exit 9"]) as ended:
        # An orphan of the caller's own, which comes to us while we take orphans in.
        orphaning = subprocess.Popen(
            ["sh", "-c", "sleep 0.3; sleep 50 & echo $!; exit 4"], stdout=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            execute_with_monitoring(["sleep", "30"], timeout=1, grace_s=5, quiet=True)
        orphan = int(orphaning.stdout.readline())
        try:
            assert sleeper.poll() is None and processes.lives(orphan)
            assert (ended.wait(45), orphaning.wait(45)) == (9, 4)
        finally:
            os.kill(orphan, signal.SIGKILL)
            orphaning.stdout.close()
            sleeper.kill()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(orphan, 0)


def test_a_status_that_somebody_else_took_is_none_and_hangs_nobody():
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from onbox.monitor import execute_with_monitoring\n"
        "code, m = execute_with_monitoring(['sh', '-c', 'sleep 0.2; exit 3'], start_new_session=True)\n"
        "print(code, m.get_end()['exit_code'], len(m.get_samples()) > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=rig.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "None None True\n"


def test_a_process_of_somebody_else_is_watched_and_left_alone(tmp_path):
    script = "while [ ! -e go ]; do sleep 0.02; done; exit 6"
    with subprocess.Popen(["sh", "-c", script], cwd=tmp_path) as process:
        monitor = ProcessMonitor.from_pid(process.pid, 50, 100)
        assert monitor.get_pid() == process.pid and monitor.is_running()
        wait_until(lambda: monitor.sample_once()["aggregated"]["mem_rss_kb"] > 0, 45, "its memory")
        (tmp_path / "go").touch()
        monitor.run()
        assert process.wait() == 6
    end = monitor.get_end()
    assert (end["exit_code"], end["signal"], monitor.exit_code) == (None, None, None)
    assert not monitor.is_running() and len(monitor.get_samples()) > 1
    with pytest.raises(ProcessLookupError):
        ProcessMonitor.from_pid(process.pid)


def test_killed_the_watcher_leaves_the_command_alive(tmp_path):  # R159
    tag = rig.tagged()
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path),
        "sh",
        "-c",
        f"touch {tmp_path}/up; sleep 0.5; touch {tmp_path}/on; exec sleep 70",
    ]
    try:
        with subprocess.Popen(words, env=rig.environment(tag)) as process:
            wait_until((tmp_path / "up").exists, 45, "the command to run")
            process.kill()
        wait_until((tmp_path / "on").exists, 45, "the command to go on")
        wait_until(lambda: rig.alive(tag), 45, "the command to live, whatever it becomes")
    finally:
        for pid in rig.alive(tag):
            os.kill(pid, signal.SIGKILL)


def test_a_tree_that_forks_on_and_on_is_ended(tmp_path):  # R159
    tag = rig.tagged()
    chain = 'trap "" TERM; n=0; while :; do n=$((n+1)); (sleep 0.05 &) ; sleep 0.01; done'
    with pytest.raises(subprocess.TimeoutExpired):
        run_tagged(["sh", "-c", chain], tag, timeout=0.7, grace_s=0.2)
    wait_until(lambda: not rig.alive(tag), 45, "the last of them to end")


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_thousand_processes_are_watched_and_ended(tmp_path):  # R158 R159
    tag = rig.tagged()
    script = 'n=0; while [ $n -lt 1000 ]; do sleep 300 & n=$((n+1)); done; touch "$0"; wait'
    ends = []

    def run(folder, limit):
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_tagged(["sh", "-c", script, str(folder / "ready")], tag, timeout=limit, grace_s=10)
        ends.append(caught.value.monitor.get_end())
        samples = caught.value.monitor.get_samples()
        return max(json.loads(text)["aggregated"]["process_count"] for text in samples) >= 1000

    rig.whole_in_time(tmp_path, run, limits=(20, 100))
    end = ends[-1]
    assert not rig.alive(tag) and end["left_running"] == []
    print(
        f"1,001 processes: {end['samples_taken']} samples, {end['monitor_cpu_s']:.2f} s of processor time in {end['wall_s']:.0f} s"
    )
