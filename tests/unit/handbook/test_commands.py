"""Each command line that a handbook shows is, for a shell, exactly the words that were meant."""

import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysit.verbs import VERBS
from fleet.model.probe import Broken
from fleet.model.verdict import Health
from handbook import commands

PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


def test_the_first_command_has_all_that_an_empty_home_needs(make):  # R99 R106
    assert shlex.split(commands.adopt(make.facts())) == [
        *("babysit", "resume", "train", "--at", "root@203.0.113.7:41022"),
        *("--identity", "~/.ssh/rented", "--fingerprint", make.fingerprint),
    ]


def test_the_resume_line_needs_nothing_but_the_name(make):  # R100
    assert shlex.split(commands.carry_on("gpu1", "train")) == ["babysit", "resume", "gpu1", "train", "--yes"]


@pytest.mark.parametrize(
    ("other", "argv"),
    [
        ({"user": None}, ["--at", "203.0.113.7:41022"]),
        ({"port": None}, ["--at", "root@203.0.113.7:22"]),
        ({"host": "2001:db8::7"}, ["--at", "root@[2001:db8::7]:41022"]),
        ({"identity": "/keys/my key"}, ["--identity", "/keys/my key"]),
        ({"identity": "/home/mia/.ssh/my key"}, ["--identity", "~/.ssh/my key"]),
        ({"identity": "/home/mia2/key"}, ["--identity", "/home/mia2/key"]),
        ({"identity": "/home/mia/$(touch x)"}, ["--identity", "~/$(touch x)"]),
        ({"identity": "/home/mia/key", "home": "/"}, ["--identity", "/home/mia/key"]),
        ({"identity": "/home/mia/key", "home": None}, ["--identity", "/home/mia/key"]),
    ],
)
def test_the_first_command_follows_the_address(other, argv, make):
    words = shlex.split(commands.adopt(make.facts(**other)))
    assert words[words.index(argv[0]) + 1] == argv[1]


def test_what_is_not_known_is_left_out(make):
    bare = make.facts(user=None, identity=None, fingerprint=None)
    assert shlex.split(commands.adopt(bare)) == ["babysit", "resume", "train", "--at", "203.0.113.7:41022"]


@pytest.mark.parametrize("state_dir", ["/workspace/baby sit", "~/vol/babysit", "/data/$USER"])
def test_a_moved_state_folder_is_named_and_only_the_box_expands_it(state_dir, make):
    facts = make.facts(make.run(box_state_dir=state_dir))
    words = shlex.split(commands.adopt(facts))
    assert words[-2:] == ["--state-dir", state_dir]
    assert not _as_shell(commands.adopt(facts), HOME="/elsewhere", USER="eve")[-1].startswith("/elsewhere")
    assert facts.folder == f"{state_dir}/runs/train-k3f9"


@pytest.mark.parametrize("state_dir", [None, "~/.local/state/babysit", "~/.local/state/babysit/"])
def test_the_usual_state_folder_is_not_named(state_dir, make):
    facts = make.facts(make.run(box_state_dir=state_dir))
    assert "--state-dir" not in commands.adopt(facts)
    assert facts.folder == "~/.local/state/babysit/runs/train-k3f9"


@given(PATHS)
def test_any_path_is_one_word(make, text):  # S17
    for path in (f"/{text}", f"~/{text}"):
        facts = make.facts(identity=path)
        words = shlex.split(commands.adopt(facts))
        assert words[words.index("--identity") + 1] == path
        assert len(words) == len(shlex.split(commands.adopt(make.facts())))


@pytest.mark.parametrize(
    "name", ["key", "my key", "it's", "$(touch made)", "`touch made`", "a\nb", "-o", "~", ";", "*"]
)
def test_a_shell_expands_the_home_and_nothing_else(name, make, tmp_path):  # S17
    empty = tmp_path / "empty"
    empty.mkdir()
    line = commands.adopt(make.facts(identity=f"/home/mia/{name}"))
    words = _as_shell(line, cwd=empty, HOME="/home/new owner")
    assert words[words.index("--identity") + 1] == f"/home/new owner/{name}"
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("health", "attempt", "expected"),
    [
        (None, None, "0"),
        (Health.QUEUED, None, "0"),
        (Health.RUNNING, 1, "1"),
        (Health.VANISHED, 2, "2"),
        (Health.INTERRUPTED, 2, "2"),
        (Health.FAILED, 2, "2:failed"),
        (Health.STOPPED, 1, "1:stopped"),
    ],
)
def test_the_chain_is_told_what_its_records_said_last(health, attempt, expected, make):
    verdict = None if health is None else make.verdict(health, attempt=attempt)
    assert commands.expected(verdict) == expected
    assert commands.start_by_hand(make.facts(verdict=verdict)).endswith(f" {expected}'")


def test_of_a_loop_that_was_broken_off_the_record_says_failed(make):
    verdict = make.verdict(Health.STOPPED, attempt=2, broken=Broken("02-train", 7, 88, 0.0))
    assert commands.expected(verdict) == "2:failed"


@pytest.mark.parametrize("state_dir", [None, "~/a b/it's"])
def test_plain_ssh_reaches_log_records_results_and_chain(state_dir, make, tmp_path):  # R99
    """Carried out as typed, by a stand-in for ssh that runs the remote line in this machine's shell."""
    facts = make.facts(
        make.run(box_state_dir=state_dir, spec_cwd="~/wo rk", spec_results=("re sults.csv", "-x"))
    )
    folder = tmp_path / facts.folder.removeprefix("~/")
    (folder / "markers").mkdir(parents=True)
    (folder / "run.log").write_text("Epoch 1/2\nEpoch 2/2\n")
    (folder / "attempt").write_text(f"nonce={make.nonce}\nattempt=2\n")
    (folder / "end").write_text(f"nonce={make.nonce}\nstate=failed\n")
    (folder / "markers" / "01-prepare").write_text(f"nonce={make.nonce}\nstage=01-prepare\n")
    (folder / facts.chain).write_text('echo "started: attempt 2, told $1"\n')
    (tmp_path / "wo rk").mkdir()
    (tmp_path / "wo rk" / "re sults.csv").write_text("acc,0.97\n")
    (tmp_path / "wo rk" / "-x").write_text("1\n")
    told = {
        line: _typed(line, tmp_path)
        for line in (
            commands.tail_log(facts),
            commands.read_records(facts),
            commands.start_by_hand(facts),
            commands.show_results(facts),
        )
    }
    log, records, started, results = told.values()
    assert log == "Epoch 1/2\nEpoch 2/2\n"
    assert set(records.split()) == {
        "attempt:attempt=2",
        "end:state=failed",
        "markers/01-prepare:stage=01-prepare",
    }
    assert started == "started: attempt 2, told 1:failed\n"
    assert results == "acc,0.97\n1\n"


def test_a_run_without_results_has_no_line_that_shows_them(make):
    assert commands.show_results(make.facts(make.run(spec_results=()))) is None


@pytest.mark.parametrize(
    "line",
    [
        commands.look("gpu1", "train"),
        commands.carry_on("gpu1", "train"),
        commands.stop("gpu1", "train"),
        commands.watch("gpu1", "train"),
        commands.logs("gpu1", "train"),
    ],
)
def test_every_command_is_one_that_babysit_has(line):
    assert shlex.split(line)[0] == "babysit"
    assert shlex.split(line)[1] in VERBS


def _as_shell(line, cwd=None, **env):
    """The arguments that a program gets when sh runs `line`."""
    script = f"babysit() {{ for word; do printf '%s\\0' \"$word\"; done; }}\n{line}\n"
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        capture_output=True,
        env={**os.environ, **env},
        cwd=cwd,
        check=True,
        timeout=20,
    )
    return done.stdout.decode().split("\0")[:-1]


def _typed(line, home):
    script = f'ssh() {{ for last; do :; done; sh -c "$last"; }}\n{line}\n'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
        cwd=home,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return done.stdout
