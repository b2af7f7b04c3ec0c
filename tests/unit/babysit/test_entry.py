"""The console script: what a person sees who typed nothing, too little, or Ctrl-C at a bad moment."""

import os
import subprocess
import sys

import click
import pytest

from babysit.verbs import audited, speak
from fleet.errors import NotFound

CUT_WHILE_IMPORTED = """
import sys

class Cut:
    def find_spec(self, name, path, target=None):
        if name == "babysit.verbs":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Cut())
from babysit.entry import main
main()
"""


def run(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), "  arm         Start a job on a box"),
        (("completion",), "Choose from: bash, zsh, fish"),
        (("skill",), "Choose from: claude, codex"),
    ],
)
def test_whoever_types_too_little_reads_plain_text(words, shown):
    done = run("-m", "babysit.entry", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert shown in done.stderr and "\\x0a" not in done.stderr, done.stderr


def test_ctrl_c_before_the_first_line_leaves_no_traceback():
    done = run("-c", CUT_WHILE_IMPORTED)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("verb", "given", "told"),
    [
        (
            "ctl",
            {"box": "gpu1", "queue": "/tmp/a q", "path": "lr"},
            "next: babysit ctl gpu1 '/tmp/a q' status",
        ),
        ("stop", {"run": "train"}, "next: babysit resume train"),
        ("disarm", {"run": "train", "box": "gpu1"}, "next: babysit status gpu1 train"),
        ("arm", {"box": "gpu1", "run": "train"}, "next: babysit arm gpu1 train"),
        ("gc", {"box": "\x1b[2J"}, "next: babysit gc '\\x1b[2J'"),
        ("disarm", {"run": None}, ""),
        ("trust", {"box": "gpu1"}, ""),
    ],
)
def test_who_interrupts_an_act_reads_what_shows_how_far_it_came(verb, given, told, capsys):
    def cut(**_given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audited.audited(click.Command(verb, callback=cut), ())(**given)
    said = capsys.readouterr().err
    assert said.splitlines()[-1:] == ([told] if told else []), said
    assert ("was interrupted" in said) is bool(told)


@pytest.mark.parametrize("columns", [80, 40])
def test_at_a_terminal_a_sentence_is_wrapped_and_a_command_is_not(columns, monkeypatch):
    here, there = os.openpty()
    monkeypatch.setenv("COLUMNS", str(columns))
    command = f"babysit trust gpu1 --fingerprint SHA256:{'x' * 43}"
    said = b""
    with open(there, "w", encoding="utf-8") as terminal, open(here, "rb", buffering=0) as screen:  # noqa: PTH123 - descriptors
        monkeypatch.setattr(sys, "stderr", terminal)
        speak.error(NotFound("no box of that name " * 8, where="gpu1", next=(command,)), as_json=False)
        while not said.endswith(b"x\r\n"):
            said += screen.read(4096)
    *lines, last = said.decode().splitlines()
    assert last == f"next: {command}"
    assert len(lines) > 2 and all(len(line) <= columns for line in lines), lines
    assert " ".join(" ".join(lines).split()) == "babysit: gpu1: " + " ".join(["no box of that name"] * 8)
