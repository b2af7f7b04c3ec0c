"""completion: names from here alone, in a real bash; nothing that is no name reaches the shell."""

import contextlib
import os
import pty
import select
import shutil
import subprocess
import time

import pytest
from laptop import BABYSIT
from ledger_samples import a_run

from fleet.ledger.ledger import Ledger
from fleet.model.spec import BoxSpec

_ASK = """
eval "$(babysit completion bash)"
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _babysit_completion babysit; echo "${COMPREPLY[@]}"; }
"""


@pytest.fixture
def desk(tmp_path):
    """A laptop with two armed runs, one that was superseded, and a spec with a third."""
    home = tmp_path / "desk"
    state = home / ".local/state/babysit"
    with Ledger.open(state, write=True) as ledger:
        for run in (
            a_run("train-aaaaa"),
            a_run("eval-bbbbb", box="gpu2"),
            a_run("train-ccccc", newer="train-aaaaa"),
        ):
            ledger.runs.put(run)
        ledger.boxes.put(BoxSpec("adhoc", "adhoc.example"))
    (home / "babysit.toml").write_text(
        '[box.gpu1]\nhost = "gpu1.example"\n[run.tune]\nbox = "gpu1"\n'
        '[[run.tune.stages]]\nname = "tune"\ncommand = "true"\n'
    )
    return home


def _env(home):
    return {
        "HOME": str(home),
        "PATH": f"{BABYSIT.parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }


def _bash(home, script):
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=home,
        env=_env(home),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return [line.split() for line in done.stdout.splitlines()]


# What is typed, and what a shell is offered for its last word.
TYPED = {
    ("babysit", "sta"): ["status"],
    ("babysit", "logs", ""): ["adhoc", "eval", "gpu1", "gpu2", "train"],
    ("babysit", "ipc", ""): ["adhoc", "gpu1", "gpu2"],
    ("babysit", "logs", "gpu1", ""): ["train"],
    ("babysit", "logs", "gpu2", "-f", "e"): ["eval"],
    ("babysit", "logs", "gpu3", ""): [],
    ("babysit", "stop", ""): ["adhoc", "eval", "gpu1", "gpu2", "train"],
    ("babysit", "stop", "gpu2", ""): ["eval"],
    ("babysit", "stop", "gpu2", "eval", ""): [],
    ("babysit", "arm", "gpu1", "t"): ["train", "tune"],
    ("babysit", "stop", "--req"): ["--require-checkpoint"],
    ("babysit", "completion", ""): ["bash", "zsh", "fish"],
}


def test_a_real_bash_is_offered_names_and_nothing_else(desk):  # S16
    words = [" ".join(f"'{word}'" for word in typed) for typed in TYPED]
    offered = _bash(desk, _ASK + "\n".join(f"ask {typed}" for typed in words))
    assert offered == list(TYPED.values())


def test_a_tab_completes_at_a_real_prompt(desk):
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(desk)
        os.execve("/bin/bash", ["bash", "--norc", "-i"], {**_env(desk), "TERM": "dumb", "PS1": "ready> "})  # noqa: S606 - a word list
    said = b""

    def until(text):
        nonlocal said
        deadline = time.monotonic() + 60
        while text not in said:
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 4096)

    try:
        until(b"ready> ")
        os.write(terminal, b'eval "$(babysit completion bash)"; echo lo"ad"ed\n')
        until(b"loaded\r\nready> ")  # typed into a line that is being read
        os.write(terminal, b"echo babysit; babysit watch gpu2 ev\t")
        until(b"babysit watch gpu2 eval ")
    finally:
        os.close(terminal)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_a_script_and_the_same_names(desk, shell):
    script = subprocess.run(
        [BABYSIT, "completion", shell], env=_env(desk), capture_output=True, text=True, check=True
    ).stdout
    assert f"_BABYSIT_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
    word = {"zsh": "2", "fish": ""}[shell]
    asked = {
        **_env(desk),
        "_BABYSIT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "babysit stop ",
        "COMP_CWORD": word,
    }
    done = subprocess.run([BABYSIT], cwd=desk, env=asked, capture_output=True, text=True, check=True)
    assert done.stderr == "" and "train" in done.stdout and "eval" in done.stdout


@pytest.mark.parametrize("harm", ["spec", "ledger", "hostile", "none"])
def test_what_cannot_be_read_is_not_offered_and_not_said(desk, harm):  # S16
    state = desk / ".local/state/babysit"
    if harm == "spec":
        (desk / "babysit.toml").write_text("[run.")
    elif harm == "ledger":
        (state / "ledger.db").write_bytes(b"no ledger" * 1000)
    elif harm == "hostile":
        with Ledger.open(state, write=True) as ledger:
            ledger.runs.put(a_run("$(touch${IFS}pwned)-ddddd"))
    else:
        shutil.rmtree(state)
    (offered,) = _bash(desk, _ASK + "ask babysit stop ''")
    left = {"spec": ["adhoc", "eval", "gpu1", "gpu2", "train"], "none": ["gpu1"]}
    assert offered == left.get(harm, [])
    assert not list(desk.rglob("pwned"))
    assert state.exists() is (harm != "none"), "who only asks makes nothing"
