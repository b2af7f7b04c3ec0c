import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from waiting import wait_until

from fleet.arming.ship import build_pyz

PYTHONS = pythons.found()
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=sorted(PYTHONS, key=lambda version: tuple(map(int, version.split(".")))))
def python(request):
    return PYTHONS[request.param]


@pytest.fixture
def tool(tmp_path):
    path = tmp_path / "onbox.pyz"
    path.write_bytes(build_pyz()[0])
    return str(path)


@pytest.fixture
def supervise(python, tool, tmp_path):
    """`supervise(*command)`: the words that supervise it, its result file being `result` in tmp_path."""
    return lambda *command: [python, tool, "supervise", str(tmp_path / "result"), "--", *command]


def ran(words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **options)
    assert "Traceback" not in done.stderr
    return done


def result(tmp_path):
    return (tmp_path / "result").read_text()


def test_the_pythons_found_here_are_named():
    print("supervise is tested under Python", ", ".join(sorted(PYTHONS)))
    assert PYTHONS


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 137, 255])
def test_an_exit_status_is_told_as_one(supervise, tmp_path, status):  # R63
    done = ran(supervise("sh", "-c", f"exit {status}"))
    assert done.returncode == status
    assert result(tmp_path) == f"kind=exit\nvalue={status}\ncore=0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE]
)
def test_a_signal_is_told_from_the_exit_status_that_looks_like_it(supervise, tmp_path, number):  # R63 R77
    done = ran(supervise("sh", "-c", f"kill -{int(number)} $$"))
    assert done.returncode == 128 + number
    assert result(tmp_path) == f"kind=signal\nvalue={int(number)}\ncore=0\n"


def test_a_core_dump_is_told_when_the_kernel_made_one(supervise, tmp_path):
    command = ["sh", "-c", "ulimit -c unlimited; kill -SEGV $$"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as direct:
        _, status = os.waitpid(direct.pid, 0)
        direct.returncode = -11
    ran(supervise(*command), cwd=tmp_path)
    assert result(tmp_path) == f"kind=signal\nvalue=11\ncore={int(os.WCOREDUMP(status))}\n"


def test_a_command_that_is_not_there_is_127_as_in_a_shell(supervise, tmp_path):
    for name in ("no-such-command", "./no-such-command", f"{tmp_path}/onbox.pyz/x"):
        done = ran(supervise(name))
        assert done.returncode == 127
        assert "command not found" in done.stderr
        assert result(tmp_path) == "kind=exit\nvalue=127\ncore=0\n"


def test_a_command_that_cannot_be_run_is_125_and_leaves_no_result(supervise, tmp_path):
    (tmp_path / "result").write_text("kind=exit\nvalue=0\ncore=0\n")  # of an earlier attempt
    (tmp_path / "plain").write_text("x")
    done = ran(supervise(str(tmp_path / "plain")))
    assert done.returncode == 125
    assert "ermission denied" in done.stderr
    assert not (tmp_path / "result").exists()


def test_a_result_that_could_not_be_written_is_known_before_the_command_runs(python, tool, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for target in ("folder", "link", "none/result", "onbox.pyz/result"):
        done = ran([python, tool, "supervise", str(tmp_path / target), "--", "touch", str(tmp_path / "ran")])
        assert (done.returncode, (tmp_path / "ran").exists()) == (125, False), target
        assert len(done.stderr.splitlines()) == 1


def test_a_result_that_cannot_be_written_any_more_leaves_the_status(python, tool, tmp_path):
    (tmp_path / "gone").mkdir()
    words = [python, tool, "supervise", str(tmp_path / "gone/result"), "--", "sh", "-c", 'rmdir "$0"; exit 7']
    done = ran([*words, str(tmp_path / "gone")])
    assert done.returncode == 7
    assert "cannot write" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["x"],
        ["supervise"],
        ["supervise", "r"],
        ["supervise", "r", "--"],
        ["supervise", "r", "true"],
        ["version", "x"],
    ],
)
def test_wrong_words_are_usage_and_nothing_is_made(python, tool, tmp_path, words):
    done = ran([python, tool, *words])
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert not (tmp_path / "r").exists()


def test_version_names_the_tool(python, tool):
    assert ran([python, tool, "version"]).stdout.startswith("onbox ")


def test_every_module_imports_under_this_python(python, tool):
    import zipfile

    names = zipfile.ZipFile(tool).namelist()
    modules = [
        name[:-3].replace("/", ".").removesuffix(".__init__") for name in names if name != "__main__.py"
    ]
    lines = "\n".join(f"import {module}" for module in modules)
    ran([python, "-W", "error", "-c", lines], env={"PYTHONPATH": tool}).check_returncode()


LOOK = """
tr '\\0' '\\n' < /proc/$$/environ | grep -v '^_=' | sort
awk '{print "group", $5, "session", $6}' /proc/$$/stat
umask; pwd; cat /proc/$$/limits
printf '<%s>' "$0" "$@"
"""


@pytest.mark.parametrize(
    "before",
    ["", "trap '' HUP; ", "trap '' INT TERM USR1; ", "ulimit -S -m 4503599627370001; umask 027; "],
)
def test_a_command_cannot_tell_that_it_is_supervised(supervise, tmp_path, before):
    arguments = ["a b", "", "$(id)", "é", "-x", "--", "a\nb"]
    command = ["sh", "-c", LOOK, *arguments]
    shell = ["sh", "-c", f'{before}exec 8>>"$0" 9>>"$0.other"; "$@"; exit $?', str(tmp_path / "lock")]
    env = {"PATH": os.environ["PATH"], "HOME": "/", "EMPTY": "", "BABYSIT_TAG": "t/01-x"}
    seen = []
    # Two look at themselves: a shell blocks signals and opens pipes for a moment whenever it starts something.
    signals = ["grep", "-E", "^(SigBlk|SigIgn|SigCgt)", "/proc/self/status"]
    descriptors = ["find", "/proc/self/fd", "-type", "l", "-printf", "%f %l\n"]
    for what in (command, signals, descriptors):
        direct, supervised = ran([*shell, *what], env=env), ran([*shell, *supervise(*what)], env=env)
        assert direct.returncode == supervised.returncode == 0
        seen += [
            [line for line in output.splitlines() if "pipe:" not in line and "/proc/" not in line]
            for output in (direct.stdout, supervised.stdout)
        ]
        assert seen[-1] == seen[-2]
    assert {f"8 {tmp_path}/lock", f"9 {tmp_path}/lock.other"} <= set(seen[-1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_we_are_told_to_end_by_goes_on_to_the_command(supervise, tmp_path, number):
    name = number.name.removeprefix("SIG")
    loop = f"trap 'exit 40' {name}; touch ready; while :; do sleep 0.02; done"
    with subprocess.Popen(supervise("sh", "-c", loop), cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        process.send_signal(number)
        assert process.wait(45) == 40
    assert result(tmp_path) == "kind=exit\nvalue=40\ncore=0\n"


def test_a_signal_in_the_first_moment_is_not_lost(supervise, tmp_path):
    for _ in range(5):
        with subprocess.Popen(supervise("sleep", "30"), cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda pid=process.pid: children(pid), 45, "the command to be started")
            process.send_signal(signal.SIGTERM)
            assert process.wait(45) == 143
        assert result(tmp_path) == "kind=signal\nvalue=15\ncore=0\n"


def test_an_interrupt_at_the_terminal_reaches_the_command_once(supervise, tmp_path):
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: open('seen', 'a').write('x'))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "open('ready', 'w').close()\n"
        "while True: time.sleep(0.02)\n"
    )
    master, slave = os.openpty()
    try:
        words = [shutil.which("setsid"), "-c", *supervise(sys.executable, "-c", script)]
        with subprocess.Popen(words, cwd=tmp_path, stdin=slave) as process:
            wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
            os.write(master, b"\x03")
            wait_until((tmp_path / "seen").exists, 45, "the interrupt to arrive")
            wait_until((tmp_path / "seen").read_text, 45, "its handler to be through")
            process.send_signal(signal.SIGTERM)
            assert process.wait(45) == 5
    finally:
        os.close(master)
        os.close(slave)
    assert (tmp_path / "seen").read_text() == "x"


def test_killed_it_leaves_the_command_alive_and_no_result(supervise, tmp_path):
    with subprocess.Popen(supervise("sh", "-c", "echo $$ > pid; exec sleep 50"), cwd=tmp_path) as process:
        wait_until(
            lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 45, "its pid"
        )
        pid = int((tmp_path / "pid").read_text())
        try:
            process.kill()
            assert process.wait(45) == -9
            os.kill(pid, 0)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "onbox.pyz", "pid"]
        finally:
            os.kill(pid, signal.SIGKILL)


def test_the_result_is_synced_before_and_after_its_rename(supervise, tmp_path):  # S37
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not on this machine")
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    ran([strace, "-f", "-y", "-e", calls, "-o", str(trace), *supervise("true")])
    seen = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if "(" in line]
    seen = [call for call in seen if str(tmp_path) in call]
    assert [call.partition("(")[0] for call in seen[-3:]] == ["fsync", "rename", "fsync"]
    assert "/.result." in seen[-3]
    assert seen[-1].endswith(f"{tmp_path}>) = 0")


def children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
