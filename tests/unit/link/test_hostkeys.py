"""Which host key is the box's: one decision, and the reading of known_hosts as OpenSSH reads it."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.link.address import Address
from fleet.link.hostkeys import (
    MAX_FILE_BYTES,
    Accept,
    HostKey,
    Refuse,
    fingerprint,
    judge,
    known_in_user_files,
)

OURS = HostKey("ssh-ed25519", base64.b64encode(b"ours").decode())
OTHER = HostKey("ssh-ed25519", base64.b64encode(b"other").decode())
RSA = HostKey("ssh-rsa", base64.b64encode(b"rsa").decode())


def marked(key: HostKey, mark: str) -> HostKey:
    return HostKey(key.type, key.b64, mark)


@pytest.mark.parametrize(
    ("pinned", "user_known", "verdict"),
    [
        (OURS, (), Accept(pin=False)),
        (OURS, (OTHER,), Accept(pin=False)),  # the pin decides alone
        (OTHER, (), Refuse("changed", OTHER)),
        (OTHER, (OURS,), Refuse("changed", OTHER)),
        (RSA, (), Refuse("changed", RSA)),  # another type is another key
        (None, (), Refuse("unknown")),
        (None, (OURS,), Accept(pin=True)),
        (None, (OTHER, OURS), Accept(pin=True)),  # several keys of one type may stand there
        (None, (OTHER,), Refuse("changed", OTHER)),
        (None, (RSA,), Refuse("unknown")),
        (None, (marked(OURS, "portless"),), Accept(pin=True)),
        (None, (marked(OTHER, "portless"),), Refuse("unknown")),  # another box behind the same address
        (None, (marked(OTHER, "revoked"),), Refuse("unknown")),
        (None, (OURS, marked(OURS, "revoked")), Refuse("revoked", OURS)),
        (OURS, (marked(OURS, "revoked"),), Refuse("revoked", OURS)),
        (None, (marked(OTHER, "authority"),), Refuse("authority")),
        (None, (marked(OURS, "authority"),), Refuse("authority")),  # an authority's key is no box's
        (None, (marked(OTHER, "authority"), OURS), Accept(pin=True)),
        (None, (marked(RSA, "authority"), OTHER), Refuse("changed", OTHER)),
        (OURS, (marked(OTHER, "authority"),), Accept(pin=False)),
        (OTHER, (marked(OTHER, "authority"),), Refuse("changed", OTHER)),
    ],
)
def test_the_judge(pinned, user_known, verdict):  # S1 S2 S4
    assert judge(OURS, pinned, user_known) == verdict


keys = st.builds(
    HostKey, st.sampled_from(["ssh-ed25519", "ssh-rsa"]), st.sampled_from(["YQ==", "Yg==", "Yw=="])
)


@given(offered=keys, pinned=st.none() | keys, known=st.lists(keys, max_size=4).map(tuple))
def test_no_key_is_accepted_that_nobody_vouched_for(offered, pinned, known):  # S1 S2
    verdict = judge(offered, pinned, known)
    vouched = pinned == offered if pinned else offered in known
    assert isinstance(verdict, Accept) == vouched
    if isinstance(verdict, Accept):
        assert verdict.pin == (pinned is None)


def box_at(name: str, *files: Path, host: str = "box.example") -> Address:
    return Address(host, 22, "u", (), tuple(map(str, files)), None, name)


def generate(tmp_path: Path) -> HostKey:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    words = (tmp_path / "key.pub").read_text().split()
    return HostKey(words[0], words[1])


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path):
    key = generate(tmp_path)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], check=True, capture_output=True, text=True
    ).stdout
    assert shown.split()[1] == key.fingerprint == fingerprint(key.b64)


@pytest.mark.parametrize("text", ["", "%%%", "é", "a b"])
def test_what_is_no_base64_has_no_fingerprint_of_its_own(text):
    if text:
        with pytest.raises(ValueError):
            fingerprint(text)


@pytest.mark.parametrize(
    ("field", "name", "found"),
    [
        ("box.example", "box.example", True),
        ("BOX.example", "box.example", True),
        ("other,box.example", "box.example", True),
        ("*.example", "box.example", True),
        ("b?x.example", "box.example", True),
        ("!box.example,*.example", "box.example", False),
        ("*.example,!box.example", "box.example", False),
        ("box.example.org", "box.example", False),
        ("[box.example]:2222", "[box.example]:2222", True),
        ("[box.example]:22", "[box.example]:2222", False),
        ("boxXexample", "box.example", False),  # a dot is a dot
        ("[10.0.0.*]:2222", "[10.0.0.7]:2222", True),
        ("********************x", "box.example", False),
    ],
)
def test_names_and_patterns(tmp_path, field, name, found):
    file = tmp_path / "known_hosts"
    file.write_text(f"# {name} ssh-ed25519 YQ==\n\n{field} ssh-ed25519 YQ== a comment\n")
    assert bool(known_in_user_files(box_at(name, file)).keys) == found


@pytest.mark.parametrize("name", ["box.example", "[box.example]:2222", "alias"])
def test_names_and_hashes_are_found_as_ssh_keygen_finds_them(tmp_path, name):  # S4
    key = generate(tmp_path)
    file = tmp_path / "known_hosts"
    file.write_text(f"{name} {key.type} {key.b64}\nelse {key.type} {key.b64}\n")
    assert known_in_user_files(box_at(name, file)).keys == (key,)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert name not in file.read_text()
    assert known_in_user_files(box_at(name, file)).keys == (key,)
    assert known_in_user_files(box_at("nobody", file)).keys == ()


def test_markers(tmp_path):
    file = tmp_path / "known_hosts"
    file.write_text("@cert-authority box ssh-rsa Yg==\n@revoked box ssh-rsa YQ==\nbox ssh-rsa Yw==\n")
    revoked, authority = HostKey("ssh-rsa", "YQ==", "revoked"), HostKey("ssh-rsa", "Yg==", "authority")
    assert known_in_user_files(box_at("box", file)).keys == (authority, revoked, HostKey("ssh-rsa", "Yw=="))
    assert known_in_user_files(box_at("box", file), only_revoked=True).keys == (revoked,)


def test_the_host_without_our_port_vouches_only(tmp_path):
    file = tmp_path / "known_hosts"
    file.write_text(
        "box.example ssh-rsa YQ==\n[box.example]:2222 ssh-rsa Yg==\n[box.example]:9 ssh-rsa Yw==\n"
    )
    found = known_in_user_files(box_at("[box.example]:2222", file)).keys
    assert found == (HostKey("ssh-rsa", "YQ==", "portless"), HostKey("ssh-rsa", "Yg=="))


def test_files_that_cannot_or_should_not_be_read(tmp_path):
    large, folder, fifo = tmp_path / "large", tmp_path / "folder", tmp_path / "fifo"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    folder.mkdir()
    os.mkfifo(fifo)
    good = tmp_path / "good"
    good.write_bytes(
        b"\xff\xfe broken\nbox\nbox ssh-rsa\nbox ssh-rsa %%%\n|1|x\n|1|%|% a b\nbox ssh-rsa YQ==\n"
    )
    read = known_in_user_files(box_at("box", tmp_path / "no", folder, fifo, Path("/dev/null"), large, good))
    assert read.keys == (HostKey("ssh-rsa", "YQ=="),)
    assert read.skipped == (f"{large} (larger than 5 MB)",)


@given(st.binary(max_size=200))
def test_no_line_breaks_the_reader(line):
    from fleet.link.hostkeys import _keys_of

    assert isinstance(list(_keys_of(line, box_at("box"))), list)
