"""The console script: what a person sees who typed nothing, too little, or Ctrl-C at a bad moment."""

import os
import signal
import subprocess
import sys

import click
import pytest
from ledger_samples import a_run

from babysit.verbs import audited, speak
from fleet.errors import NotFound
from fleet.ledger.ledger import Ledger

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

# The interpreter calls back for its import locks like this; no exception can leave such a call.
LOST_IN_A_CALLBACK = """
import signal, sys, time, weakref

class Cut:
    def find_spec(self, name, path, target=None):
        if name == "babysit.verbs":
            here = Cut()
            mark = weakref.ref(here, lambda _: (signal.raise_signal(SIGNAL), None))
            del here
            time.sleep(20)

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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_python_cannot_raise_where_it_came_is_not_lost(number, code):
    done = run("-c", LOST_IN_A_CALLBACK.replace("SIGNAL", str(int(number))))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_an_output_of_another_alphabet_gets_the_rest_escaped(monkeypatch, tmp_path):
    """A cron with LANG=en_US takes Latin-1 only: a report that nobody can encode is no reason to crash."""
    with Ledger.open(tmp_path / "state", write=True) as ledger:
        ledger.runs.put(a_run())
    monkeypatch.setenv("BABYSIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = run("-m", "babysit.entry", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not seen yet  \\u2013" in done.stdout


def test_a_name_that_is_no_text_is_a_name_that_nobody_has():
    for words in (("status", "tr\udcffin"), ("logs", "gpu1", "tr\udcffin"), ("status", "gp\udcff", "train")):
        done = run("-m", "babysit.entry", *words)
        assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
        assert "next: babysit status" in done.stderr


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
        ("arm", {"box": "gpu1", "run": "train", "command": ()}, "next: babysit arm gpu1 train"),
        (
            "arm",
            {"box": "gpu1", "run": "train", "command": ("sh", "-c", "a | b")},
            "next: babysit arm gpu1 train -- sh -c 'a | b'",
        ),
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
