import contextlib
import ctypes.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
import rig
from waiting import wait_until

from onbox.monitor import command

pytestmark = pytest.mark.timeout(180)


def execute(*words, tag=None, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "onbox", "exec", *words], env=rig.environment(tag), text=True, **options
    )


def ran(*words, **options):
    process = execute(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        rig.seldom((["sh", "-c", "kill -TERM $$"], 143)),
        (["no-such-command-here"], 127),
        (["/etc/passwd"], 126),
        rig.seldom((["/"], 126)),
    ],
)
def test_its_exit_status_is_the_commands(tmp_path, words, code):  # R63 R77
    found, _, err = ran("--out", str(tmp_path / "u"), "--", *words)
    assert found == code and err.startswith("onbox") and len(err.splitlines()) == 1
    lines = [json.loads(line) for line in (tmp_path / "u").read_text().splitlines()]
    assert lines[0]["kind"] == "metadata" and lines[-1]["kind"] == "exit"
    assert lines[-1]["exit_code"] == (None if code > 128 else code)


def test_a_script_whose_interpreter_is_not_there_is_not_called_missing(tmp_path):
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\r\nexit 0\r\n")  # as an editor of another system leaves it
    script.chmod(0o755)
    code, _, err = ran("--", str(script))
    assert (code, err) == (126, f"onbox exec: cannot execute {script}: its interpreter is not there\n")
    assert ran("--", "./no-such.sh")[0] == 127


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--interval", "0", "--", "true"],
        ["--interval=-5", "--", "true"],
        ["--interval", "x", "--", "true"],
        ["--timeout=nan", "--", "true"],
        ["--no-such", "--", "true"],
        ["-o", "--", "true"],
        ["--out"],
        ["--json=1", "--", "true"],
        ["--words", "x", "--", "true"],
    ],
)
def test_wrong_words_are_usage(words, capsys):
    assert command.main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and "usage: " in said.err


def test_help_says_how():
    code, out, _ = ran("--help")
    assert code == 0 and "--timeout S" in out and all(len(line) <= 80 for line in out.splitlines())


def test_streams_are_the_callers_and_a_few_lines_say_what_came_of_it(tmp_path):
    code, out, err = ran("sh", "-c", "cat; echo err >&2; sleep 0.2", stdin=subprocess.DEVNULL)
    assert (code, out) == (0, "") and re.match(r"err\nonbox: sh: exit 0 after \d+\.\d s;", err)
    assert ran("--quiet", "--", "echo", "x") == (0, "x\n", "")
    code, out, err = ran("--json", "--stdout", str(tmp_path / "out"), "--", "echo", "x")
    assert (code, err, (tmp_path / "out").read_text()) == (0, "", "x\n")
    assert json.loads(out)["exit_code"] == 0
    code, out, err = ran("--json", "--", "echo", "x")
    assert (code, out, json.loads(err)["kind"]) == (0, "x\n", "exit")


def test_what_a_process_calls_itself_cannot_act_on_a_terminal(tmp_path):  # S38
    evil, tag = "\x1b]0;x\x07\u202e", rig.tagged()
    (tmp_path / evil).symlink_to("/bin/sleep")
    script = '"$0" 50 >&- 2>&- & until [ "$(cat /proc/$!/comm)" = "$1" ]; do :; done'
    try:
        _, _, err = ran("--", "sh", "-c", script, str(tmp_path / evil), evil, tag=tag)
        assert "1 left running: " in err and "\\x1b]0;x\\x07\\u202e" in err
        assert not set(err) & {"\x1b", "\x07", "\u202e"}
    finally:
        for pid in rig.alive(tag):
            os.kill(pid, signal.SIGKILL)


def test_a_timeout_ends_the_tree_with_124(tmp_path):  # R159
    tag = rig.tagged()

    def run(folder, limit):
        words = [
            f"--timeout={limit}",
            "--grace=0.3",
            "--out",
            str(tmp_path / "u"),
            "--",
            *rig.stubborn(folder),
        ]
        assert ran(*words, tag=tag)[0] == 124

    rig.whole_in_time(tmp_path, run)
    assert rig.alive(tag) == []
    end = json.loads((tmp_path / "u").read_text().splitlines()[-1])
    assert (end["killed_by"], end["left_running"]) == ("timeout", [])


def test_an_interrupt_ends_the_tree(tmp_path):  # R159
    tag = rig.tagged()
    words = ["--grace", "0.3", "--out", str(tmp_path / "u"), "--", *rig.stubborn(tmp_path)]
    with execute(*words, tag=tag, stderr=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "ready").exists, 45, "the tree to be whole")
        process.send_signal(signal.SIGINT)
        process.wait(45)
    assert rig.alive(tag) == []
    assert process.returncode in (130, 137)
    end = json.loads((tmp_path / "u").read_text().splitlines()[-1])
    assert (end["killed_by"], end["left_running"]) == ("user", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_term_and_hup_go_on_to_the_whole_tree_and_the_command_says_how_it_ends(tmp_path, number):
    tag = rig.tagged()
    name = number.name.removeprefix("SIG")
    script = (
        f"trap 'echo told; exit 40' {name}\n"
        f"setsid sh -c 'trap \"touch $0/heard; exit\" {name}; touch $0/up; while :; do sleep 0.02; done' {tmp_path} &\n"
        f"while [ ! -e {tmp_path}/up ]; do sleep 0.01; done; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    )
    words = ["--out", str(tmp_path / "u"), "--", "sh", "-c", script]
    with execute(*words, tag=tag, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "ready").exists, 45, "the tree to be whole")
        process.send_signal(number)
        out, _ = process.communicate(timeout=120)
    wait_until((tmp_path / "heard").exists, 45, "the one in its own session to hear it")
    wait_until(lambda: not rig.alive(tag), 45, "all to end")
    assert (process.returncode, out) == (40, "told\n")
    end = json.loads((tmp_path / "u").read_text().splitlines()[-1])
    assert (end["killed_by"], end["exit_code"]) == ("user", 40)


def test_at_a_terminal_an_interrupt_is_heard_once_and_by_all(tmp_path):
    tag = rig.tagged()
    script = (
        "import signal, subprocess\n"
        "subprocess.Popen(['setsid', 'sleep', '300'])\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "open('ready', 'w').close()\n"
        "while True:\n"
        "    seen = signal.sigwaitinfo([signal.SIGINT])\n"
        "    open('seen', 'a').write('keys ' if seen.si_code > 0 else 'us ')\n"
    )
    master, slave = os.openpty()
    try:
        words = ["setsid", "-c", sys.executable, "-m", "onbox", "exec", "--grace", "1000", "--quiet", "--"]
        with subprocess.Popen(
            [*words, sys.executable, "-c", script], cwd=tmp_path, stdin=slave, env=rig.environment(tag)
        ) as process:
            wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
            wait_until(lambda: sleepers(tag), 45, "its child to have a session of its own")
            os.write(master, b"\x03")
            wait_until((tmp_path / "seen").exists, 45, "the command to hear the keys")
            wait_until(lambda: not sleepers(tag), 45, "its child to hear it of us")
            wait_until((tmp_path / "seen").read_text, 45, "the command to say how")
            once = (tmp_path / "seen").read_text()
            os.write(master, b"\x03")  # now the grace is cut short
            assert process.wait(45) == 137  # it did not obey
    finally:
        os.close(master)
        os.close(slave)
    assert once == "keys " and set((tmp_path / "seen").read_text().split()) == {"keys"}
    assert rig.alive(tag) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_it_was_started_to_ignore_is_ignored(tmp_path, number):
    # As nohup and a shell's `&` start it: an end hours later is not that signal's doing.
    script = "touch ready; while [ ! -e go ]; do sleep 0.02; done; exit 3"
    with execute(
        "--out=u", "--", "sh", "-c", script,
        cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    ) as process:  # fmt: skip
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        process.send_signal(number)
        (tmp_path / "go").touch()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 3 and "told to end" not in err
    end = json.loads((tmp_path / "u").read_text().splitlines()[-1])
    assert (end["exit_code"], end["killed_by"]) == (3, None)


def test_it_listens_to_no_signal_that_asks_its_command_for_a_checkpoint(tmp_path):
    # Who asks a run for one tells those who listen: told as well, we would end the tree while it saves.
    script = "trap 'touch saved; exit 0' INT; touch ready; while :; do sleep 0.02; done"
    with execute("--quiet", "--", "sh", "-c", script, cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        said = processes.of(process.pid, "status").decode().partition("SigCgt:")[2].split()[0]
        process.send_signal(signal.SIGINT)  # a person who means us is heard all the same
        assert process.wait(45) == 0
    wanted = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    assert [number for number in wanted if int(said, 16) >> (number - 1) & 1] == []


def sleepers(tag):
    return [pid for pid in rig.alive(tag) if processes.of(pid, "cmdline") == b"sleep\x00300\x00"]


def test_whoever_interrupts_it_twice_does_not_wait(tmp_path):
    tag = rig.tagged()
    words = [
        "--grace=1000",
        "--quiet",
        "--",
        "sh",
        "-c",
        'trap "touch heard" INT; touch ready; while :; do sleep 0.02; done',
    ]
    with execute(*words, tag=tag, cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists, 45, "the command to be ready")
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            wait_until((tmp_path / "heard").exists, 45, "the command to hear it")
        assert process.wait(45) == 137
    assert rig.alive(tag) == []


def test_a_watcher_that_was_stopped_for_a_while_goes_on(tmp_path):
    os.mkfifo(tmp_path / "go")
    words = [
        "--interval=50",
        "--max-interval=50",
        "--quiet",
        "--",
        "sh",
        "-c",
        "touch up; read line <go; exit 7",
    ]
    with execute(*words, cwd=tmp_path) as process:
        wait_until((tmp_path / "up").exists, 45, "the command")
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 0.2  # its next sample is due by then
            wait_until(lambda until=until: time.monotonic() > until, 45, "the time to pass")
            process.send_signal(signal.SIGCONT)
        (tmp_path / "go").write_text("\n")
        assert process.wait(45) == 7


def test_a_command_of_an_instant_has_no_size_of_ours():
    _, _, err = ran("--json", "--", "true")
    end = json.loads(err)
    print(f"the kernel says {end['max_rss_kb']} KiB, our own size is {end['max_rss_floor_kb']}")
    assert end["max_rss_exact"] is False and end["samples_taken"] >= 2


def test_it_inherits_what_the_caller_has(tmp_path):
    look = "tr '\\0' '\\n' </proc/$$/environ | grep -v '^_=' | sort; find /proc/self/fd -type l -printf '%f\\n' | sort; grep -E '^Sig(Ign|Blk)' /proc/self/status; awk '{print $5, $6}' /proc/self/stat >&2"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(rig.ROOT), "EMPTY": ""}
    seen = []
    for words in ([], [sys.executable, "-m", "onbox", "exec", "--quiet", "--"]):
        shell = [
            "sh",
            "-c",
            'trap "" HUP; exec 8>>"$0"; "$@"; exit $?',
            str(tmp_path / "lock"),
            *words,
            "sh",
            "-c",
            look,
        ]
        done = subprocess.run(shell, env=env, capture_output=True, text=True, check=True)
        seen.append(done.stdout.splitlines())
    assert seen[0] == seen[1]
    assert "8" in seen[1]


def test_what_it_was_started_with_is_not_the_commands(tmp_path):
    # A shell that becomes the watcher hands it the children that it had.
    tag = rig.tagged()
    script = 'sleep 100 >/dev/null 2>&1 & echo $!; exec "$0" -m onbox exec --timeout 0.3 --json -- sleep 50'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        env=rig.environment(tag),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    other = int(done.stdout)
    try:
        assert done.returncode == 124 and processes.lives(other)
        assert json.loads(done.stderr)["left_running"] == []
        assert json.loads(done.stderr)["summary"]["max_processes"] == 1
    finally:
        os.kill(other, signal.SIGKILL)


SLOW_SMI = """#!/bin/sh
sleep 0.4
case $1 in --query-gpu*) echo '0, NVIDIA X, 97, 40, 81920, 40960, 40960, 61, 350.52' ;; *) echo '1, 40' ;; esac
echo over >>"$0.pids"
exec sleep 100 >&-
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_who_asks_for_the_gpus_is_none_of_the_tree(tmp_path, hangs):
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("the driver's own library is asked here")
    smi, tag = tmp_path / "nvidia-smi", rig.tagged()
    smi.write_text(SLOW_SMI if hangs else SLOW_SMI.replace("exec sleep 100 >&-", ""))
    smi.chmod(0o755)
    words = [sys.executable, "-m", "onbox", "exec", "--gpu", "--out", "u", "--quiet", "--", "sleep", "60"]
    env = rig.environment(tag, PATH=f"{tmp_path}:{os.environ['PATH']}")
    seen, mark = (smi.with_suffix(".pids"), "over") if hangs else (tmp_path / "u", '"gpu":{')
    with subprocess.Popen(words, env=env, cwd=tmp_path) as process:
        wait_until(lambda: seen.exists() and mark in seen.read_text(), 40, "an answer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(45) == 143
    lines = [json.loads(line) for line in (tmp_path / "u").read_text().splitlines()]
    samples = [line for line in lines if line["kind"] == "tree"]
    assert lines[0]["capabilities"]["gpu"] == "nvidia-smi"
    assert not [line for line in lines if line["kind"] == "child"], "it has a line of its own"
    assert max(sample["aggregated"]["process_count"] for sample in samples) == 1
    assert lines[-1]["left_running"] == [] and lines[-1]["monitor_errors"] == []
    wait_until(lambda: not rig.alive(tag), 45, "the end of it, and of what it has started")


def test_many_orphans_are_collected_as_they_end(tmp_path):
    script = "n=0; while [ $n -lt 300 ]; do (true &); n=$((n+1)); done; "
    script += "until [ $(ps -o stat= --ppid $PPID | grep -c Z) -lt 100 ]; do sleep 0.05; done; echo few"
    process = execute(
        "--interval",
        "1e13",
        "--max-interval",
        "1e13",
        "--quiet",
        "--",
        "sh",
        "-c",
        script,
        stdout=subprocess.PIPE,
    )
    assert process.communicate(timeout=100)[0] == "few\n"


def test_a_file_that_cannot_be_opened_is_125_and_nothing_runs(tmp_path):
    for option in ("--out", "--stdout", "--stderr"):
        code, _, err = ran(option, "/no/such/folder/x", "--", "touch", str(tmp_path / "ran"))
        assert code == 125 and "/no/such/folder/x: No such file" in err and "\nnext: " in err
        assert not (tmp_path / "ran").exists()


def broken(how, *words, tag=None):
    """A watcher in a Python where something is not as ever."""
    script = f"import sys; {how}; from onbox.monitor.command import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=rig.environment(tag), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()


def test_where_no_thread_can_be_started_it_is_125_and_nothing_runs(tmp_path):
    how = "import threading; threading.stack_size(1 << 47)"  # more than there are addresses
    code, said = broken(how, "--", "touch", str(tmp_path / "ran"))
    assert (code, len(said)) == (125, 2)
    assert said[0] == "onbox exec: cannot watch touch: can't start new thread" and said[1].startswith(
        "next: "
    )
    assert not (tmp_path / "ran").exists()


def test_a_fault_of_ours_is_125_and_says_what_runs_on():
    how = "import signal; signal.sigtimedwait = None"  # a kernel that refuses it
    tag = rig.tagged()
    words = ["--stdout", os.devnull, "--stderr", os.devnull, "--", "sleep", "300"]
    code, said = broken(how, *words, tag=tag)
    wait_until(lambda: rig.alive(tag), 45, "the command")
    alive = rig.alive(tag)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert (code, len(said)) == (125, 2)
    assert said[1] == f"next: kill {alive[0]}, for the command runs on, unwatched"


@pytest.mark.parametrize("how", ["closed", "full", "unread", "stuck"])
def test_whoever_cannot_hear_what_came_of_it_has_the_commands_status_all_the_same(how):
    reading, writing = os.pipe()
    if how == "stuck":  # it has a reader, who is busy with something else
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writing, bytes(4096)):
                continue
        os.set_blocking(writing, True)
    else:
        os.close(reading)
    with Path("/dev/full").open("wb") as full:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "onbox", "exec", "--", "sh", "-c", "echo x; exit 7"],
                env=rig.environment(),
                stdout=subprocess.PIPE,
                stderr={"closed": None, "full": full, "unread": writing, "stuck": writing}[how],
                preexec_fn=(lambda: os.close(2)) if how == "closed" else None,
                check=False,
                timeout=120,
            )
        finally:
            os.close(writing)
            if how == "stuck":
                os.close(reading)
    assert (done.returncode, done.stdout) == (7, b"x\n")
