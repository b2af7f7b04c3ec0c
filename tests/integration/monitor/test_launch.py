import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import processes
import pytest
import rig
from waiting import wait_until

from onbox.monitor import execute_with_monitoring
from onbox.monitor.launch import Launch

pytestmark = pytest.mark.timeout(180)

# The command asks its own watcher's file: was it looked at before this, its first instruction?
SEEN = 'while read -r line; do case $line in *\'"kind":"tree"\'*) exit 0 ;; esac; done <"$0"; exit 9'


def unwatched(count, tmp_path):
    missed = 0
    with rig.busy_cores():
        for _ in range(count):
            code, monitor = execute_with_monitoring(
                ["sh", "-c", SEEN, str(tmp_path / "usage.jsonl")], output_file=tmp_path / "usage.jsonl"
            )
            missed += code != 0
            assert monitor.get_end()["exit_code"] == code
    return missed


def test_no_command_begins_before_its_first_sample_with_all_cores_busy(tmp_path):  # R158
    assert unwatched(15, tmp_path) == 0


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_none_of_three_hundred_begins_before_its_first_sample(tmp_path):  # R158
    assert unwatched(300, tmp_path) == 0


def test_a_command_at_its_gate_is_no_command_yet(tmp_path):
    launch = Launch(["touch", str(tmp_path / "ran")], close_fds=True)
    assert Path(f"/proc/{launch.arrive()}/exe").samefile(sys.executable)
    assert not (tmp_path / "ran").exists()
    process = launch.release()
    launch.over()
    assert process.wait() == 0
    assert (tmp_path / "ran").exists()


def test_a_gate_that_is_given_up_lets_nothing_through(tmp_path):
    launch = Launch(["touch", str(tmp_path / "ran")])
    pid = launch.arrive()
    launch.cancel()
    assert not processes.stat(pid)
    assert not (tmp_path / "ran").exists()


def arrived(launch):
    launch.arrive()
    return launch


@pytest.mark.parametrize(
    ("words", "options", "error"),
    [
        (["no-such-command-here"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["/"], {}, PermissionError),
        (["true"], {"cwd": "/no/such/folder"}, FileNotFoundError),  # before it came to the gate
        (["tr\0ue"], {}, ValueError),
        (["true"], {"no_such_keyword": 1}, TypeError),
        (["true"], {"then": lambda: 1 / 0}, subprocess.SubprocessError),
        (["true"], {"user": "no-such-user-here"}, KeyError),
    ],
)
def test_what_popen_raises_is_raised_and_nothing_is_left(words, options, error):
    threads, files = threading.active_count(), rig.open_files()
    launch = Launch(words, **options)
    with pytest.raises(error):
        arrived(launch).release()
    launch.cancel()
    wait_until(lambda: threading.active_count() <= threads, 45, "the launching thread to end")
    assert rig.open_files() <= files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_without_a_thread_nothing_is_left(tmp_path):
    files, before = rig.open_files(), threading.stack_size(1 << 47)  # more than there are addresses
    try:
        with pytest.raises(RuntimeError, match="thread"):
            execute_with_monitoring(["touch", str(tmp_path / "ran")], quiet=True)
    finally:
        threading.stack_size(before)
    assert rig.open_files() <= files
    assert not (tmp_path / "ran").exists()


def test_without_descriptors_nothing_is_left(tmp_path):
    files, (soft, hard) = rig.open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    for most in range(3, soft):
        launch = Launch(["touch", str(tmp_path / "ran")])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        try:
            launch.arrive()
            break
        except OSError:
            failed += 1
        finally:
            launch.cancel()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert rig.open_files() <= files
    assert failed >= 4
    assert not (tmp_path / "ran").exists()


HELD = """
import os, sys, threading, time
from onbox.monitor.launch import Launch
launches = [Launch(["touch", "%s" % n]) for n in range(3)]
print(*(launch.arrive() for launch in launches), flush=True)
time.sleep(300)
"""


def test_a_watcher_killed_at_the_gate_leaves_nothing(tmp_path):  # R158 R159
    with subprocess.Popen(
        [sys.executable, "-c", HELD], env=rig.environment(), stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        try:
            pids = [int(word) for word in process.stdout.readline().split()]
            assert len(pids) == 3 and all(map(processes.lives, pids))
        finally:
            process.kill()
    wait_until(lambda: not any(map(processes.lives, pids)), 45, "the children at their gates to end")
    assert not [path for path in tmp_path.iterdir() if path.name.isdigit()]


LEAKED = """
import os, time
from onbox.monitor.launch import Launch
launch = Launch(["touch", "ran"])
pid = launch.arrive()
if os.fork() == 0:  # a child of the program's own, which holds every descriptor that it had
    time.sleep(300)
    os._exit(0)
print(pid, flush=True)
time.sleep(300)
"""


def test_a_gate_opens_for_nobody_else_who_holds_its_other_end(tmp_path):  # R159
    tag = rig.tagged()
    with subprocess.Popen(
        [sys.executable, "-c", LEAKED], env=rig.environment(tag), stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        held = int(process.stdout.readline())
        process.kill()
    try:
        wait_until(lambda: not processes.lives(held), 45, "the child at its gate to end")
    finally:
        for pid in rig.alive(tag):
            os.kill(pid, signal.SIGKILL)
    assert not (tmp_path / "ran").exists()


def test_two_threads_launch_at_once(tmp_path):
    codes = {}

    def one(n):
        codes[n] = [
            execute_with_monitoring(["sh", "-c", f"exit {n}"], output_file=tmp_path / f"{n}.jsonl")[0]
            for _ in range(4)
        ]

    threads = [threading.Thread(target=one, args=(n,)) for n in (3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert codes == {n: [n] * 4 for n in (3, 4, 5)}


def test_a_command_that_dies_with_who_forked_it_lives(tmp_path):
    # The kernel means the thread that forked it, not the process.
    prctl = ctypes.CDLL(None).prctl
    code, monitor = execute_with_monitoring(
        ["sh", "-c", "sleep 0.3; echo lived"], preexec_fn=lambda: prctl(1, int(signal.SIGKILL), 0, 0, 0)
    )
    assert (code, monitor.stdout) == (0, b"lived\n")


LOOK = """
tr '\\0' '\\n' </proc/$$/environ | grep -v '^_=' | grep -v '^ONBOX_WATCH=' | sort; umask; pwd
grep -E '^(SigIgn|SigBlk|SigCgt|Uid|Gid|Groups)' /proc/self/status
find /proc/self/fd -type l -printf '%f\\n' | sort
printf '<%s>' "$0" "$@"
"""


def test_a_command_is_given_what_run_gives_it(tmp_path):
    words = ["sh", "-c", LOOK, "a b", "", "$(id)", "-x", "a\nb"]
    options = {
        "cwd": "/",
        "env": {"PATH": os.environ["PATH"], "1odd-name": "x", "E": ""},
        "stdin": subprocess.DEVNULL,
        "umask": 0o027,
        "start_new_session": True,
    }
    plain = subprocess.run(words, capture_output=True, check=True, **options)
    code, monitor = execute_with_monitoring(words, capture_output=True, check=True, **options)
    assert (code, monitor.stdout, monitor.stderr) == (0, plain.stdout, plain.stderr)
    assert b"1odd-name=x" in monitor.stdout


def test_descriptors_of_the_standard_streams_may_be_closed(tmp_path):
    script = (
        "import os\nfor n in (0, 1, 2): os.close(n)\n"
        "from onbox.monitor import execute_with_monitoring\n"
        "code, m = execute_with_monitoring(['sh', '-c', 'echo out; echo err >&2; exit 7'], quiet=True)\n"
        "open('said', 'w').write('%s %s %s' % (code, m.stdout, m.stderr))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], env=rig.environment(), cwd=tmp_path, check=True, timeout=120
    )
    assert Path(tmp_path, "said").read_text() == "7 b'out\\n' b'err\\n'"
