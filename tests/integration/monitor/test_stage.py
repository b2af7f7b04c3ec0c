import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import pythons
import rig
from waiting import wait_until

from fleet.arming.ship import build_pyz

PYTHONS = pythons.found()
pytestmark = pytest.mark.timeout(180)


def number(version):
    return tuple(map(int, version.split(".")))


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    path = tmp_path_factory.mktemp("tool") / "onbox.pyz"
    path.write_bytes(build_pyz()[0])
    return str(path)


@pytest.fixture
def usage(tmp_path):
    folder = tmp_path / "usage"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def watched(tool, tmp_path, usage):
    """`watched(*command)`: the words that watch it as stage 01-x, attempt 2."""
    place = [str(tmp_path / "result"), str(usage), "01-x", "2"]
    return lambda *command, python=sys.executable: [python, "-I", tool, "watched", *place, "--", *command]


def supervised(tool, tmp_path, *command):
    return [sys.executable, "-I", tool, "supervise", str(tmp_path / "other"), "--", *command]


def ran(words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **options)
    assert "Traceback" not in done.stderr
    return done


def result(tmp_path):
    return (tmp_path / "result").read_text()


def status(usage):
    return json.loads((usage / "01-x.json").read_text())


@pytest.mark.parametrize("version", sorted({min(PYTHONS, key=number), max(PYTHONS, key=number)}, key=number))
def test_under_every_python_a_stage_has_its_result_and_its_usage(watched, tmp_path, usage, version):  # R63
    done = ran(watched("sh", "-c", "sleep 0.3; exit 7", python=PYTHONS[version]))
    assert (done.returncode, done.stderr, result(tmp_path)) == (7, "", "kind=exit\nvalue=7\ncore=0\n")
    lines = [json.loads(line) for line in (usage / "01-x.2.jsonl").read_text().splitlines()]
    assert (lines[0]["kind"], lines[-1]["kind"], lines[-1]["exit_code"]) == ("metadata", "exit", 7)
    assert (lines[0]["onbox"]["stage"], lines[0]["onbox"]["attempt"]) == ("01-x", 2)
    said = status(usage)
    assert (said["format"], said["stage"], said["attempt"], said["end"]["exit_code"]) == (1, "01-x", 2, 7)
    assert {stat.S_IMODE(path.stat().st_mode) for path in usage.iterdir()} == {0o600}
    assert len(list(usage.iterdir())) == 2 and (usage / "01-x.json").stat().st_size <= 3072


@pytest.mark.parametrize("number", [signal.SIGKILL, rig.seldom(signal.SIGPIPE)])
def test_a_signal_is_told_from_the_exit_status_that_looks_like_it(
    watched, tmp_path, usage, number
):  # R63 R77
    done = ran(watched("sh", "-c", f"kill -{int(number)} $$"))
    assert done.returncode == 128 + number
    assert result(tmp_path) == f"kind=signal\nvalue={int(number)}\ncore=0\n"
    assert (status(usage)["end"]["signal"], status(usage)["end"]["exit_code"]) == (number, None)


def test_a_command_that_is_not_there_is_127_with_a_result_and_an_end(watched, tmp_path, usage):
    done = ran(watched("no-such-command-here"))
    assert (done.returncode, result(tmp_path)) == (127, "kind=exit\nvalue=127\ncore=0\n")
    assert "command not found" in done.stderr and status(usage)["end"]["exit_code"] == 127


def test_a_command_that_cannot_be_run_is_125_and_leaves_no_result(watched, tmp_path, usage):
    (tmp_path / "result").write_text("kind=exit\nvalue=0\ncore=0\n")  # of an earlier attempt
    done = ran(watched("/etc/passwd"))
    assert done.returncode == 125 and "ermission denied" in done.stderr
    assert not (tmp_path / "result").exists()
    assert status(usage)["end"]["exit_code"] is None


def test_a_result_that_could_not_be_written_is_known_before_the_command_runs(tool, tmp_path, usage):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for target in ("folder", "link", "none/result"):
        words = [sys.executable, tool, "watched", str(tmp_path / target), str(usage), "01-x", "1", "--"]
        done = ran([*words, "touch", str(tmp_path / "ran")])
        assert (done.returncode, (tmp_path / "ran").exists()) == (125, False), target


@pytest.mark.parametrize("fault", rig.some(["gone", "plain", "link", "full", "folder in its place"], 2))
def test_usage_that_cannot_be_written_costs_the_command_nothing(watched, tmp_path, usage, fault):  # R159 S37
    if fault in ("gone", "plain"):
        usage.rmdir()
        if fault == "plain":
            usage.write_text("x")
    elif fault == "link":
        for name in ("01-x.2.jsonl", "01-x.json"):
            (usage / name).symlink_to(tmp_path / "victim")
    elif fault == "full":
        (usage / "01-x.2.jsonl").symlink_to("/dev/full")
    else:
        for name in ("01-x.2.jsonl", "01-x.json"):
            (usage / name).mkdir()
    done = ran(watched("sh", "-c", "sleep 0.3; echo out; exit 5"))
    assert (done.returncode, done.stdout, result(tmp_path)) == (5, "out\n", "kind=exit\nvalue=5\ncore=0\n")
    assert not (tmp_path / "victim").exists()
    if fault == "full":
        assert "not a plain file" in status(usage)["end"]["monitor_errors"][0]


@pytest.mark.parametrize(
    "words",
    rig.some(
        [
            ["watched"],
            ["watched", "r", "u", "01-x", "1", "--"],
            ["watched", "r", "u", "01-x", "one", "--", "true"],
            ["watched", "r", "u", "../x", "1", "--", "true"],
            ["watched", "r", "u", "01-x", "--", "true"],
            ["watched", "", "u", "01-x", "1", "--", "true"],
        ],
        2,
    ),
)
def test_wrong_words_are_usage_and_nothing_is_made(tool, tmp_path, words):
    done = ran([sys.executable, tool, *words])
    assert done.returncode == 2 and done.stderr.startswith("usage: ")
    assert not (tmp_path / "r").exists()


LOOK = """
tr '\\0' '\\n' < /proc/$$/environ | grep -v '^_=' | sort
awk '{print "group", $5, "session", $6}' /proc/$$/stat
umask; pwd; cat /proc/$$/limits
printf '<%s>' "$0" "$@"
"""


@pytest.mark.parametrize(
    "before", [rig.seldom(""), "trap '' HUP INT USR1; ulimit -S -m 4503599627370001; umask 027; "]
)
def test_a_command_cannot_tell_watching_from_supervising(watched, tool, tmp_path, before):
    arguments = ["a b", "", "$(id)", "é", "-x", "--", "a\nb"]
    shell = ["sh", "-c", f'{before}exec 8>>"$0" 9>>"$0.other"; "$@"; exit $?', str(tmp_path / "lock")]
    env = {"PATH": os.environ["PATH"], "HOME": "/", "EMPTY": "", "BABYSIT_TAG": "t/01-x"}
    # Two look at themselves: a shell blocks signals and opens pipes for a moment whenever it starts something.
    signals = ["grep", "-E", "^(SigBlk|SigIgn|SigCgt)", "/proc/self/status"]
    descriptors = ["find", "/proc/self/fd", "-type", "l", "-printf", "%f %l\n"]
    for what in (["sh", "-c", LOOK, *arguments], signals, descriptors):
        seen = []
        for words in (what, supervised(tool, tmp_path, *what), watched(*what)):
            done = ran([*shell, *words], env=env)
            assert done.returncode == 0, done.stderr
            seen.append(
                [line for line in done.stdout.splitlines() if "pipe:" not in line and "/proc/" not in line]
            )
        assert seen[0] == seen[1] == seen[2]
    assert {f"8 {tmp_path}/lock", f"9 {tmp_path}/lock.other"} <= set(seen[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_we_are_told_to_end_by_goes_on_to_the_command_alone(watched, tmp_path, usage, number):
    name = number.name.removeprefix("SIG")
    child = f'trap "touch child-heard" {name}; touch up; while [ ! -e over ]; do sleep 0.02; done'
    loop = f"sh -c '{child}' & trap 'exit 40' {name}; while [ ! -e up ]; do sleep 0.02; done; touch ready; while :; do sleep 0.02; done"
    with subprocess.Popen(watched("sh", "-c", loop), cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        process.send_signal(number)
        assert process.wait(45) == 40
    (tmp_path / "over").touch()
    assert result(tmp_path) == "kind=exit\nvalue=40\ncore=0\n"
    end = status(usage)["end"]
    assert end["killed_by"] == "user" and len(end["left_running"]) >= 1
    wait_until(lambda: not processes.lives(end["left_running"][0]["pid"]), 45, "what was left to end")
    assert not (tmp_path / "child-heard").exists()


@pytest.mark.parametrize("act", ["watched", "supervise"])
def test_what_we_were_started_to_ignore_does_not_go_on(watched, tool, tmp_path, usage, act):
    # A shell's `&`, nohup: the command could hear it only by a handler of its own, and nobody told that.
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: open('heard', 'w').close())\n"
        "open('ready', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "raise SystemExit(3)\n"
    )
    command = [sys.executable, "-c", script]
    words = watched(*command) if act == "watched" else supervised(tool, tmp_path, *command)
    with subprocess.Popen(["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *words], cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not pending(process.pid), 45, "the signal to be taken, or thrown away")
        (tmp_path / "go").touch()
        assert process.wait(45) == 3
    assert not (tmp_path / "heard").exists()
    assert act == "supervise" or status(usage)["end"]["killed_by"] is None


@pytest.mark.parametrize("act", ["watched", "supervise"])
def test_a_command_that_we_may_not_tell_anything_is_still_waited_for(watched, tool, tmp_path, act):
    # As with sudo: it is another user by then. The superuser may tell everybody, so this one may not be all of it.
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("no other user can be had here")
    command = ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "echo up; read line; exit 6"]
    words = watched(*command) if act == "watched" else supervised(tool, tmp_path, *command)
    with subprocess.Popen(
        ["setpriv", "--bounding-set=-kill", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"up\n"
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not pending(process.pid) or process.poll(), 45, "the signal to be taken")
        said = process.communicate(b"over\n", timeout=45)[1].decode()
    assert said == "babysit: cannot send SIGTERM to the command: Operation not permitted\n" * 2
    written = tmp_path / ("result" if act == "watched" else "other")
    assert (process.returncode, written.read_text()) == (6, "kind=exit\nvalue=6\ncore=0\n")


def pending(pid):
    """The signals that wait for a process, as bits; those who are gone have none."""
    fields = processes.of(pid, "status").decode().partition("ShdPnd:")[2].split()
    return int(fields[0], 16) if fields else 0


def test_a_signal_in_the_first_moment_is_not_lost(watched, tmp_path, usage):
    for _ in range(2):
        with subprocess.Popen(watched("sleep", "30"), cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda pid=process.pid: processes.children(pid), 45, "the command to be started")
            process.send_signal(signal.SIGTERM)
            assert process.wait(45) == 143
        assert result(tmp_path) == "kind=signal\nvalue=15\ncore=0\n"
        assert status(usage)["end"]["killed_by"] == "user"


def test_killed_it_leaves_the_command_alive_and_no_result(watched, tmp_path, usage):
    with subprocess.Popen(watched("sh", "-c", "echo $$ > pid; exec sleep 50"), cwd=tmp_path) as process:
        wait_until(
            lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 45, "its pid"
        )
        pid = int((tmp_path / "pid").read_text())
        wait_until((usage / "01-x.json").exists, 45, "the first status")
        # Before the command has begun nothing is claimed of it.
        assert status(usage)["summary"]["sample_count"] > 1
        try:
            process.kill()
            assert process.wait(45) == -9
            os.kill(pid, 0)
            assert not (tmp_path / "result").exists() and status(usage)["end"] is None
        finally:
            os.kill(pid, signal.SIGKILL)


def test_what_a_stage_leaves_goes_on_and_is_named(watched, tmp_path, usage):
    tag = rig.tagged()
    script = "for n in 1 2 3 4 5 6 7 8 9 10; do setsid sleep 100 & done; sleep 0.4; exit 0"
    done = subprocess.run(watched("sh", "-c", script), env=rig.environment(tag), check=False, timeout=120)
    try:
        wait_until(lambda: len(rig.alive(tag)) == 10, 45, "all that was left")
        left = rig.alive(tag)
        assert done.returncode == 0
        lines = (usage / "01-x.2.jsonl").read_text().splitlines()
        assert {one["pid"] for one in json.loads(lines[-1])["left_running"]} == set(left)
        end = status(usage)["end"]
        assert (len(end["left_running"]), end["left_running_count"]) == (8, 10)
    finally:
        for pid in rig.alive(tag):
            os.kill(pid, signal.SIGKILL)


def test_a_status_is_small_whatever_is_left_and_failed(watched, tmp_path, usage):
    tag = rig.tagged()
    long = tmp_path / ("x" * 200)
    shutil.copy(shutil.which("sleep"), long)
    script = 'for n in 1 2 3 4 5 6 7 8 9 10 11 12; do setsid "$0" 100 & done; sleep 0.3; exit 3'
    subprocess.run(watched("sh", "-c", script, str(long)), env=rig.environment(tag), check=False, timeout=120)
    for pid in rig.alive(tag):
        os.kill(pid, signal.SIGKILL)
    assert (usage / "01-x.json").stat().st_size <= 3072
    assert status(usage)["end"]["exit_code"] == 3


def test_the_result_is_written_before_the_record_of_the_end(watched, tmp_path, usage):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not on this machine")
    trace = tmp_path / "trace"
    ran(
        [
            strace,
            "-f",
            "-y",
            "-s",
            "30",
            "-e",
            "trace=write,rename,renameat,renameat2",
            "-o",
            str(trace),
            *watched("true"),
        ]
    )
    calls = trace.read_text()
    renamed = calls.index(f"{tmp_path}/result")
    assert renamed < calls.index('"{\\"kind\\":\\"exit\\"')


def test_memory_of_the_watcher_and_its_share_of_a_core_stay_small(watched, tmp_path, usage):
    with subprocess.Popen(watched("sleep", "60"), cwd=tmp_path) as process:
        try:
            wait_until((usage / "01-x.json").exists, 45, "the watch to begin")
            fields = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(fields.partition("VmRSS:")[2].split()[0])
            print(f"the watcher: {resident} KiB")
            assert resident < 40_000
        finally:
            process.terminate()
