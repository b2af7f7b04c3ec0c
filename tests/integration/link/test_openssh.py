"""The link over the system's ssh program: whose terms hold, how it logs in, and what it leaves."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import processes
import pytest
from box import Box
from sshd import free_port
from waiting import listens, wait_until

from fleet.errors import AuthRefused, HostKeyUnknown, LinkError, LinkTimeout, UsageError
from fleet.link.address import resolve
from fleet.link.hostkeys import HostKey
from fleet.link.open import OpenLink, connect
from fleet.link.route import Route
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec
from fleet.spec.decode import decode

pytestmark = pytest.mark.box


def config(text: str) -> Path:
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)
    return folder


def spec(**values) -> BoxSpec:
    return BoxSpec("gpu1", "gpu1", link="ssh", **values)


def visit(box: BoxSpec | None = None, *, pinned: HostKey | None = None, limit_s: float = 40) -> OpenLink:
    return connect(box or spec(), pinned=pinned, limit_s=limit_s)


def pin_of(box: Box) -> HostKey:
    words = box.known_hosts_line.split()
    return HostKey(words[1], words[2])


def told(box: Box) -> tuple[int, ...]:
    """Connections, logins, offered keys, sessions so far, once sshd has written them."""
    wait_until(lambda: not box.session_pids(), 60, "sshd has ended every session")
    return tuple(box.traffic())


def children() -> set[int]:
    return set(processes.children(os.getpid()))


def keygen(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@pytest.fixture
def agent(tmp_path, monkeypatch):
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    wait_until(lambda: listens(path), 60, "the agent listens")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    try:
        yield path
    finally:
        process.terminate()
        process.wait(60)


def test_the_spec_chooses_it():
    found = decode('[box.gpu1]\nlink = "ssh"\n[box.gpu2]\n', "babysit.toml").boxes
    assert [found[name].link for name in ("gpu1", "gpu2")] == ["ssh", "fabric"]


def test_a_visit_is_one_connection_with_one_channel_and_so_is_each_further_run(box: Box):  # R1 R24 R26
    config(box.ssh_config_text("gpu1"))
    before = told(box)
    with visit() as link:
        assert link.host_key == pin_of(box)
        assert link.run(b"id -un; cat", b"hello", limit_s=40).stdout == b"dev\nhello"
        once = told(box)
        assert link.run(b"echo again", b"", limit_s=40).stdout == b"again\n"
    counts = [[b - a for a, b in zip(before, after, strict=True)] for after in (once, told(box))]
    # ssh asks whether a key would do before it signs: two offers a login
    assert counts == [[1, 1, 2, 1], [2, 2, 4, 2]]


def test_our_terms_hold_whatever_ssh_config_says(make_box, tmp_path, agent):  # R5 R24 S6 S7
    box = make_box(host_keys=("ed25519", "ecdsa"))
    subprocess.run(["ssh-add", "-q", box.key], check=True, capture_output=True)
    port = free_port()
    folder = config(
        box.ssh_config_text("gpu1", with_known_hosts=False)
        + f"  UpdateHostKeys yes\n  UserKnownHostsFile ~/.ssh/known_hosts\n  ForwardAgent yes\n  ForwardX11 yes\n  LocalForward {port} 127.0.0.1:22\n  RequestTTY force\n"
        f"  ControlMaster auto\n  ControlPath {tmp_path}/master\n  ControlPersist 60\n  BatchMode no\n"
        f"  PermitLocalCommand yes\n  LocalCommand touch {tmp_path}/ran\n  RemoteCommand echo other\n"
        "  SessionType none\n  StdinNull yes\n  ForkAfterAuthentication yes\n  LogLevel QUIET\n"
        "  ServerAliveInterval 0\n  ConnectTimeout 0\n  EscapeChar ~\n"
    )
    (folder / "known_hosts").write_text(f"{box.known_hosts_line}\n")
    was = {path.name: path.read_bytes() for path in folder.iterdir()}
    script = b'echo "agent: $SSH_AUTH_SOCK, display: $DISPLAY"; tty; cat'
    with visit() as link:
        lines = [processes.of(pid, "cmdline").split(b"\0") for pid in children()]
        ours = next(words for words in lines if words[0] == b"ssh")
        with socket.socket() as tried:
            assert tried.connect_ex(("127.0.0.1", port)) != 0
        reply = link.run(script, b"a secret of the request ~.\n", limit_s=40)
    assert reply.stdout == b"agent: , display: \nnot a tty\na secret of the request ~.\n"
    assert not any(b"secret" in word or b"agent:" in word for word in ours)
    assert not list(tmp_path.glob("master*"))
    assert not (tmp_path / "ran").exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == was


def test_match_exec_include_and_the_rest_of_ssh_config_count(box: Box, tmp_path):  # R26
    folder = config('Include more\nMatch originalhost gpu1 exec "test -e ~/../marker || true"\n')
    stanza = box.ssh_config_text("real").partition("\n")[2]
    (folder / "more").write_text(f"Host gpu*\n{stanza}")
    with visit() as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"


def test_user_port_and_identity_of_the_spec_go_first_whatever_is_in_the_path(box: Box, tmp_path):  # R26
    odd = tmp_path / 'a "b" 5%c c\\d'
    odd.mkdir()
    key = odd / "key"
    key.write_bytes(box.key.read_bytes())
    key.chmod(0o600)
    config(f"Host gpu1\n  HostName 127.0.0.1\n  Port 1\n  User nobody\n  IdentityFile {tmp_path}/none\n")
    with visit(spec(user="dev", port=box.port, identity=str(key)), pinned=pin_of(box)) as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"


def test_a_second_run_meets_the_same_machine_or_none(box: Box):  # S2
    config(box.ssh_config_text("gpu1"))
    with visit() as link:
        assert link.run(b"echo one", b"", limit_s=40).stdout == b"one\n"
        old = box.fingerprint
        box.swap_host_key()
        config(box.ssh_config_text("gpu1"))  # known_hosts has the new key: the link does not care
        with pytest.raises(LinkError) as caught:
            link.run(b"echo two", b"", limit_s=40)
    assert caught.value.away.cause == Cause.HOSTKEY_CHANGED
    assert (caught.value.away.known, caught.value.away.offered) == (old, box.fingerprint)


@pytest.mark.parametrize("status", [255, 254, 1])
def test_the_status_of_the_command_is_never_that_of_ssh(box: Box, status):  # R12 D4
    config(box.ssh_config_text("gpu1"))
    with visit() as link:
        reply = link.run(
            f"echo Connection closed by remote host >&2; exit {status}".encode(), b"", limit_s=20
        )
        assert (reply.status, reply.stderr) == (status, b"Connection closed by remote host\n")
        box.drop_sshd()
        with pytest.raises(LinkError) as caught:
            link.run(b"exit 0", b"", limit_s=40)
        assert caught.value.away.cause == Cause.REFUSED


# -- how it logs in


def test_keys_that_do_not_help_are_named(box: Box, tmp_path):  # R5 D19
    config(box.ssh_config_text("gpu1"))
    stranger, locked = keygen(tmp_path / "stranger"), keygen(tmp_path / "locked", "secret words")
    (tmp_path / "text").write_text("not a key\n")
    (tmp_path / "text").chmod(0o600)
    (tmp_path / "open").write_bytes(box.key.read_bytes())
    (tmp_path / "open").chmod(0o644)
    with (box.home / ".ssh/authorized_keys").open("a") as file:
        file.write(locked.with_name("locked.pub").read_text())
    for name, why in (
        ("stranger", f"it refused {stranger}"),
        ("locked", f"{locked} has a passphrase and is in no ssh-agent we can reach"),
        ("none", f"there is no key file {tmp_path}/none"),
        ("text", f"{tmp_path}/text is no private key that can be used here"),
        ("open", f"{tmp_path}/open can be read by others"),
    ):
        # The pin stays, ssh_config's own key must not help out.
        where = BoxSpec(
            "gpu1", "127.0.0.1", user="dev", port=box.port, identity=str(tmp_path / name), link="ssh"
        )
        with pytest.raises(AuthRefused) as caught:
            visit(where, pinned=pin_of(box))
        assert why in caught.value.what, caught.value.what
        assert "secret words" not in caught.value.what
        first = f"ssh-add {locked}" if name == "locked" else resolve(where).by_hand
        assert caught.value.next[0] == first


def test_the_agent_logs_in_and_too_many_of_its_keys_are_said_to_be_that(make_box, agent, tmp_path):
    box = make_box(sshd_options=("MaxAuthTries 2",))
    config(
        f"Host gpu1\n  HostName 127.0.0.1\n  Port {box.port}\n  User dev\n  IdentityFile {tmp_path}/none\n"
    )
    subprocess.run(["ssh-add", "-q", box.key], check=True, capture_output=True)
    with visit(pinned=pin_of(box)) as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    for number in range(4):
        subprocess.run(["ssh-add", "-q", keygen(tmp_path / f"key{number}")], check=True, capture_output=True)
    with pytest.raises(AuthRefused, match="too many keys"):
        visit(pinned=pin_of(box))


def test_nothing_is_asked_of_anybody(make_box, tmp_path, monkeypatch):  # R5
    """A box that wants a password, a screen to ask on, and a program that would ask there."""
    box = make_box(sshd_options=("PasswordAuthentication yes", "KbdInteractiveAuthentication yes"))
    asked = tmp_path / "asked"
    (tmp_path / "ask").write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    (tmp_path / "ask").chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "ask"))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("DISPLAY", ":0")
    where = BoxSpec("gpu1", "127.0.0.1", user="dev", port=box.port, identity="/nonexistent", link="ssh")
    with pytest.raises(AuthRefused):
        visit(where, pinned=pin_of(box))
    with pytest.raises(HostKeyUnknown):
        visit(where)
    assert not asked.exists()


# -- what it leaves


def test_its_private_folder_is_gone_once_it_is_in(box: Box, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config(box.ssh_config_text("gpu1"))
    before = set(tmp_path.iterdir())
    with visit(pinned=pin_of(box)):
        assert set(tmp_path.iterdir()) == before


def test_a_way_over_a_jump_host_ends_with_the_visit(make_box, tmp_path):  # R26 D13
    jump, box = make_box("jump", user="root"), make_box("gpu1")
    folder = config(
        jump.ssh_config_text("jump")
        + box.ssh_config_text("gpu1")
        + "  ProxyJump jump\nHost *\n  StrictHostKeyChecking no\n"
    )
    before = children()
    with visit() as link:
        assert link.run(b"id -un", b"", limit_s=40).stdout == b"dev\n"
        began = threading.Event()
        caught: list[LinkError] = []

        def ask() -> None:
            began.set()
            try:
                link.run(b"echo begun; exec sleep 62", b"", limit_s=12)
            except LinkError as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: "sleep 62" in box.processes().values(), 12, "the command runs")
        with jump.frozen():
            asking.join(60)
    assert [type(error) for error in caught] == [LinkTimeout]
    wait_until(lambda: children() <= before, 60, "no process is left here")
    wait_until(lambda: box.processes() == {} == jump.processes(), 60, "nor there")
    # What ssh_config would take on trust for the jump host is not: the way is on our terms.
    (folder / "config").write_text((folder / "config").read_text().replace("UserKnownHostsFile", "#", 1))
    with pytest.raises(LinkError) as refused:
        visit(pinned=pin_of(box))
    assert refused.value.away.cause == Cause.WAY_HOSTKEY


def test_ssh_that_is_killed_is_a_cut(box: Box):
    config(box.ssh_config_text("gpu1"))
    before = children()
    with visit() as link:
        (ours,) = children() - before
        os.kill(ours, signal.SIGKILL)
        with pytest.raises(LinkError) as caught:
            link.run(b"echo", b"", limit_s=40)
    assert caught.value.away.cause == Cause.CUT
    assert children() <= before


def test_no_ssh_program_is_said_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs the ssh program") as caught:
        visit(BoxSpec("gpu1", "127.0.0.1", link="ssh"))
    assert caught.value.next == ("apt-get install openssh-client",)


def test_an_ssh_that_does_not_start_says_why(monkeypatch, tmp_path):
    real = subprocess.run(["sh", "-c", "command -v ssh"], check=True, capture_output=True, text=True)
    (tmp_path / "ssh").write_text(
        f'#!/bin/sh\ncase " $* " in *" -G "*) exec {real.stdout.strip()} "$@";; esac\n'
        "echo 'command-line: line 0: Bad configuration option: new' >&2\nexit 255\n"
    )
    (tmp_path / "ssh").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match="Bad configuration option: new"):
        visit(BoxSpec("gpu1", "127.0.0.1", link="ssh"))


def test_at_home_ssh_reads_its_own_files(monkeypatch, tmp_path):
    """With HOME as in the password file nothing is said of files, so that all of ssh_config holds."""
    box = BoxSpec("gpu1", "127.0.0.1", user="dev", link="ssh")
    words = Route(box, resolve(box), None).words(tmp_path, 15)
    assert [word for word in words if word.startswith(("UserKnownHostsFile", "IdentityFile"))]
    import pwd

    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    words = Route(box, resolve(box), None).words(tmp_path, 15)
    assert not [word for word in words if word.startswith(("UserKnownHostsFile", "IdentityFile"))]
    assert "-F" not in words
