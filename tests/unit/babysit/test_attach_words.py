"""The command that attach runs or prints: every word is data, whatever shell reads it in the end."""

import re
import shlex

import pytest

from babysit.acts.attach import session_of, ssh_words
from fleet.model.spec import BoxSpec

PLAIN = BoxSpec("gpu1", "gpu1")
FULL = BoxSpec("gpu1", "10.0.0.7", user="dev", port=2201, identity="~/.ssh/it's a key")


@pytest.mark.parametrize(
    ("box", "head"),
    [
        (PLAIN, ["ssh", "-t", "--", "gpu1"]),
        (FULL, ["ssh", "-t", "-p", "2201", "-l", "dev", "-i", "~/.ssh/it's a key", "--", "10.0.0.7"]),
    ],
)
def test_the_words_before_the_command(box, head):
    words = ssh_words(box, "train-k3f9a", write=False)
    assert list(words[:-1]) == head


@pytest.mark.parametrize("write", [True, False])
def test_it_is_read_only_unless_asked_and_names_the_session_exactly(write):  # S17
    *_, remote = ssh_words(PLAIN, "train.v2-k3f9a", write=write)
    run, shell, option, line = shlex.split(remote)
    assert (run, shell, option) == ("exec", "sh", "-c")
    words = shlex.split(line)
    assert ("-r" in words) is not write
    # The = asks for this very name: without it tmux takes the first session that begins so.
    assert words[-2:] == ["-t", "=babysit-train_v2-k3f9a"]
    # A login shell sees no word that begins with =, which zsh would take for a program's name.
    assert not re.search(r"(^|\s)=", remote.replace(f"'{line}'", "''"))


def test_a_session_is_called_as_tmux_calls_it():
    assert session_of("a.b.c-k3f9a") == "babysit-a_b_c-k3f9a"
