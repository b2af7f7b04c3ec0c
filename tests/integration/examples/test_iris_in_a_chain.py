"""The example as a run: its chain is killed, and somebody with the handbook alone carries it on by plain ssh."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import processes
import pytest
from waiting import wait_until

from fleet.arming.chain import BoxPlan, render, tag_of
from fleet.model.run import Run
from fleet.model.spec import BoxSpec
from fleet.model.verdict import Health, Severity, Verdict
from fleet.spec.decode import decode
from handbook import commands
from handbook.facts import facts

IRIS = Path(__file__).parents[3] / "examples" / "iris"
NONCE = "0123456789abcdef" * 2
EPOCHS = 40
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def laid_down(tmp_path):
    """The run on a "box" that is a folder: the example in ~/iris, the chain where arm puts it."""
    home = tmp_path / "box home"
    shutil.copytree(IRIS, home / "iris", ignore=shutil.ignore_patterns("__pycache__"))
    spec = decode((IRIS / "babysit.toml").read_text(), "babysit.toml").runs["iris"]
    python = shlex.quote(sys.executable)
    # Slow as long as it is to be found running; what carries it on has no time to lose.
    pace = home / "pace"
    pace.write_text("1.5\n")
    quick = f"train.py --epochs {EPOCHS} --epoch-seconds $(cat {shlex.quote(str(pace))})"
    stages = tuple(
        msgspec.structs.replace(
            stage,
            command=stage.command.replace("python3", f"{python} -B").replace(
                "train.py --epochs 90 --epoch-seconds 20", quick
            ),
        )
        for stage in spec.stages
    )
    assert quick in stages[1].command
    run = Run(
        run_id="iris-k3f9",
        spec=msgspec.structs.replace(spec, stages=stages),
        box=BoxSpec(name="gpu1", host="gpu1"),
        nonce=NONCE,
        tag=tag_of("iris-k3f9", NONCE),
        chain="",
        spec_digest="0" * 64,
        armed_at=0.0,
        launched=True,
    )
    folder = home / ".local/state/babysit/runs/iris-k3f9"
    files = render(run, BoxPlan(state_dir="-", lockdir=str(tmp_path / "locks")))
    for name, content in files.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return home, folder, msgspec.structs.replace(run, chain=files.chain_name)


def typed(line, home):
    """The line run as typed, by a stand-in for ssh that runs its last word in a shell of this machine."""
    script = f'ssh() {{ for last; do :; done; cd && sh -c "$last"; }}\n{line}\n'
    env = {**os.environ, "HOME": str(home)}
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, env=env, text=True, start_new_session=True
    )


def answered(line, home):
    with typed(line, home) as call:
        return call.communicate(timeout=120)[0]


def living(group):
    return [
        pid for pid in processes.pids() if processes.stat(pid)[2:3] == [str(group)] and processes.lives(pid)
    ]


def seen(run, health, attempt):
    return Verdict(
        run_id=run.run_id,
        run=run.name,
        box="gpu1",
        row="-",
        health=health,
        severity=Severity.PAGE,
        exit_code=10,
        summary="-",
        since=0.0,
        facts_at=0.0,
        attempt=attempt,
        evidence=(),
        next=(),
    )


def test_the_handbooks_plain_line_carries_a_killed_run_on_to_its_result(laid_down):  # R99
    home, folder, run = laid_down
    work = home / "iris"

    def by_hand(health, attempt):
        verdict = None if health is None else seen(run, health, attempt)
        return commands.start_by_hand(facts(run, host="203.0.113.7", user="root", verdict=verdict))

    log = folder / "run.log"
    with typed(by_hand(None, None), home) as first:
        wait_until(lambda: log.exists() and "Epoch 3/" in log.read_text(), 60, "the training reached epoch 3")
        # While it lives, the same line again starts nothing.
        assert answered(by_hand(Health.RUNNING, 1), home).split(":")[0] == "alive"
        assert answered(by_hand(None, None), home).startswith("already-so: 1")
        os.killpg(first.pid, signal.SIGKILL)
        assert first.communicate(timeout=45)[0] == "started: attempt 1\n"
    wait_until(lambda: not living(first.pid), 45, "the end of all that was killed")
    (home / "pace").write_text("0.02\n")
    said = answered(by_hand(Health.VANISHED, 1), home)
    assert said == "started: attempt 2\n"
    assert answered(by_hand(Health.VANISHED, 1), home).startswith("already-so: 2:done")

    text = log.read_text()
    assert "resumed from epoch " in text
    assert text.count(f"Epoch {EPOCHS}/{EPOCHS}") == 1
    assert text.count("== stage 01-prepare") == 1, "a stamped stage is not run again"
    assert len((work / "launches.log").read_text().splitlines()) == 2
    told = answered(commands.show_results(facts(run, host="203.0.113.7")), home)
    assert told == (work / "results.csv").read_text()
    assert f"epochs,{EPOCHS}\n" in told
    records = answered(commands.read_records(facts(run, host="203.0.113.7")), home)
    assert "end:state=done" in records
    assert NONCE not in records
