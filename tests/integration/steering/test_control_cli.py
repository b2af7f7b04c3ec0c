import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from processes import lives
from waiting import wait_until

from fleet.arming.ship import build_pyz
from onbox.control import RuntimeController

pytestmark = pytest.mark.timeout(300)

SAMPLES = Path(__file__).parents[2] / "data/runtimectl"
REAL = json.loads((SAMPLES / "cli.json").read_text())
PYTHONS = pythons.found()
ORDERED = sorted(PYTHONS, key=lambda version: tuple(map(int, version.split("."))))

# A program that listens: it counts what it applied in a file, and ends when it is told to or its parent is gone.
PROGRAM = """
import os, sys, time
from onbox import RuntimeController
queue, counter = sys.argv[1:3]
program = RuntimeController(queue, expire_s=None)

def count(ctx, word, seconds=0):
    with open(counter, "a") as file:
        file.write("%s\\n" % word)
    time.sleep(seconds)

def validate(v, seconds=0):
    if v == "bad":
        raise ValueError("no")
    return v

def die(ctx):
    os._exit(9)

program.register("count", count)
program.register("checked", count, validate)
program.register("die", die)
parent = os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    program.poll_and_apply({}, 0.0)
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    path = tmp_path_factory.mktemp("tool") / "onbox.pyz"
    path.write_bytes(build_pyz()[0])
    return str(path)


@pytest.fixture
def asked(tool, tmp_path):
    """`asked(*words)`: the finished command over the queue in tmp_path."""

    def run(*words, python=sys.executable, environment=None):
        return subprocess.run(
            [python, tool, "runtimectl", "-q", "queue", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONUTF8": "1", **(environment or {})},
        )

    return run


@contextlib.contextmanager
def listening(tool, tmp_path, python=sys.executable):
    """The process of a program that listens."""
    words = [python, "-c", PROGRAM, str(tmp_path / "queue"), str(tmp_path / "counter")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": tool}) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def counted(tmp_path):
    path = tmp_path / "counter"
    return path.read_text().split() if path.exists() else []


def as_theirs(text):
    """The output with what differs each time taken out."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return {key: value for key, value in document.items() if key not in {"id", "ts", "pending", "listener"}}


@pytest.mark.parametrize("version", ORDERED)
def test_it_says_what_010_says(asked, version):  # R156
    for case in REAL if version == ORDERED[0] else REAL[:2]:
        done = asked(*case["words"], python=PYTHONS[version])
        assert done.returncode == case["code"], done.stderr
        assert "Traceback" not in done.stderr
        if case["code"] == 0:
            ours, theirs = json.loads(done.stdout), json.loads(case["stdout"])
            assert list(ours)[: len(theirs)] == list(theirs)
            assert str(as_theirs(done.stdout)) == str(as_theirs(case["stdout"]))  # NaN is not itself
        elif case["words"]:
            assert done.stdout == "" and done.stderr.splitlines()[-1] == case["stderr_last"]
        else:
            assert done.stdout.startswith("usage: runtimectl ")


def test_the_status_of_010_is_ours_with_keys_behind_it(asked, tmp_path):
    (tmp_path / "queue").mkdir()
    for name in ("commands.jsonl", "acks.jsonl"):
        (tmp_path / "queue" / name).write_bytes((SAMPLES / name).read_bytes())
    ours, theirs = asked("status", "--last", "2").stdout, (SAMPLES / "status.json").read_text()
    theirs = theirs.replace('"frozen"', '"queue"')
    assert ours.startswith(theirs[: theirs.rindex("\n}")])
    assert json.loads(ours)["pending"] == 0 and json.loads(ours)["listener"] is None
    assert len(json.loads(asked("status", "--last", "0").stdout)["last_acks"]) == 23
    assert len(json.loads(asked("status", "--last", "-20").stdout)["last_acks"]) == 3


def test_status_survives_torn_lines_and_tells_what_waits(asked, tmp_path):
    asked("count", "1")
    (tmp_path / "queue/acks.jsonl").write_bytes(
        b'{"id": "a", "ts": 1, "op": "set"}\n{"id"\n\xff\xfe\n[1]\n{"id": "b", "ts"'
    )
    done = asked("status")
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert (said["commands"], said["acks"], said["pending"], said["listener"]) == (1, 5, 1, None)
    assert said["last_acks"] == [{"id": "a", "ts": 1, "op": "set"}]


def test_waiting_tells_applied_from_rejected_and_failed(asked, tool, tmp_path):  # R155
    with listening(tool, tmp_path, python=PYTHONS[ORDERED[0]]) as program:
        done = asked("count", "a", "--wait", "30")
        command, ack = map(json.loads, done.stdout.splitlines())
        assert (done.returncode, done.stderr) == (0, "")
        assert (
            command["id"] == ack["id"] and ack["status"] == "applied" and command["expires"] > command["ts"]
        )
        for words, error in [(["checked", "bad"], "no"), (["nobody"], "unknown path: nobody")]:
            done = asked(*words, "--wait", "30")
            assert done.returncode == 22 and json.loads(done.stdout.splitlines()[1])["error"] == error
        listener = json.loads(asked("status").stdout)["listener"]
        assert (listener["pid"], listener["alive"]) == (program.pid, True)
        done = asked("--archive")
        assert done.returncode == 22 and f"pid {program.pid} " in done.stderr
    wait_until(lambda: not lives(program.pid), 60, "the program gone")
    assert json.loads(asked("status").stdout)["listener"]["alive"] is False
    assert counted(tmp_path) == ["a"]
    assert asked("--archive").returncode == 0
    assert not (tmp_path / "queue/commands.jsonl").exists() and not (tmp_path / "queue/acks.jsonl").exists()


def test_a_program_that_dies_while_we_wait_is_told_at_once(asked, tool, tmp_path):
    with listening(tool, tmp_path):
        done = asked("die", "--wait", "3600")
        assert done.returncode == 23 and "is gone" in done.stderr and "taken already" in done.stderr
    done = asked("count", "late", "--wait", "3600")
    assert done.returncode == 23 and "nothing was sent" in done.stderr and done.stdout == ""
    with listening(tool, tmp_path):
        acks = tmp_path / "queue/acks.jsonl"
        wait_until(
            lambda: acks.exists() and b"the program ended" in acks.read_bytes(),
            60,
            "the command acknowledged as failed",
        )
    assert counted(tmp_path) == []


def test_a_program_that_does_not_ask_in_time_never_applies_it_later(asked, tool, tmp_path):  # R154
    with listening(tool, tmp_path) as program:
        os.kill(program.pid, signal.SIGSTOP)
        done = asked("count", "late", "--wait", "0.3")
        assert done.returncode == 124 and "the command was withdrawn" in done.stderr
        os.kill(program.pid, signal.SIGCONT)
        done = asked("count", "after", "--wait", "30")
        assert done.returncode == 0
        assert counted(tmp_path) == ["after"]
        # Behind the answer, not before it.
        wait_until(lambda: not list((tmp_path / "queue").rglob("*.taken")), 60, "the marks taken away")
    (late,) = [json.loads(line) for line in (tmp_path / "queue/acks.jsonl").read_text().splitlines()][:1]
    assert late["status"] == "rejected"


def test_what_is_being_applied_cannot_be_withdrawn(asked, tool, tmp_path):
    with listening(tool, tmp_path):
        done = asked("count", "slow", "--kwargs", '{"seconds": 300}', "--wait", "0.1")
        if counted(tmp_path):  # it may not have come to it: then it is withdrawn, as above
            assert done.returncode == 124 and "taken already and cannot be withdrawn" in done.stderr
        else:
            assert done.returncode == 124 and "withdrawn" in done.stderr


def test_who_stops_waiting_withdraws(tool, tmp_path):
    queue = tmp_path / "queue"
    words = [sys.executable, tool, "runtimectl", "-q", str(queue), "count", "x", "--wait", "100"]
    RuntimeController(queue)
    listener = queue / "onbox/listener.json"
    listener.unlink()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the command was withdrawn" in said
    got = []
    program = RuntimeController(queue)
    program.register("count", lambda _, word: got.append(word))
    program.poll_and_apply(None, 0)
    assert got == []


def test_a_queue_of_a_real_runtimectl_is_warned_of_and_can_be_moved_aside(asked, tmp_path):
    for word in ("1", "2"):
        done = asked("count", word)
        assert done.returncode == 0
    assert "a real runtimectl will replay what lies here (1) at its next start" in done.stderr
    done = asked("status")
    assert "will replay what lies here (2)" in done.stderr and json.loads(done.stdout)["commands"] == 2
    before = (tmp_path / "queue/commands.jsonl").read_bytes()
    done = asked("--archive", "count", "3")
    assert done.returncode == 0 and "will replay" not in done.stderr
    (moved,) = (tmp_path / "queue").glob("commands.2*.jsonl")
    assert moved.read_bytes() == before
    assert json.loads((tmp_path / "queue/commands.jsonl").read_text())["args"] == [3]
    done = asked("--archive", "status")
    assert (
        json.loads(done.stdout)["commands"] == 0 and len(list((tmp_path / "queue").glob("commands.2*"))) == 2
    )


WRONG = {
    "no folder named": (["status"], "the following arguments are required: -q"),
    "no number": (["-q", "queue", "x", "--wait", "soon"], "invalid seconds value: 'soon'"),
    "no sensible number": (["-q", "queue", "x", "--wait", "-1"], "--wait"),
    "for ever": (["-q", "queue", "x", "--expires", "inf"], "invalid seconds value: 'inf'"),
    "a file": (["-q", "file", "x"], "cannot use file"),
    "an empty tag": (["-q", "queue", "--tag", "", "x"], "an empty tag is that of no run"),
    "too much": (
        ["-q", "queue", "x", "[" + ",".join(["1"] * 60000) + "]"] + ["y" * 100_000] * 10,
        "at most 1048576",
    ),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_command_line_or_folder_that_is_wrong_ends_with_2(tool, tmp_path, words, said):
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, tool, "runtimectl", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_terminal_of_ascii_and_arguments_of_no_encoding_are_survived(tool, tmp_path):
    environment = {
        **os.environ,
        "PYTHONUTF8": "0",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONCOERCECLOCALE": "0",
    }
    words = [sys.executable, tool, "runtimectl", "-q", "queue", "note", "größe", b"\xff\x1b"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["args"][1].endswith("\x1b") and b"\x1b" not in done.stdout
