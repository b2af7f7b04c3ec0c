"""`[BOX] RUN`: one name on many boxes is never guessed, and what is advised names the box."""

import click
import pytest
from ledger_samples import a_run

from babysit.verbs import cli
from fleet.errors import NotFound, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import state_folder

VERBS = (("stop", "--yes"), ("resume", "--yes"), ("resume",), ("disarm", "--yes"), ("status",), ("handbook",),
         ("logs",), ("logs", "-f"), ("results",), ("attach", "--print"), ("watch",), ("usage",))  # fmt: skip


@pytest.fixture(autouse=True)
def _ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BABYSIT_STATE", str(tmp_path / "state"))
    with Ledger.open(state_folder(), write=True) as ledger:
        for run in (a_run("train-aaaaa"), a_run("train-bbbbb", box="gpu2"), a_run("eval-ccccc", box="gpu2")):
            ledger.runs.put(run)
        ledger.runs.put(a_run("eval-ddddd", box="gpu3", newer="eval-ccccc"))


def _typed(*words):
    return cli.main(list(words), standalone_mode=False)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_name_that_is_on_two_boxes_is_not_guessed(verb):
    with pytest.raises(UsageError, match="train is armed on 2 boxes: gpu1, gpu2") as caught:
        _typed(verb[0], "train", *verb[1:])
    assert caught.value.hint == "say which: BOX train"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_box_that_has_no_run_of_that_name_is_said(verb):
    with pytest.raises(NotFound, match="no run 'eval' on gpu1"):
        _typed(verb[0], "gpu1", "eval", *verb[1:])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("gpu1", "train"), ["train  gpu1"]),
        (("gpu2", "train"), ["train  gpu2"]),
        (("train-aaaaa",), ["train  gpu1"]),
        (("eval",), ["eval  gpu2"]),  # what was superseded elsewhere claims no name
    ],
)
def test_with_its_box_or_its_id_a_run_is_found(words, shown, capsys):
    assert _typed("status", *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["  ".join(line.split()[:2]) for line in lines[1:2]] == shown


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_more_than_a_box_and_a_run_is_refused(verb):
    with pytest.raises(click.UsageError, match=r"one run at a time, as \[BOX\] RUN: 'gpu1 train eval'"):
        _typed(verb[0], "gpu1", "train", "eval", *verb[1:])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a run or a --file: neither was given"),
        (("gpu1", "train", "--file", "a.jsonl"), "name a run or a --file: both were given"),
        (("--file", "a.jsonl"), "name the box on which the file is"),
        (("gpu1", "--file", "a.jsonl", "--stage", "train"), "--stage and --attempt mean nothing to a file"),
    ],
)
def test_with_a_file_the_one_word_is_its_box(words, says):
    with pytest.raises(UsageError, match=says):
        _typed("usage", *words)


def test_an_address_and_a_box_are_one_too_many():
    with pytest.raises(UsageError, match="leave BOX out") as caught:
        _typed("resume", "gpu1", "train", "--at", "root@203.0.113.7")
    assert caught.value.next == ("babysit resume train --at root@203.0.113.7",)
