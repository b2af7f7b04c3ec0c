"""The folder of a queue: private from its first parent that had to be made, whatever the umask."""

import os

import pytest

from onbox.control import files
from onbox.control.enqueue import enqueue
from onbox.wire.folder import Unsafe


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_the_parents_that_had_to_be_made_are_private_too(tmp_path, mask):  # S37
    before = os.umask(mask)
    try:
        enqueue(tmp_path / "a/b/queue", "lr", [0.5])
    finally:
        os.umask(before)
    made = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    made[tmp_path / "a"] = (tmp_path / "a").stat().st_mode & 0o777
    assert {mode for path, mode in made.items() if path.is_dir()} == {0o700}
    assert made[tmp_path / "a/b/queue/commands.jsonl"] == 0o600


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir(mode=0o770)
    (tmp_path / "link").symlink_to("shared")
    for name in ("shared", "link", "."):
        assert files.opened(files.Path(name)) == files.Path(name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        files.opened(tmp_path / "file")
    os.chown(tmp_path / "shared", 12345, 12345)
    for name in ("shared", "link"):
        with pytest.raises(Unsafe, match="belongs to uid 12345"):
            files.opened(files.Path(name))
