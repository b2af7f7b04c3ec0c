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


def test_a_reader_that_goes_away_is_no_bug_and_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([BABYSIT, "status"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
