"""Result files: as they lie on the box, bounded, and what cannot be read is said."""

import pytest

from fleet.arming.read_files import ResultFile, read_files
from fleet.errors import UsageError
from fleet.link.local import LocalLink
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Stage


@pytest.fixture
def home(tmp_path):
    (tmp_path / "box/it's here").mkdir(parents=True)
    return tmp_path / "box"


def a_run(*results: str, cwd: str | None = "it's here") -> Run:
    spec = RunSpec("train", (Stage("train", "true"),), box="gpu1", cwd=cwd, results=results)
    return Run(
        "train-k3f9a", spec, BoxSpec("gpu1", "gpu1"), "0" * 32, "train-k3f9a-00", "chain-0.sh", "00", 0.0
    )


def read(
    home, *results: str, max_bytes: int = 100_000, cwd: str | None = "it's here"
) -> tuple[ResultFile, ...]:
    link = LocalLink(env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
    return read_files(link, run=a_run(*results, cwd=cwd), max_bytes=max_bytes)


def test_files_come_back_in_order_with_their_very_bytes(home):  # R84
    (home / "it's here/a.csv").write_bytes(b"metric,value\nacc,0.9660000\n\n")
    (home / "b c.txt").write_bytes("ä\xff".encode("latin-1"))
    first, second = read(home, "a.csv", "~/b c.txt")
    assert first == ResultFile("a.csv", b"metric,value\nacc,0.9660000\n\n", 28)
    assert second.content == b"\xe4\xff"


def test_what_cannot_be_read_is_said(home):
    (home / "it's here/folder").mkdir()
    missing, folder = read(home, "no.csv", "folder")
    assert (missing.content, missing.why) == (None, "not there")
    assert (folder.content, folder.why) == (None, "no plain file")


def test_a_long_file_is_cut_and_says_so_and_one_with_nul_is_not(home):  # S22
    (home / "it's here/long").write_bytes(b"x" * 5000)
    (home / "it's here/nul").write_bytes(b"a\0b")
    long, nul = read(home, "long", "nul", max_bytes=2000)
    assert (len(long.content or b""), long.size, long.cut) == (1000, 5000, True)
    assert (nul.content, nul.size, nul.cut) == (b"ab", 3, False)


@pytest.mark.parametrize("name", ["$(touch canary)", "`touch canary`", "-n", "a;touch canary", "*"])
def test_a_name_is_data(home, name):  # S17 R6
    (found,) = read(home, name)
    assert found.content is None
    assert not list(home.rglob("canary"))


def test_a_name_that_would_be_two_lines_is_refused(home):  # S17
    with pytest.raises(UsageError):
        read(home, "a\nfile /etc/passwd")


def test_without_a_folder_the_home_is_where_files_are(home):
    (home / "r.csv").write_bytes(b"1\n")
    assert read(home, "r.csv", cwd=None)[0].content == b"1\n"
