"""Looking from outside: waiting on the box for the end, and one search of /proc for several runs."""

import os
import shutil
import subprocess
import time

import pytest
from integration.chain.rig import LONG, SHELLS, result, tools

from fleet.text.templates import box_script

pytestmark = pytest.mark.timeout(300)
HOLD_S = 55  # the longest there is


def wait(run, hold, path=None):
    """Return code of wait_for_end and how long it took."""
    script = box_script("records", "wait") + b'wait_for_end "$1" "$2"'
    env = {**os.environ, **({"PATH": str(path)} if path else {})}
    return subprocess.Popen(["sh", "-c", script, "sh", run.dir, str(hold)], env=env)


@pytest.mark.parametrize("missing", [(), ("flock",)])
def test_a_wait_returns_with_the_end_and_at_once_when_nothing_runs(make_run, tmp_path, missing):  # R65 D12
    path = tools(tmp_path / "bin", but=missing)
    run = make_run(train=LONG)
    began = time.monotonic()
    early = wait(run, HOLD_S, path)
    first = run.start("0")
    run.up()
    held = wait(run, 1, path)
    assert held.wait(60) == 1
    assert early.poll() is None
    run.open_gate()
    assert result(first)[0] == 0
    assert early.wait(60) == 0
    assert time.monotonic() - began < HOLD_S - 5, "it was held to the end of its hold"
    began = time.monotonic()
    assert wait(run, HOLD_S, path).wait(60) == 0
    assert time.monotonic() - began < HOLD_S - 5, "it was held"


def test_a_wait_without_a_plan_or_an_attempt(make_run):  # R65 D12
    run = make_run(train="true")
    assert wait(run, 1).wait(60) == 1
    (run.dir / "plan").unlink()
    assert wait(run, 1).wait(60) == 2


SCAN = b"""
set -u
one=$1/stage.lock two=$2/stage.lock
scan_search 1 60 "$one" "$two"
for dir in "$1" "$2"; do
  read_plan "$dir"
  scan_of "$dir/stage.lock"
  printf '%s=%s\\n%s' "$p_run_id" "$alive" "$alive_lines"
done
"""


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("grep", ["as it is", "fails"])
def test_one_search_finds_what_is_alive_of_several_runs(make_run, tmp_path, shell, grep):
    first, second = make_run(train=LONG), make_run(train="true")
    chain = first.start("0")
    first.up()
    env = dict(os.environ)
    if grep == "fails":
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "grep").write_text("#!/bin/sh\nexit 2\n")
        (folder / "grep").chmod(0o755)
        env["PATH"] = f"{folder}:{env['PATH']}"
    script = box_script("records", "scan") + SCAN
    done = subprocess.run(
        [*shell, "-c", script, "sh", first.dir, second.dir],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    blocks = done.stdout
    trainer = first.trainer()
    assert f"{second.run_id}=\n" in f"{blocks}\n"
    found = dict(line.split(" ", 1) for line in blocks.splitlines() if " " in line and "=" not in line)
    assert found[str(trainer)] == "tag bash"
    assert found[str(chain.pid)].startswith("lock ")
    first.open_gate()
    assert result(chain)[0] == 0


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_search_that_cannot_look_is_unknown_and_never_none(make_run, tmp_path, shell):  # R56
    run = make_run(train=LONG)
    chain = run.start("0")
    run.up()
    path = tools(tmp_path / "bin", but=("sed",))
    script = box_script("records", "scan") + SCAN
    done = subprocess.run(
        [shutil.which(shell[0]), *shell[1:], "-c", script, "sh", run.dir, run.dir],
        env={**os.environ, "PATH": str(path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{run.run_id}=?\n" * 2
    run.open_gate()
    assert result(chain)[0] == 0
    assert run.result("0", PATH=str(path))[0] == 0  # moved on: already so
    other = make_run(train="work train")
    assert other.result("0", PATH=str(path)) == (12, "unknown: /proc cannot be searched")
    assert not other.launches()
