import csv
import itertools
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
import pythons
import rig
from waiting import wait_until

import onbox
from onbox.monitor import ProcessMonitor, execute_with_monitoring


def number(version):
    return tuple(map(int, version.split(".")))


PYTHONS = pythons.found()
ENDS = [which(PYTHONS, key=number) for which in (min, max)]
pytestmark = pytest.mark.timeout(180)
EACH_PYTHON = [one if one in ENDS else rig.seldom(one) for one in PYTHONS]  # only 3.8 has its own way


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        ("sh -c 'exit 3'", 3),
        ("""sh -c 'test "a b" = "$0"; exit $?' "a b" """, 0),
        ("sh -c 'kill -TERM $$'", -15),
        (["sh", "-c", "kill -9 $$"], -9),
    ],
)
def test_the_exit_code_is_the_one_of_subprocess(words, code):  # R63
    found, monitor = execute_with_monitoring(words)
    end = monitor.get_end()
    assert found == code == monitor.exit_code
    assert (end["exit_code"], end["signal"]) == ((code, None) if code >= 0 else (None, -code))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"base_interval_ms": 0}, "base_interval_ms"),
        ({"base_interval_ms": -100}, "base_interval_ms"),
        ({"base_interval_ms": float("nan")}, "base_interval_ms"),
        ({"base_interval_ms": "100"}, "base_interval_ms"),
        ({"max_interval_ms": 0}, "max_interval_ms"),
        ({"output_format": "xml"}, "output_format"),
        ({"grace_s": -1}, "grace_s"),
        ({"timeout": float("nan")}, "timeout"),
        ({"stdout": subprocess.PIPE, "capture_output": True}, "stdout"),
        ({"stdout": subprocess.PIPE, "stdout_file": "x"}, "stdout"),
        ({"input": b"x", "stdin": subprocess.PIPE}, "stdin"),
    ],
)
def test_a_bad_value_is_refused_before_anything_starts(tmp_path, options, word):
    with pytest.raises(ValueError, match=word):
        execute_with_monitoring(["touch", str(tmp_path / "ran")], **options)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cmd", [[], "", "sh -c 'open"])
def test_no_command_is_a_bad_value(cmd):
    with pytest.raises(ValueError, match=r"command|quotation"):
        execute_with_monitoring(cmd)


def test_a_command_that_is_not_there_or_not_executable_raises_and_leaves_nothing(tmp_path):
    (tmp_path / "plain").write_text("x")
    files, threads = rig.open_files(), threading.active_count()
    for cmd, error in (
        (["no-such-command-here"], FileNotFoundError),
        ([str(tmp_path / "plain")], PermissionError),
    ):
        for pause in (True, False):
            with pytest.raises(error):
                execute_with_monitoring(cmd, output_file=tmp_path / "usage.jsonl", pause_for_attachment=pause)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    wait_until(lambda: threading.active_count() <= threads, 45, "threads to end")
    assert rig.open_files() <= files


def test_seventy_thousand_bytes_that_nobody_reads_stop_nobody():  # R159
    code, monitor = execute_with_monitoring(
        ["sh", "-c", "head -c 70000 /dev/zero | tr '\\0' x; echo end >&2; echo END"]
    )
    assert (code, len(monitor.stdout), monitor.stdout[-5:], monitor.stderr) == (0, 65536, b"xEND\n", b"end\n")
    code, monitor = execute_with_monitoring(["sh", "-c", "head -c 300000 /dev/zero"], capture_output=True)
    assert (code, monitor.stdout) == (0, bytes(300_000))


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ({"text": True}, "é\nx\n", "e\n"),
        ({"universal_newlines": True}, "é\nx\n", "e\n"),
        ({"encoding": "latin-1"}, "Ã©\nx\n", "e\n"),
        ({"encoding": "ascii", "errors": "replace"}, "\ufffd\ufffd\nx\n", "e\n"),
        ({"capture_output": True}, "é\r\nx\r\n".encode(), b"e\n"),
        ({"stderr": subprocess.STDOUT}, "é\r\nx\r\ne\n".encode(), None),
        ({"stdout": subprocess.DEVNULL}, None, b"e\n"),
        ({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}, "é\nx\n", "e\n"),
    ],
)
def test_streams_are_as_run_gives_them(options, out, err):
    script = "printf 'é\\r\\nx\\r\\n'; sleep 0.05; echo e >&2"
    code, monitor = execute_with_monitoring(script, **{**options, "shell": True})
    assert (code, monitor.stdout, monitor.stderr) == (0, out, err)


def test_what_a_command_reads_is_fed_to_it():
    much = "line é\n" * 50_000
    code, monitor = execute_with_monitoring(["wc", "-l"], input=much, text=True)
    assert (code, monitor.stdout.strip()) == (0, "50000")
    assert execute_with_monitoring(["true"], input=much.encode())[0] == 0  # it need not read it
    assert execute_with_monitoring(["cat"], stdin=subprocess.PIPE)[0] == 0


def test_check_and_timeout_raise_what_run_raises_with_the_monitor(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        execute_with_monitoring(["sh", "-c", "echo out; exit 5"], check=True, text=True)
    assert (caught.value.returncode, caught.value.output) == (5, "out\n")
    assert caught.value.monitor.get_end()["exit_code"] == 5
    with pytest.raises(subprocess.TimeoutExpired) as expired:
        execute_with_monitoring(["sleep", "500"], timeout=0.2, grace_s=60, quiet=True)
    assert (expired.value.timeout, expired.value.monitor.exit_code) == (0.2, -15)


def test_one_file_by_two_names_takes_both_streams(tmp_path):
    (tmp_path / "same").symlink_to("both")
    execute_with_monitoring(
        ["sh", "-c", "echo out; echo err >&2; echo more"],
        stdout_file=tmp_path / "both",
        stderr_file=tmp_path / "same",
    )
    assert (tmp_path / "both").read_text() == "out\nerr\nmore\n"


def test_files_take_the_streams(tmp_path):
    (tmp_path / "out").write_text("older and longer than what comes")
    code, monitor = execute_with_monitoring(
        ["sh", "-c", "echo out; echo err >&2"],
        stdout_file=str(tmp_path / "out"),
        stderr_file=tmp_path / "err",
    )
    assert (code, monitor.stdout, monitor.stderr) == (0, None, None)
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("out\n", "err\n")
    execute_with_monitoring(
        ["sh", "-c", "echo out; echo err >&2; echo more"],
        stdout_file=tmp_path / "both",
        stderr_file=tmp_path / "both",
    )
    assert (tmp_path / "both").read_text() == "out\nerr\nmore\n"


def test_a_users_own_step_before_the_exec_is_taken(tmp_path):
    code, monitor = execute_with_monitoring(["sh", "-c", "ps -o pgid= -p $$; echo $$"], preexec_fn=os.setsid)
    group, pid = monitor.stdout.split()
    assert (code, group) == (0, pid)


def test_the_file_is_begun_anew_for_us_alone(tmp_path):  # S37
    path = tmp_path / "usage.jsonl"
    path.write_text("older\n" * 1000)
    path.chmod(0o644)
    _, monitor = execute_with_monitoring(["sh", "-c", "sleep 0.35"], output_file=path)
    lines = path.read_bytes().splitlines()
    records = [json.loads(line) for line in lines]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [record["kind"] for record in records[:2]] == ["metadata", "tree"] and records[-1][
        "kind"
    ] == "exit"
    assert [line.decode() for line in lines if line.startswith(b'{"kind":"tree"')] == monitor.get_samples()
    assert all(b": " not in line.split(b'"cmd"')[0] for line in lines)


def test_three_formats_hold_the_same(tmp_path):
    script = 'until [ "$(wc -l <"$0/csv" || wc -l <"$0/jsonl")" -gt 4 ]; do sleep 0.02; done'
    for form in ("jsonl", "csv", "json"):
        words = ["sh", "-c", script, str(tmp_path)]
        execute_with_monitoring(words, output_file=tmp_path / form, output_format=form)
    records = json.loads((tmp_path / "json").read_text())
    assert [record["kind"] for record in records][:2] == ["metadata", "tree"] and records[-1][
        "kind"
    ] == "exit"
    rows = list(csv.DictReader((tmp_path / "csv").read_text().splitlines()))
    assert max(int(row["mem_rss_kb"]) for row in rows[1:]) > 0 and int(rows[0]["process_count"]) == 1
    _, monitor = execute_with_monitoring(["sh", "-c", "sleep 0.25"])
    for form in ("jsonl", "json", "csv"):
        monitor.save_samples(tmp_path / form, form)
    assert json.loads((tmp_path / "json").read_text()) == list(map(json.loads, monitor.get_samples()))
    assert (tmp_path / "jsonl").read_text().splitlines() == monitor.get_samples()
    assert len((tmp_path / "csv").read_text().splitlines()) == len(monitor.get_samples()) + 1
    with pytest.raises(ValueError, match="xml"):
        monitor.save_samples(tmp_path / "x", "xml")


SLEEPS = ["sh", "-c", "sleep 300 & read line <go; kill $!"]


def slept(folder, **options):
    """The monitor of a command with a child that was seen, and ended; how many seconds that took at least."""
    os.mkfifo(folder / "go")
    monitor = ProcessMonitor(SLEEPS, cwd=folder, **options)
    began = time.monotonic()

    def named():
        monitor.sample_once()
        return any(json.loads(one)["cmd"] == ["sleep", "300"] for one in monitor.get_children())

    wait_until(named, 45, "its child")
    took = time.monotonic() - began
    (folder / "go").write_text("\n")
    monitor.run()
    return monitor, took


def test_what_it_gives_is_text_and_is_read_by_key(tmp_path):
    monitor, took = slept(tmp_path)
    summary = monitor.get_summary()
    assert json.loads(summary)["sample_count"] == summary["sample_count"] == summary.get("sample_count") >= 2
    assert summary["peak_memory_mb"] > 0 and summary["elapsed_time"] >= took and summary.get("none", 5) == 5
    assert dict(summary) == json.loads(summary) and summary[0] == "{"
    metadata = monitor.get_metadata()
    assert metadata["cmd"] == SLEEPS and metadata.get("kind") is None
    assert monitor.get_samples()[-1]["cpu_usage"] >= 0
    assert json.loads(monitor.get_children()[-1])["cmd"][0] == "sleep"
    count = summary["sample_count"]
    monitor.clear_samples()
    assert monitor.get_samples() == [] and monitor.get_summary()["sample_count"] == count


def test_without_memory_the_summary_is_whole(tmp_path):
    monitor, _ = slept(tmp_path, store_in_memory=False)
    assert monitor.get_samples() == []
    assert monitor.get_summary()["sample_count"] >= 2 and monitor.get_summary()["peak_mem_rss_kb"] > 0


def test_a_monitor_looks_when_it_is_told_to(tmp_path):
    script = "echo hi; while [ ! -e go ]; do sleep 0.02; done; exit 3"
    monitor = ProcessMonitor(["sh", "-c", script], 50, 100, cwd=tmp_path)
    assert monitor.is_running() and monitor.get_end() is None
    assert monitor.sample_once()["aggregated"]["process_count"] >= 1
    (tmp_path / "go").touch()
    wait_until(lambda: not monitor.is_running(), 45, "the command to end")
    assert monitor.sample_once() is None
    assert (monitor.exit_code, monitor.stdout, monitor.get_end()["exit_code"]) == (3, b"hi\n", 3)
    monitor.run()  # again is no harm


def test_the_interval_grows_while_nothing_moves():
    _, monitor = execute_with_monitoring(["sleep", "0.9"], base_interval_ms=20, max_interval_ms=2000)
    at = [sample["ts_ms"] for sample in monitor.get_samples()]
    gaps = [after - before for before, after in itertools.pairwise(at)]
    print("gaps in ms:", gaps)
    assert len(at) < 10 + (at[-1] - at[0]) / 40 and max(gaps) > 100, "every 20 ms it was half of that"


def test_a_full_disk_is_told_and_sampling_goes_on(tmp_path):  # R159
    code, monitor = execute_with_monitoring(
        ["sh", "-c", "sleep 0.4"],
        output_file="/dev/full",
        base_interval_ms=50,
        max_interval_ms=50,
        quiet=True,
    )
    assert (code, len(monitor.get_samples()) > 1) == (0, True)
    assert "/dev/full: No space left on device" in monitor.monitor_errors[0]
    assert "No space left" in monitor.get_end()["monitor_errors"][0]


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("no file system of our own can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_leaves_whole_lines(tiny_disk, capfd):  # R159
    os.mkfifo(tiny_disk / "go")
    (tiny_disk / "ballast").write_bytes(bytes(11 << 10))
    monitor = ProcessMonitor(["sh", "-c", "read line <go"], cwd=tiny_disk, output_file=tiny_disk / "u.jsonl")
    wait_until(lambda: monitor.sample_once() and monitor.monitor_errors, 45, "the disk to be full")
    (tiny_disk / "ballast").unlink()
    monitor.sample_once()
    (tiny_disk / "go").write_text("\n")
    monitor.run()
    lines = [json.loads(line) for line in (tiny_disk / "u.jsonl").read_text().splitlines()]
    assert monitor.exit_code == 0 and (lines[0]["kind"], lines[-1]["kind"]) == ("metadata", "exit")
    assert len(lines) < len(monitor.get_samples()) + 2, "the disk never was full"
    assert "No space left" in " ".join(monitor.monitor_errors)
    assert "No space left" in capfd.readouterr().err


def test_a_limit_of_file_size_is_an_error_of_writing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        code, monitor = execute_with_monitoring(
            ["sh", "-c", "sleep 0.3"],
            output_file=tmp_path / "u",
            base_interval_ms=30,
            max_interval_ms=30,
            quiet=True,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 0 and len(monitor.get_samples()) > 1
    assert "File too large" in monitor.monitor_errors[0]
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "u").read_text().splitlines()]
    assert kinds[0] == "metadata"


@pytest.mark.parametrize("path", ["/", "/no/such/folder/usage.jsonl", "/proc/version/x"])
def test_a_file_that_cannot_be_opened_is_known_before_anything_starts(tmp_path, path):
    with pytest.raises(OSError):
        execute_with_monitoring(["touch", str(tmp_path / "ran")], output_file=path)
    assert not (tmp_path / "ran").exists()


def test_a_pipe_that_nobody_reads_hangs_nobody(tmp_path):  # R159
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        execute_with_monitoring(["true"], output_file=tmp_path / "pipe")


def test_what_is_not_done_is_said():
    _, monitor = execute_with_monitoring(["true"], enable_ebpf=True, quiet=True)
    assert "enable_ebpf" in monitor.get_end()["monitor_errors"][0]


def test_two_monitors_in_two_threads_do_not_touch_each_other(tmp_path):  # R159
    tags = [rig.tagged(), rig.tagged()]
    ends = {}

    def one(n):
        (tmp_path / str(n)).mkdir()
        try:
            ends[n] = execute_with_monitoring(
                rig.stubborn(tmp_path / str(n)) if n else ["sh", "-c", "sleep 0.9; exit 4"],
                env={**os.environ, rig.TAG: tags[n]},
                timeout=0.6 if n else None,
                grace_s=0.2,
                quiet=True,
            )
        except subprocess.TimeoutExpired as error:
            ends[n] = (None, error.monitor)

    threads = [threading.Thread(target=one, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert ends[0][0] == 4 and ends[1][1].get_end()["killed_by"] == "timeout"
    assert rig.alive(tags[0]) == rig.alive(tags[1]) == []
    assert ends[0][1].get_summary()["max_processes"] <= 2
    assert subreaper() == 0


FORKED = """
import ctypes, os
from onbox.monitor import ProcessMonitor

def subreaper():
    value = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)
    return value.value

ours = ProcessMonitor(["cat"], stdin=None)
pid = os.fork()
watched = ProcessMonitor(["true"])
said = [subreaper()]
watched.run()
os.write(1, b"%d %d\\n" % (*said, subreaper()))  # at once: both of us speak
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
os.kill(ours.get_pid(), 9)
ours.run()
print(subreaper())
"""


def test_a_fork_of_a_program_that_watches_takes_in_its_own_orphans():
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        env=rig.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    assert sorted(done.stdout.splitlines()) == ["0", "1 0", "1 1"]


def subreaper():
    import ctypes

    value = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)
    return value.value


def test_the_names_are_where_programs_look_for_them():
    assert onbox.execute_with_monitoring is execute_with_monitoring and onbox.ProcessMonitor is ProcessMonitor
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import onbox, onbox.monitor"],
        env=rig.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "subprocess" not in done.stderr and "onbox.monitor.api" not in done.stderr


STORY = """
import json, os, subprocess, sys, threading
from onbox.monitor import ProcessMonitor, execute_with_monitoring
code, m = execute_with_monitoring(["sh", "-c", "echo hi; sleep 0.25; exit 3"], output_file="usage.jsonl", text=True)
assert (code, m.stdout) == (3, "hi\\n"), (code, m.stdout)
assert m.get_end()["exit_code"] == 3 and len(m.get_samples()) >= 2 and not m.monitor_errors, m.get_end()
for words, error in ((["no-such-command-here"], FileNotFoundError), (["/etc/passwd"], PermissionError)):
    try: execute_with_monitoring(words)
    except error: pass
    else: raise SystemExit("no error")
try: execute_with_monitoring(["sh", "-c", "trap '' TERM; setsid sleep 77 & wait; sleep 78"], timeout=0.3, grace_s=0.1, quiet=True)
except subprocess.TimeoutExpired as error: assert error.monitor.get_end()["left_running"] == []
code, m = execute_with_monitoring(["head", "-c", "70000", "/dev/zero"]); assert code == 0 and len(m.stdout) == 65536
with subprocess.Popen(["sleep", "0.3"]) as p:
    m = ProcessMonitor.from_pid(p.pid); m.run()
    assert m.get_end()["exit_code"] is None
print("well")
"""


def tells(folder, *python):
    """Whether the story goes well there."""
    done = subprocess.run(
        [*python, "-W", "error", "-c", STORY],
        env=rig.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (done.returncode, done.stdout, done.stderr) == (0, "well\n", "") or print(done)


@pytest.mark.parametrize("version", sorted(set(ENDS)))
def test_the_story_under_the_oldest_and_the_newest_python(tmp_path, version):
    assert tells(tmp_path, PYTHONS[version], "-X", "dev")


@pytest.mark.parametrize("version", EACH_PYTHON)
def test_every_python_has_a_way_to_a_descriptor_of_a_process(version):
    script = "import os\nfrom onbox.monitor.kernel import pidfd\nfd = pidfd(os.getpid())\nprint(os.readlink('/proc/self/fd/%d' % fd), os.get_inheritable(fd))\ntry: pidfd(2 ** 22)\nexcept ProcessLookupError: print('none')"
    done = subprocess.run(
        [PYTHONS[version], "-c", script], env=rig.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "anon_inode:[pidfd] False\nnone\n"


def test_without_a_descriptor_of_processes_it_looks_again_and_again(tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not on this machine")
    words = [
        strace,
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=pidfd_open",
        "-e",
        "inject=pidfd_open:error=ENOSYS",
    ]
    assert tells(tmp_path, *words, sys.executable)


def test_a_worker_thread_may_watch_while_the_main_thread_waits():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(execute_with_monitoring(["sh", "-c", "kill -HUP $$"])[0])
    )
    thread.start()
    thread.join(100)
    assert found == [-signal.SIGHUP]
