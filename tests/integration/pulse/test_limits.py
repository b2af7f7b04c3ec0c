"""A test that hangs fails within its limit, under the configuration that this project's tests run with."""

import re
import subprocess
import sys
import time
import tomllib

import pytest
from loops import ROOT

HANGING = """
import atexit, subprocess, time
import pytest

CHILD = subprocess.Popen(["sleep", "600"])  # a limit that is over in the middle of this were another story
atexit.register(CHILD.kill)

@pytest.fixture
def stuck():
    time.sleep(600)

@pytest.mark.timeout(1)
def test_sleeps():
    time.sleep(600)

@pytest.mark.timeout(1)
def test_waits_for_a_child():
    try:
        CHILD.wait()
    finally:
        CHILD.kill()
        CHILD.wait()

@pytest.mark.timeout(1)
def test_swallows_what_comes():
    try:
        time.sleep(600)
    except Exception:
        pass

@pytest.mark.timeout(1)
def test_hangs_before_it_begins(stuck):
    pass

def test_is_well():
    pass
"""


def test_the_limit_of_every_test_is_a_minute():  # R149
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["timeout"] == 60
    assert options["timeout_func_only"] is False, "a fixture that hangs counts"


@pytest.mark.timeout(180)
def test_a_hanging_test_fails_within_its_limit_and_the_others_run(tmp_path):  # R149
    (tmp_path / "test_hanging.py").write_text(HANGING)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", tmp_path],
        capture_output=True, text=True, check=False, timeout=150, cwd=tmp_path,
    )  # fmt: skip
    print(f"four hanging tests with a limit of 1 s each took {time.monotonic() - began:.1f} s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 1 passed, 1 error" in done.stdout, done.stdout[-3000:]
    assert len(re.findall(r"Failed: Timeout \(>1(\.0)?s\)", done.stdout)) >= 4
