import os
import subprocess
import sys

import pytest

from fleet.arming.buffering import holds_back

SAYS = "import os; print('said'); os._exit(0)"  # what waits in a buffer is lost

BUFFERED = {
    "env -i {python} -c {says}": "env -i",
    "env - PATH=/bin {python} -c {says}": "env -i",
    "/usr/bin/env --ignore-environment {python} -c {says}": "env -i",
    "env -u PYTHONUNBUFFERED {python} -c {says}": "env -u PYTHONUNBUFFERED",
    "PYTHONUNBUFFERED= {python} -c {says}": "PYTHONUNBUFFERED=",
    "PYTHONUNBUFFERED='' {python} -c {says}": "PYTHONUNBUFFERED=",
    "unset PYTHONUNBUFFERED\n{python} -c {says}": "unset PYTHONUNBUFFERED",
    "{python} -I -c {says}": "python -I",
    "cd / && {python} -sE -c {says} 2>&1": "python -E",
    "true; {python} -B -I \\\n -c {says}": "python -I",
}
AT_ONCE = (
    "{python} -c {says}",
    "{python} -u -I -c {says}",
    "{python} -Iu -c {says}",
    "env -i {python} -u -c {says}",
    "env -i PYTHONUNBUFFERED=1 {python} -c {says}",
    "env PATH=/bin {python} -c {says}",
    "unset OTHER; {python} -c {says}",
    "{python} -c {says} -I -E",
    "echo env -i; {python} -c {says}",
)


@pytest.mark.parametrize(("command", "words"), BUFFERED.items())
def test_what_takes_the_variable_away_is_named_and_python_does_hold_back(command, words):  # R148 D8
    assert holds_back(command.format(python="python3", says="x")) == words
    assert said_by(command) == ""


@pytest.mark.parametrize("command", AT_ONCE)
def test_what_leaves_it_there_is_not_and_python_does_not_hold_back(command):  # R148 D8
    assert holds_back(command.format(python="/opt/bin/python3.11", says="x")) is None
    assert said_by(command).endswith("said\n")


def said_by(command):
    """What the command prints in a pipe with the variable that the chain sets."""
    done = subprocess.run(
        ["sh", "-c", command.format(python=sys.executable, says=f'"{SAYS}"')],
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sudo python3 train.py", "sudo"),
        ("sudo -E python3 train.py", None),
        ("sudo -nEH python3 train.py", None),
        ("sudo --preserve-env=HOME,PYTHONUNBUFFERED python3 train.py", None),
        ("sudo --preserve-env=HOME python3 train.py", "sudo"),
        ("sudo PYTHONUNBUFFERED=1 python3 train.py", None),
        ("# python -I hides our modules; so does python -E\npython3 train.py  # not env -i python", None),
        ("env SEED=1 srun -i none python3 train.py", None),
        ("env SEED=1 ssh -i key host python3 train.py", None),
        ("env -v -i SEED=1 python3 train.py", "env -i"),
        ("torchrun --nproc 8 train.py", None),
        ("pythonic -I", None),
        ("", None),
    ],
)
def test_others_are_judged_by_their_words(command, words):  # R148
    assert holds_back(command) == words
