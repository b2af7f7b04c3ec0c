"""What ssh said of a name is asked again after every change that could make it say something else."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.errors import UsageError
from fleet.link.address import resolve
from fleet.link.answers import FILE_NAME, Answers
from fleet.link.ssh_config import ask_ssh
from fleet.link.ssh_reads import Reads, reads, reads_all
from fleet.model.spec import BoxSpec

HOSTS = ("gpu1", "gpu2")


class Place(NamedTuple):
    """Where ssh_config lies, and where its answers are kept."""

    ssh: Path
    state: Path

    @property
    def config(self) -> Path:
        return self.ssh / "config"

    @property
    def kept(self) -> Path:
        return self.state / FILE_NAME

    def write(self, name: str, text: str) -> None:
        path = self.ssh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def learn(self, *words: str) -> None:
        """A look at both hosts."""
        answers = Answers(self.state)
        for host in HOSTS:
            answers.ask("box", host, words)
        answers.keep()

    def forge(self) -> None:
        """Make what is kept tell another name than ssh would: who repeats it did not ask ssh."""
        kept = json.loads(self.kept.read_text())
        for answer in kept["told"]["box"].values():
            answer["hostname"] = ["remembered"]
        self.kept.write_text(json.dumps(kept))

    def says(self, *words: str) -> list[str]:
        answers = Answers(self.state)
        return [answers.ask("box", host, words)["hostname"][0] for host in HOSTS]

    def ssh_says(self, *words: str) -> list[str]:
        return [ask_ssh("box", host, words)["hostname"][0] for host in HOSTS]


@pytest.fixture
def place(tmp_path):
    home = Path(os.environ["HOME"])
    place = Place(home / ".ssh", tmp_path / "state")
    place.ssh.mkdir()
    place.state.mkdir(mode=0o700)
    place.write(
        "config", f"# ours\nInclude {place.ssh}/parts/*.conf {place.ssh}/extra\nHost gpu2\n  HostName two\n"
    )
    place.write("parts/10.conf", f"Include {place.ssh}/deep/*\nHost gpu1\n  HostName one\n")
    place.write("parts/20.conf", "Host gpu1\n  HostName later\n")
    place.write("deep/a", "Host gpu9\n  HostName nine\n")
    return place


def test_an_answer_is_repeated_while_nothing_changed(place):
    place.learn()
    assert stat.S_IMODE(place.kept.stat().st_mode) == 0o600
    assert place.says() == place.ssh_says() == ["one", "two"]
    place.forge()
    assert place.says() == ["remembered", "remembered"]
    assert place.says("-l", "bob") == ["one", "two"]  # another question
    with_words = Answers(place.state)
    assert with_words.ask("other box", "gpu1", ())["hostname"] == ["one"]


def move_away_and_back(place: Place) -> None:
    """The same words in another file."""
    text = place.config.read_text()
    place.config.rename(place.ssh / "old")
    place.config.write_text(text)


def edit_in_place(place: Place) -> None:
    """As long as before, and as old as before."""
    was = place.config.stat()
    place.config.write_text(place.config.read_text().replace("two", "TWO"))
    os.utime(place.config, ns=(was.st_atime_ns, was.st_mtime_ns))


def swap_link(place: Place) -> None:
    (place.ssh / "extra").unlink()
    (place.ssh / "extra").symlink_to(place.ssh / "second")


def swap_folder(place: Place) -> None:
    (place.ssh / "parts").rename(place.ssh / "old-parts")
    place.write("other/10.conf", "Host gpu1\n  HostName swapped\n")
    (place.ssh / "parts").symlink_to(place.ssh / "other")


# What is done, and what ssh then says of the two hosts.
EDITS: dict[str, tuple[Callable[[Place], object], list[str]]] = {
    "config edited": (lambda p: p.config.write_text("Host gpu*\n  HostName new\n"), ["new", "new"]),
    "config edited, as long and as old as before": (edit_in_place, ["one", "two"]),
    "config gone": (lambda p: p.config.unlink(), []),
    "config replaced by its copy": (move_away_and_back, ["one", "two"]),
    "config touched": (lambda p: p.config.touch(), ["one", "two"]),
    "config for others to read": (lambda p: p.config.chmod(0o640), ["one", "two"]),
    "included file edited": (lambda p: p.write("parts/10.conf", "Host gpu1\n HostName x\n"), ["x", "two"]),
    "file added in a glob": (lambda p: p.write("parts/00.conf", "Host gpu1\n HostName x\n"), ["x", "two"]),
    "file removed from a glob": (lambda p: (p.ssh / "parts/10.conf").unlink(), ["later", "two"]),
    "file renamed in a glob": (
        lambda p: (p.ssh / "parts/10.conf").rename(p.ssh / "parts/30.conf"),
        ["later", "two"],
    ),
    "file included by an included one edited": (lambda p: p.write("deep/a", "HostName x\n"), ["x", "x"]),
    "file added in a glob of an included one": (lambda p: p.write("deep/b", "HostName x\n"), ["x", "x"]),
    "linked file swapped": (swap_link, ["one", "swapped"]),
    "folder of a glob swapped": (swap_folder, ["swapped", "two"]),
    "included file comes": (lambda p: p.write("missing", "Host gpu2\n HostName x\n"), ["one", "x"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_after_every_edit_ssh_is_asked_again(place, name):  # R26
    place.write("first", "Host gpu2\n  HostName first\n")
    place.write("second", "Host gpu2\n  HostName swapped\n")
    if name == "linked file swapped":
        (place.ssh / "extra").symlink_to(place.ssh / "first")
    if name == "included file comes":
        place.config.write_text(f"Include {place.ssh}/missing\n{place.config.read_text()}")
    place.learn()
    place.forge()
    assert place.says() == ["remembered", "remembered"]
    edit, says = EDITS[name]
    edit(place)
    assert place.says() == place.ssh_says()
    assert [host.lower() for host in place.ssh_says()] == says or not says
    place.learn()  # and that is remembered from now on
    place.forge()
    assert place.says() == ["remembered", "remembered"]


def test_another_home_or_another_ssh_is_another_question(place, monkeypatch, tmp_path):
    place.learn()
    place.forge()
    (tmp_path / "bin").mkdir()
    shutil.copy(shutil.which("ssh"), tmp_path / "bin/ssh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert place.says() == ["one", "two"]
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "remembered" not in place.says()


# What may change by itself, or is not understood for certain.
UNSURE = {
    "a program decides": 'Match exec "true"\n  HostName program\n',
    "a program decides, by another spelling": "mAtCh=host gpu1 !exec false\n  HostName program\n",
    "the network decides": "Match localnetwork 127.0.0.0/8\n  HostName local\n",
    "a criterion of another day": "Match host gpu1 moonphase full\n",
    "the name server decides": "CanonicalizeHostname yes\n",
    "the environment decides": "IdentityFile ~/.ssh/${KEYS}/id\n",
    "a token of another day": "HostName %z\n",
    "a quoted word": 'Include "~/my parts/*"\n',
    "a pattern that shells read otherwise": "Include parts/[^a]*\n",
    "somebody else's files": "Include ~nobody/config\n",
    "a quoted keyword": '"HostName" quoted\n',
}


@pytest.mark.parametrize("name", UNSURE)
@pytest.mark.parametrize("where", ["config", "extra"])
def test_what_may_change_by_itself_is_asked_each_time(place, name, where):  # R26
    place.write(where, f"{UNSURE[name]}{place.config.read_text() if where == 'config' else ''}")
    assert reads() is None
    answers = Answers(place.state)
    for host in HOSTS:
        try:
            answers.ask("box", host, ())
        except UsageError:  # this ssh does not know the word
            return
    answers.keep()
    assert not place.kept.exists()


# These are decided by the words of the question alone.
SURE = {
    "criteria": "Match host gpu1 user bob\n  HostName x\nMatch originalhost gpu2 !localuser nobody\n Port 7\n",
    "final": "Match final all\n  Port 7\n",
    "tokens": "Host *\n  ControlPath ~/.ssh/%C-%r@%h:%p\n  ProxyCommand nc %h %p 100%%\n",
    "canonicalizing nothing": "CanonicalizeHostname no\n",
    "a remark": 'Host gpu1 # once "was" ${HERE}\n'.replace("${HERE}", "here"),
}


@pytest.mark.parametrize("name", SURE)
def test_what_the_question_decides_is_remembered(place, name):
    place.config.write_text(f"{place.config.read_text()}{SURE[name]}")
    place.learn()
    assert place.kept.exists()
    place.forge()
    assert place.says() == ["remembered", "remembered"]


def to_others(place: Place) -> None:
    place.kept.chmod(0o644)


def to_somebody(place: Place) -> None:
    os.chown(place.kept, 12345, -1)


def as_link(place: Place) -> None:
    place.kept.rename(place.state / "elsewhere")
    place.kept.symlink_to(place.state / "elsewhere")


def as_pipe(place: Place) -> None:
    place.kept.unlink()
    os.mkfifo(place.kept, 0o600)


def as_other(place: Place, **changes: object) -> None:
    place.kept.write_text(json.dumps({**json.loads(place.kept.read_text()), **changes}))


# What became of the file since.
FOREIGN: dict[str, Callable[[Place], object]] = {
    "empty": lambda p: p.kept.write_bytes(b""),
    "cut": lambda p: p.kept.write_bytes(p.kept.read_bytes()[:-1]),
    "rubbish": lambda p: p.kept.write_bytes(b"\xff\x00rubbish"),
    "of a newer format": lambda p: as_other(p, format=2),
    "of another shape": lambda p: as_other(p, told={"box": ["gpu1"]}),
    "others may read it": to_others,
    "somebody else's": to_somebody,
    "a link": as_link,
    "a pipe": as_pipe,
    "too large": lambda p: p.kept.write_bytes(p.kept.read_bytes() + b" " * 8_000_001),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_damaged_or_not_ours_alone_is_ignored_and_written_anew(place, name):  # S36
    place.learn()
    place.forge()
    if name == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    FOREIGN[name](place)
    assert place.says() == ["one", "two"]
    place.learn()
    found = place.kept.lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    place.forge()
    assert place.says() == ["remembered", "remembered"]
    assert sorted(path.name for path in place.state.iterdir() if path.name != "elsewhere") == [FILE_NAME]


def test_a_place_that_takes_nothing_is_no_failure(place):
    place.kept.mkdir()
    place.learn()
    assert place.says() == ["one", "two"]
    assert [path.name for path in place.state.iterdir()] == [FILE_NAME]


def test_what_changed_while_ssh_was_asked_is_not_remembered(place):
    answers = Answers(place.state)
    answers.ask("box", "gpu1", ())
    place.config.write_text(f"Host gpu1\n  HostName new\n{place.config.read_text()}")
    answers.keep()
    assert not place.kept.exists()


def test_a_box_that_did_not_answer_is_looked_up_anew(place):
    place.learn()
    answers = Answers(place.state)
    answers.ask("another", "gpu1", ())
    answers.forget("box")
    answers.keep()
    assert list(json.loads(place.kept.read_text())["told"]) == ["another"]


def test_a_failure_is_not_remembered(place):
    place.write("extra", "NoSuchOption\n")
    answers = Answers(place.state)
    with pytest.raises(UsageError):
        answers.ask("box", "gpu1", ())
    answers.keep()
    assert not place.kept.exists()


@pytest.mark.parametrize("name", ["parts/pipe.conf", "parts/folder.conf"])
def test_what_is_no_plain_file_is_not_waited_for(place, name):
    made = place.ssh / name
    (os.mkfifo if "pipe" in name else Path.mkdir)(made)
    assert reads() is None


def test_an_ssh_that_is_a_script_is_asked_each_time(place, tmp_path, monkeypatch):
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert reads() is None
    place.learn()
    assert not place.kept.exists()


def test_an_ssh_that_reads_more_files_than_we_know_is_asked_each_time(place):
    known = reads()
    assert known is not None
    assert {str(place.config), str(place.ssh / "parts/10.conf"), str(place.ssh / "deep/a")} <= known.files
    assert reads_all(known, "gpu1")
    assert not reads_all(Reads(known.files - {str(place.ssh / "deep/a")}, known.mark), "gpu1")


def test_every_hop_of_a_way_is_remembered_too(place):
    place.config.write_text("Host gpu1\n HostName one\n ProxyJump bob@hop:7\nHost hop\n HostName bastion\n")
    answers = Answers(place.state)
    first = resolve(BoxSpec("gpu1", "gpu1"), answers.ask)
    answers.keep()
    kept = json.loads(place.kept.read_text())
    assert list(kept["told"]["gpu1"]) == ["gpu1", "-l bob -p 7 hop"]
    assert (
        first
        == resolve(BoxSpec("gpu1", "gpu1"))
        == resolve(BoxSpec("gpu1", "gpu1"), Answers(place.state).ask)
    )
    kept["told"]["gpu1"]["-l bob -p 7 hop"]["port"] = ["99"]
    place.kept.write_text(json.dumps(kept))
    again = resolve(BoxSpec("gpu1", "gpu1"), Answers(place.state).ask)
    assert first.way is not None
    assert again.way is not None
    assert (first.way.option, again.way.option) == ("ProxyJump bob@bastion:7", "ProxyJump bob@bastion:99")
