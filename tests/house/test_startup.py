"""Start-up is a promise: help and status load nothing that they do not use. Times are measured in bench/."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BABYSIT = Path(sys.executable).with_name("babysit")
SLOW = {
    "fabric",
    "paramiko",
    "invoke",
    "apprise",
    "apscheduler",
    "jinja2",
    "requests",
    "cryptography",
    "rich",
    "asyncio",
}


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["status"], ["arm", "--help"], ["status", "--json"]]
)
def test_a_light_command_imports_nothing_slow(words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", BABYSIT, *words], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)}
    assert "click" in loaded
    assert not loaded & SLOW


def test_help_imports_no_act_and_no_database():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", BABYSIT, "--help"], capture_output=True, text=True, check=True
    )
    assert "babysit.acts." not in done.stderr and "sqlite3" not in done.stderr


def test_status_of_a_quiet_fleet_reads_no_log_and_judges_nothing(tmp_path):
    env = {**os.environ, "HOME": str(tmp_path), "BABYSIT_STATE": str(tmp_path / "state")}
    for words in (["status"], ["status", "--json"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", BABYSIT, *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "patrol.report" in done.stderr
        assert not {"patrol.progress", "patrol.case"} & set(re.findall(r"patrol\.\w+", done.stderr))


COMPLETING = {"_BABYSIT_COMPLETE": "bash_complete", "COMP_WORDS": "babysit logs ", "COMP_CWORD": "2"}


def test_completing_a_name_imports_nothing_slow_and_costs_a_few_bare_interpreters():
    env = {**os.environ, **COMPLETING}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", BABYSIT], env=env, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)}
    assert not loaded & SLOW
    bare, asked = (
        min(_cpu_s(words, env) for _ in range(5))
        for words in ([sys.executable, "-I", "-c", ""], [sys.executable, BABYSIT])
    )
    print(f"bare {bare * 1000:.0f} ms, completing {asked * 1000:.0f} ms of processor time")
    assert asked < 25 * bare  # measured: 7 to 10


def _cpu_s(words, env):
    child = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return used.ru_utime + used.ru_stime


def test_a_reader_that_goes_away_is_no_bug_and_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([BABYSIT, "status"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
