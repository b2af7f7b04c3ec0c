"""References become URLs; when they do not, the reference is named and the secret is not."""

import os

import pytest

from fleet.errors import DeliveryError
from fleet.notices.secret import resolve
from fleet.text.redact import redact

URL = "jsons://hooks.example/services/T0CANARY99/B0CANARY98"


def _file(folder, content=URL + "\n", mode=0o600):
    path = folder / "hook url"
    path.write_text(content)
    path.chmod(mode)
    return f"file:{path}"


def test_from_the_environment_and_from_a_file(tmp_path, monkeypatch):  # S8
    monkeypatch.setenv("HOOK", f" {URL}\n")
    assert resolve("env:HOOK") == URL
    assert resolve(_file(tmp_path)) == URL


def test_from_a_program_without_a_shell(tmp_path, capfd):  # S8 S17
    assert resolve(f"cmd:printf '%s\\n' {URL}") == URL
    assert resolve(f"cmd:echo {URL}#$(touch${{IFS}}{tmp_path}/made)`touch`") != URL
    assert not (tmp_path / "made").exists()
    with pytest.raises(DeliveryError):
        resolve("cmd:sh -c 'echo a secret of the store >&2; exit 1'")
    assert capfd.readouterr() == ("", "")


def test_a_file_below_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _file(tmp_path)
    assert resolve("file:~/hook url") == URL


def test_a_secret_that_was_read_is_masked_from_then_on(tmp_path):  # S10
    url = "json://example.org/path-of-canary-55/x?token=canary-token-77"
    assert "canary" in redact(f"error at {url}")
    resolve(_file(tmp_path, url))
    assert "canary" not in redact(f"error at {url}, /path-of-canary-55/, canary-token-77")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path, mode):  # S41
    reference = _file(tmp_path, mode=mode)
    with pytest.raises(DeliveryError, match=f"can be read by others .mode {mode:04o}") as caught:
        resolve(reference)
    assert caught.value.next == (f"chmod 600 '{tmp_path}/hook url'",)
    assert "CANARY" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_someone_else_is_refused(tmp_path):
    reference = _file(tmp_path)
    os.chown(tmp_path / "hook url", 12345, 12345)
    with pytest.raises(DeliveryError, match="not 0600 and yours"):
        resolve(reference)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:NO_SUCH", "env:NO_SUCH: no such variable in the environment"),
        ("env:EMPTY", "env:EMPTY must hold exactly one line"),
        ("file:/no/such", "file:/no/such: No such file or directory"),
        ("file:relative", "file:relative: the path must be absolute"),
        ("file:/", "file:/ is no plain file"),
        ("keyring:hook", "a target's url must be env:NAME, file:PATH or cmd:PROGRAM"),
        ("env:", "a target's url must be env:NAME, file:PATH or cmd:PROGRAM"),
        (URL, "a target's url must be env:NAME, file:PATH or cmd:PROGRAM"),
        ("cmd:no-such-program-here x", "cmd:no-such-program-here x: [Errno 2] No such file"),
        ("cmd:sh -c 'exit 3'", "cmd:sh -c 'exit 3': ended with 3"),
        ("cmd:printf 'one\\ntwo\\n'", "cmd:printf 'one\\ntwo\\n' must hold exactly one line"),
        ("cmd:echo 'never ended", "cmd:echo 'never ended: No closing quotation"),
    ],
)
def test_what_does_not_resolve_is_named_by_its_reference(monkeypatch, reference, says):
    monkeypatch.setenv("EMPTY", " ")
    with pytest.raises(DeliveryError) as caught:
        resolve(reference)
    assert caught.value.what.startswith(says)
    assert "CANARY" not in caught.value.what + caught.value.where


@pytest.mark.parametrize("content", ["", "\n\n", f"{URL}\n{URL}\n"])
def test_a_file_must_hold_one_line(tmp_path, content):
    with pytest.raises(DeliveryError, match="must hold exactly one line"):
        resolve(_file(tmp_path, content))


def test_a_fifo_does_not_make_us_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(DeliveryError, match="no plain file"):
        resolve(f"file:{tmp_path}/pipe")
