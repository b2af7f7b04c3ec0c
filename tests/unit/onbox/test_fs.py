import os

import pytest

from onbox.fs import NotPlain, write_durably


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 1000])
@pytest.mark.parametrize("before", [None, b"old"])
def test_the_content_is_there_private_and_alone(folder, content, before):
    target = folder / "end"
    if before is not None:
        target.write_bytes(before)
    write_durably(target, content)
    assert target.read_bytes() == content
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["end"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
def test_what_is_no_plain_file_is_refused_and_left_alone(folder, kind):  # S37
    target, victim = folder / "end", folder / "victim"
    victim.write_bytes(b"mine")
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(victim if kind == "link" else folder / "nothing")
    before = target.lstat()
    with pytest.raises(NotPlain):
        write_durably(target, b"new")
    assert target.lstat().st_ino == before.st_ino
    assert victim.read_bytes() == b"mine"
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_made(folder):
    with pytest.raises(FileNotFoundError):
        write_durably(folder / "none/end", b"x")
    assert list(folder.iterdir()) == []


def test_a_temporary_planted_as_a_link_is_removed_not_followed(folder):  # S37
    victim = folder / "victim"
    victim.write_bytes(b"mine")
    (folder / f".end.{os.getpid()}").symlink_to(victim)
    write_durably(folder / "end", b"new")
    assert victim.read_bytes() == b"mine"
    assert (folder / "end").read_bytes() == b"new"


def test_a_temporary_that_cannot_be_written_leaves_the_old_file(folder):
    (folder / "end").write_bytes(b"old")
    (folder / f".end.{os.getpid()}").mkdir()
    with pytest.raises(OSError, match="end"):
        write_durably(folder / "end", b"new")
    assert (folder / "end").read_bytes() == b"old"
