"""babysit.toml holds commands: only its owner may write it, and what was judged is what is read."""

import os

import pytest

from fleet.errors import SpecError
from fleet.spec.find import FILE_NAME, MAX_BYTES, load, read

TEXT = '[box.gpu1]\nhost = "gpu1.example"\n'


@pytest.fixture
def spec(tmp_path):
    file = tmp_path / FILE_NAME
    file.write_text(TEXT)
    file.chmod(0o644)
    return file


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o620, 0o602])
def test_a_spec_that_others_may_write_is_refused_with_its_fix(spec, mode):  # S41
    spec.chmod(mode)
    with pytest.raises(SpecError, match="can be written by other users") as caught:
        load(spec.parent, spec.parent / "none.toml")
    assert caught.value.hint == f"chmod go-w {spec}"
    spec.chmod(mode & 0o755)
    assert set(read(spec).boxes) == {"gpu1"}


def test_the_users_own_spec_is_held_to_the_same(tmp_path, spec):  # S41
    empty = tmp_path / "empty"
    empty.mkdir()
    spec = spec.rename(tmp_path / "user.toml")
    assert set(load(empty, spec).boxes) == {"gpu1"}
    spec.chmod(0o666)
    with pytest.raises(SpecError, match="can be written by other users"):
        load(empty, spec)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_spec_of_another_user_is_refused_even_when_nobody_else_may_write_it(spec):  # S41
    os.chown(spec, 12345, -1)
    with pytest.raises(SpecError, match="belongs to another user") as caught:
        load(spec.parent, spec.parent / "none.toml")
    assert str(spec) in caught.value.hint


def test_a_path_with_blanks_is_one_word_of_the_fix(tmp_path):
    folder = tmp_path / "my specs"
    folder.mkdir()
    (folder / FILE_NAME).write_text(TEXT)
    (folder / FILE_NAME).chmod(0o666)
    with pytest.raises(SpecError) as caught:
        load(folder, folder / "none.toml")
    assert caught.value.hint == f"chmod go-w '{folder}/{FILE_NAME}'"


def test_a_fifo_in_place_of_the_spec_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(SpecError, match="no plain file"):
        read(tmp_path / FILE_NAME)


def test_a_spec_that_is_no_text_or_endless_is_said(spec):
    spec.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read"):
        read(spec)
    spec.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError, match="is larger than"):
        read(spec)


def test_the_nearest_spec_wins_and_none_is_no_mistake(tmp_path, spec):
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    assert load(deep, tmp_path / "user.toml").path == str(spec)
    (deep / FILE_NAME).write_text("")
    assert load(deep, tmp_path / "user.toml").path == str(deep / FILE_NAME)
