"""The SSH link against a real sshd: where it goes, whom it trusts, how it logs in."""

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import fabric
import paramiko
import pytest
from box import Box
from waiting import listens, wait_until

from fleet.errors import AuthRefused, HostKeyChanged, HostKeyUnknown, LinkError
from fleet.link import ssh
from fleet.link.address import resolve
from fleet.link.hostkeys import HostKey
from fleet.link.judge import Judge
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

pytestmark = pytest.mark.box


def config(text: str) -> Path:
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)
    return folder / "known_hosts"


def address_of(box: Box, *, known: bool = True, **overrides):
    known_hosts = config(box.ssh_config_text("gpu1", with_known_hosts=known))
    return resolve(BoxSpec("gpu1", "gpu1", **overrides)), known_hosts


def visit(address, *, pinned: HostKey | None = None, limit_s: float = 40) -> ssh.SshLink:
    return ssh.connect(address, box_name="gpu1", pinned=pinned, limit_s=limit_s)


def host_key(box: Box, number: int = 0) -> HostKey:
    words = box.known_hosts_lines[number].split()
    return HostKey(words[1], words[2])


def told(box: Box) -> tuple[int, ...]:
    """Connections, logins, offered keys, sessions since the last time, once sshd has written them."""
    wait_until(lambda: not box.session_pids(), 60, "sshd has ended every session")
    return tuple(box.traffic())


def no_thread_but(threads: set[threading.Thread]) -> None:
    wait_until(lambda: set(threading.enumerate()) <= threads, 60, "no thread is left")


# -- where it goes


def test_an_alias_is_enough_and_a_visit_is_one_connection_with_one_channel(box: Box):  # R1 R26 R24
    address, _ = address_of(box)
    before = told(box)
    with visit(address) as link:
        assert link.run(b"id -un; cat", b"hello", limit_s=40).stdout == b"dev\nhello"
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [1, 1, 1, 1]


def test_port_user_and_identity_of_the_spec_go_before_ssh_config(box: Box):  # R26
    config(
        f"Host gpu1\n HostName 127.0.0.1\n Port 1\n User nobody\n UserKnownHostsFile {box.folder}/known_hosts\n"
    )
    box.ssh_config_text("writes the known_hosts file")
    spec = BoxSpec("gpu1", "gpu1", user="dev", port=box.port, identity=str(box.key))
    with visit(resolve(spec)) as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"


def test_the_root_of_a_box_and_a_noisy_shell(make_box):
    box = make_box(user="root", rc_noise="echo NOISE; echo ERR >&2\n")
    with visit(address_of(box)[0]) as link:
        reply = link.run(b"echo answer", b"", limit_s=40)
    assert reply.stdout == b"NOISE\nanswer\n"
    assert reply.stderr == b"ERR\n"


def test_a_box_without_timeout_is_still_bounded_from_here(make_box):
    box = make_box(without=("timeout",))
    with visit(address_of(box)[0]) as link:
        assert link.run(b"command -v timeout || echo none", b"", limit_s=40).stdout == b"none\n"
        with pytest.raises(LinkError):
            link.run(b"exec sleep 60", b"", limit_s=1)


# -- whom it trusts


def test_an_unknown_key_is_refused_before_anything_is_sent(box: Box):  # S1
    address, known_hosts = address_of(box, known=False)
    known_hosts.write_text(f"elsewhere {box.known_hosts_line.partition(' ')[2]}\n")
    was, before = known_hosts.read_bytes(), told(box)
    with pytest.raises(HostKeyUnknown) as caught:
        visit(address)
    away = caught.value.away
    assert (away.cause, away.known, away.offered) == (Cause.HOSTKEY_UNKNOWN, None, box.fingerprint)
    assert caught.value.exit_code == 4
    assert not away.transient
    assert caught.value.next == ("babysit trust gpu1",)
    assert box.fingerprint in caught.value.what
    assert known_hosts.read_bytes() == was
    assert sorted(path.name for path in known_hosts.parent.iterdir()) == ["config", "known_hosts"]
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [1, 0, 0, 0]


@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hashed"])
def test_a_key_that_the_user_knows_is_accepted_and_given_back_for_pinning(box: Box, hashed):  # S1 S4
    address, known_hosts = address_of(box, known=False)
    known_hosts.write_text(f"{box.known_hosts_line}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known_hosts], check=True, capture_output=True)
        assert "127.0.0.1" not in known_hosts.read_text()
    was = known_hosts.read_bytes()
    with visit(address) as link:
        assert link.host_key == host_key(box)
    known_hosts.write_text("")
    with visit(address, pinned=link.host_key) as link:  # from now on by the pin alone
        assert link.run(b"echo in", b"", limit_s=40).stdout == b"in\n"
    known_hosts.write_bytes(was)
    assert known_hosts.read_bytes() == was


def test_a_key_file_that_was_replaced_is_read_anew(box: Box, tmp_path):  # R26
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_bytes(box.key.read_bytes())
    mine.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    address, _ = address_of(box, identity=str(mine))
    for _ in range(2):
        visit(address).close()
    was = mine.stat()
    mine.write_bytes(other.read_bytes())  # in place, and as old as before
    os.utime(mine, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(AuthRefused):
        visit(address)
    mine.write_bytes(box.key.read_bytes())
    visit(address).close()


def fabric_default(box: Box, known_hosts: Path) -> str:
    """What fabric does by itself: no known_hosts file is looked at, whatever stands in it."""
    assert known_hosts.exists()
    with fabric.Connection(
        "127.0.0.1",
        user="dev",
        port=box.port,
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        connect_kwargs={"key_filename": str(box.key), "allow_agent": False, "look_for_keys": False},
    ) as connection:
        return connection.run("echo let in", hide=True, in_stream=False).stdout


@pytest.mark.parametrize("known_by", ["pin", "known_hosts"])
def test_a_changed_key_is_refused_before_the_login_where_fabric_goes_on(box: Box, known_by):  # S2 R25
    address, known_hosts = address_of(box, known=False)
    known_hosts.write_text(f"{box.known_hosts_line}\n")
    old = host_key(box)
    box.swap_host_key()
    before = told(box)
    with pytest.raises(HostKeyChanged) as caught:
        visit(address, pinned=old if known_by == "pin" else None)
    away = caught.value.away
    assert (away.known, away.offered) == (old.fingerprint, box.fingerprint)
    assert caught.value.exit_code == 4
    assert caught.value.next == (f"babysit trust gpu1 --fingerprint {box.fingerprint}",)
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [1, 0, 0, 0]  # no authentication

    before = told(box)
    assert fabric_default(box, known_hosts) == "let in\n"
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [1, 1, 1, 1]


def policies(monkeypatch) -> list[object]:
    """The policy of every client at the moment when it connects, as the library has it."""
    seen: list[object] = []
    connect = paramiko.SSHClient.connect

    def look(client, *args, **kwargs):
        seen.append(client._policy)
        return connect(client, *args, **kwargs)

    monkeypatch.setattr(paramiko.SSHClient, "connect", look)
    return seen


def test_every_client_has_our_policy_and_no_other(box: Box, monkeypatch):  # S3
    seen = policies(monkeypatch)
    address, _ = address_of(box)
    with visit(address) as link, visit(address, pinned=link.host_key):
        pass
    with pytest.raises(LinkError):
        visit(address, pinned=HostKey("ssh-ed25519", "AAAA"))
    ssh.offered_key(address, 40)
    assert [type(policy) for policy in seen] == [Judge] * 3


def test_a_library_that_puts_its_own_policy_gets_no_further(box: Box, monkeypatch):  # S3
    """Guard by guard: without our policy nobody logs in, without the question before the login anybody does."""
    address, _ = address_of(box)
    old = host_key(box)
    box.swap_host_key()

    def theirs(client, policy):
        client._policy = paramiko.AutoAddPolicy()

    monkeypatch.setattr(paramiko.SSHClient, "set_missing_host_key_policy", theirs)
    seen = policies(monkeypatch)
    before = told(box)
    for pinned in (None, old):
        with pytest.raises(HostKeyUnknown):
            visit(address, pinned=pinned)
    assert not [policy for policy in seen if isinstance(policy, Judge)]
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [2, 0, 0, 0]  # no authentication
    monkeypatch.setattr(Judge, "check_asked", lambda *_: None)
    with visit(address, pinned=old) as link:
        assert link.run(b"echo robbed", b"", limit_s=40).stdout == b"robbed\n"


def test_a_pinned_key_of_another_type_than_the_box_prefers(make_box):
    box = make_box(host_keys=("ed25519", "ecdsa", "rsa"))
    address, _ = address_of(box, known=False)
    for number, kind in enumerate(("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")):
        pinned = host_key(box, number)
        assert pinned.type == kind
        with visit(address, pinned=pinned) as link:
            assert link.host_key == pinned


def test_a_known_key_of_another_type_is_asked_for(make_box):
    box = make_box(host_keys=("ed25519", "rsa"))
    address, known_hosts = address_of(box, known=False)
    known_hosts.write_text(f"{box.known_hosts_lines[1]}\n")
    with visit(address) as link:
        assert link.host_key == host_key(box, 1)


def test_a_revoked_key_is_refused_although_pinned(box: Box):  # S4
    address, known_hosts = address_of(box, known=False)
    known_hosts.write_text(f"@revoked * {box.known_hosts_line.partition(' ')[2]}\n{box.known_hosts_line}\n")
    for pinned in (None, host_key(box)):
        with pytest.raises(HostKeyChanged, match="revoked") as caught:
            visit(address, pinned=pinned)
        assert caught.value.next == ()


def test_a_host_key_alias_names_the_box(box: Box):  # S4
    known_hosts = config(box.ssh_config_text("gpu1", with_known_hosts=False) + "  HostKeyAlias rented-7\n")
    known_hosts.write_text(f"rented-7 {box.known_hosts_line.partition(' ')[2]}\n")
    with visit(resolve(BoxSpec("gpu1", "gpu1"))) as link:
        assert link.host_key == host_key(box)


def test_the_offered_key_is_seen_without_a_login(box: Box):  # S2
    address, _ = address_of(box, known=False)
    before, threads = told(box), set(threading.enumerate())
    offered = ssh.offered_key(address, 40, box_name="gpu1")
    assert offered == host_key(box)
    assert offered.fingerprint == box.fingerprint
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [1, 0, 0, 0]
    no_thread_but(threads)


# -- how it logs in


def keygen(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


def test_a_key_that_the_box_does_not_know(box: Box, tmp_path):
    key = keygen(tmp_path / "stranger")
    address, _ = address_of(box, identity=str(key))
    with pytest.raises(AuthRefused) as caught:
        visit(address)
    assert caught.value.away.cause == Cause.AUTH
    assert caught.value.exit_code == 4
    assert not caught.value.away.transient
    assert str(key) in caught.value.what
    assert caught.value.next == (f"ssh -i {key} gpu1",)


def test_a_key_file_that_is_not_there_or_no_key(box: Box, tmp_path):
    (tmp_path / "text").write_text("not a key\n")
    (tmp_path / "empty").write_text("")
    for name, why in (
        ("none", "there is no key file"),
        ("text", "is no private key"),
        ("empty", "is no private key"),
    ):
        with pytest.raises(AuthRefused, match=why):
            visit(address_of(box, identity=str(tmp_path / name))[0])


def test_no_key_at_all(box: Box):  # R5 D19
    config(f"Host gpu1\n HostName 127.0.0.1\n Port {box.port}\n User dev\n")
    with pytest.raises(AuthRefused, match="no key to offer"):
        visit(resolve(BoxSpec("gpu1", "gpu1")), pinned=host_key(box))


@pytest.fixture
def agent(tmp_path, monkeypatch) -> Iterator[Path]:
    """A running ssh-agent, its socket in SSH_AUTH_SOCK."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    wait_until(lambda: listens(path), 60, "the agent listens")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    try:
        yield path
    finally:
        process.terminate()
        process.wait(60)


def add(key: Path, passphrase: str = "") -> None:
    ask = key.with_name("ask")
    ask.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    ask.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    subprocess.run(["ssh-add", "-q", key], env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def test_a_key_with_a_passphrase_needs_the_agent(box: Box, tmp_path, request):  # R5 D19
    key = keygen(tmp_path / "locked", "secret words")
    with (box.home / ".ssh/authorized_keys").open("a") as file:
        file.write((tmp_path / "locked.pub").read_text())
    with pytest.raises(AuthRefused, match="passphrase") as caught:
        visit(address_of(box, identity=str(key))[0])
    assert caught.value.next[0] == f"ssh-add {key}"
    assert "secret words" not in caught.value.what
    request.getfixturevalue("agent")
    add(key, "secret words")
    before = set(threading.enumerate())
    with visit(address_of(box, identity=str(key))[0]) as link:
        assert link.run(b'echo in; echo "agent: $SSH_AUTH_SOCK"', b"", limit_s=40).stdout == b"in\nagent: \n"
    no_thread_but(before)


def test_of_the_agents_keys_those_that_a_file_names_go_first(make_box, agent, tmp_path):  # R5 D19
    """As ssh does it: among many keys the named one is offered before the box has had enough."""
    box = make_box(sshd_options=("MaxAuthTries 2",))
    for number in range(3):
        add(keygen(tmp_path / f"key{number}"))
    key = keygen(tmp_path / "locked", "secret words")
    with (box.home / ".ssh/authorized_keys").open("a") as file:
        file.write((tmp_path / "locked.pub").read_text())
    add(key, "secret words")
    config(f"Host gpu1\n HostName 127.0.0.1\n Port {box.port}\n User dev\n IdentityFile {key}\n")
    (tmp_path / "locked.pub").unlink()  # the private file tells its public half by itself
    for only in ("no", "yes"):
        with (Path(os.environ["HOME"]) / ".ssh/config").open("a") as file:
            file.write(f" IdentitiesOnly {only}\n")
        with visit(resolve(BoxSpec("gpu1", "gpu1")), pinned=host_key(box)) as link:
            assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"


def test_a_certificate_beside_a_key_does_not_hide_the_key(box: Box, tmp_path):  # R5 D19
    """As ssh does it: a certificate that the box does not take, an expired one, say, leaves the key itself."""
    key, authority = keygen(tmp_path / "key"), keygen(tmp_path / "authority")
    with (box.home / ".ssh/authorized_keys").open("a") as file:
        file.write((tmp_path / "key.pub").read_text())
    sign = ["ssh-keygen", "-q", "-s", authority, "-I", "id", "-n", "dev"]
    subprocess.run([*sign, "-V", "20200101:20200102", tmp_path / "key.pub"], check=True)
    with visit(address_of(box, identity=str(key))[0]) as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"
    # And one that the box does take is enough.
    (box.home / ".ssh/authorized_keys").write_text(
        f'cert-authority,principals="dev" {(tmp_path / "authority.pub").read_text()}'
    )
    subprocess.run([*sign, tmp_path / "key.pub"], check=True)
    with visit(address_of(box, identity=str(key))[0]) as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"


def test_the_agent_is_never_forwarded(box: Box, agent):  # S6
    add(box.key)
    config(f"Host gpu1\n HostName 127.0.0.1\n Port {box.port}\n User dev\n ForwardAgent yes\n")
    with visit(resolve(BoxSpec("gpu1", "gpu1")), pinned=host_key(box)) as link:
        assert link.run(b'echo "agent: $SSH_AUTH_SOCK"', b"", limit_s=40).stdout == b"agent: \n"


def test_too_many_wrong_keys_is_said_to_be_that(make_box, agent, tmp_path):
    box = make_box(sshd_options=("MaxAuthTries 2",))
    for number in range(4):
        add(keygen(tmp_path / f"key{number}"))
    config(f"Host gpu1\n HostName 127.0.0.1\n Port {box.port}\n User dev\n")
    with pytest.raises(AuthRefused, match="too many keys"):
        visit(resolve(BoxSpec("gpu1", "gpu1")), pinned=host_key(box))


def test_an_agent_that_is_gone_or_silent_costs_no_more_than_the_limit(box: Box, tmp_path, monkeypatch):
    config(f"Host gpu1\n HostName 127.0.0.1\n Port {box.port}\n User dev\n")
    silent = socket.socket(socket.AF_UNIX)
    with silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        for name in ("gone", "silent"):
            monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / name))
            with pytest.raises(AuthRefused, match="no ssh-agent answers"):
                visit(resolve(BoxSpec("gpu1", "gpu1")), pinned=host_key(box), limit_s=20)


def test_the_libraries_say_nothing_by_themselves(box: Box, tmp_path, capfd):  # S11
    logging.getLogger().addHandler(handler := logging.StreamHandler())
    try:
        address, _ = address_of(box, identity=str(keygen(tmp_path / "stranger")))
        with pytest.raises(AuthRefused):
            visit(address)
        box.drop_sshd()
        with pytest.raises(LinkError):
            visit(address)
    finally:
        logging.getLogger().removeHandler(handler)
    assert capfd.readouterr() == ("", "")


def test_boxes_are_visited_side_by_side(box: Box):
    address, _ = address_of(box)
    before, threads = told(box), set(threading.enumerate())
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        with visit(address) as link:
            answers[number] = link.run(b"cat", str(number).encode(), limit_s=40).stdout

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert answers == {number: str(number).encode() for number in range(8)}
    assert [b - a for a, b in zip(before, told(box), strict=True)] == [8, 8, 8, 8]
    no_thread_but(threads)
