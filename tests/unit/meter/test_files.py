"""Small files that are read again and again, with few descriptors and with none left."""

import os
import resource
from pathlib import Path

import pytest

from onbox.meter.files import Files


@pytest.fixture
def paths(tmp_path):
    found = []
    for number in range(6):
        (tmp_path / str(number)).write_text(f"first {number}")
        found.append(str(tmp_path / str(number)))
    return found


def test_no_more_stay_open_than_was_said(paths):
    files = Files(3)
    assert [files.read(path) for path in paths] == [b"first %d" % number for number in range(6)]
    assert len(files) == 3
    files.close()
    assert len(files) == 0


def test_a_file_is_read_as_it_is_now_and_as_the_one_that_was_opened(paths):
    files = Files(3)
    files.read(paths[0])
    Path(paths[0]).write_text("second")
    assert files.read(paths[0]) == b"second"
    Path(paths[0]).unlink()
    Path(paths[0]).write_text("another")
    assert files.read(paths[0]) == b"second", "the path means what was opened"
    files.forget(paths[0])
    assert files.read(paths[0]) == b"another"
    files.close()


def test_all_of_a_file_that_comes_in_pieces(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"x" * 100_000)
    files = Files(3)
    for kept in (False, True, True):
        assert len(files.read_all(str(path), kept=kept)) == 100_000
        assert len(files) == int(kept)
    files.close()


def test_what_is_not_there_is_said_and_nothing_stays_open(tmp_path):
    files = Files(3)
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "no"))
    with pytest.raises(IsADirectoryError):
        files.read(str(tmp_path))
    with pytest.raises(IsADirectoryError):
        files.read_all(str(tmp_path), kept=True)
    assert len(files) == 0


def until_none_is_left():
    """Every descriptor that there still was."""
    taken = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            return taken


def test_when_no_descriptor_is_left_ours_are_given_back(paths):
    files = Files(100)
    for path in paths[:5]:
        files.read(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        taken += until_none_is_left()
        assert files.read(paths[5]) == b"first 5"
        assert len(files) == 0
        assert files.read(paths[0]) == b"first 0", "and from then on none is kept"
        assert len(files) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
