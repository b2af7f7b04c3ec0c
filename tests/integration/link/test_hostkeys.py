"""Whom a visit trusts, over both transports, against what `ssh -o BatchMode=yes` does with the same files."""

import os
import random
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from box import Box
from waiting import wait_until

from fleet.errors import HostKeyChanged, HostKeyUnknown, LinkError
from fleet.link import ssh
from fleet.link.address import resolve
from fleet.link.hostkeys import HostKey
from fleet.link.open import OpenLink, connect
from fleet.model.probe import Cause
from fleet.model.spec import BoxSpec

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]

TRANSPORTS = ("fabric", "probe", "ssh")


def folder() -> Path:
    path = Path(os.environ["HOME"]) / ".ssh"
    path.mkdir(exist_ok=True)
    return path


def key_of(path: Path) -> HostKey:
    words = path.read_text().split()
    return HostKey(words[0], words[1])


def keygen(path: Path) -> HostKey:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return key_of(path.with_name(f"{path.name}.pub"))


def text(key: HostKey) -> str:
    return f"{key.type} {key.b64}"


class Keys(NamedTuple):
    """What the lines of a case are made of: the box's key, another one, and that of the authority."""

    box: str
    other: str
    authority: str
    name: str  # [127.0.0.1]:PORT


def hashed(line: str) -> str:
    file = folder() / "to-hash"
    file.write_text(f"{line}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "127.0.0.1" not in file.read_text()
    return file.read_text().strip()


class Case(NamedTuple):
    """Lines of known_hosts, and what comes of them over either transport; `ssh` by itself is as the second.

    `stricter`: ssh by itself accepts what both of ours refuse.
    """

    lines: Callable[[Keys], tuple[str, ...]]
    fabric: str
    ssh: str
    config: str = ""
    stricter: bool = False


CASES = {
    "nothing": Case(lambda _: (), "unknown", "unknown"),
    "comments": Case(lambda k: (f"# {k.name} {k.box}", ""), "unknown", "unknown"),
    "plain": Case(lambda k: (f"{k.name} {k.box}",), "accept", "accept"),
    "blanks, a tab and a comment": Case(lambda k: (f"  {k.name}\t {k.box} me@here",), "accept", "accept"),
    "hashed": Case(lambda k: (hashed(f"{k.name} {k.box}"),), "accept", "accept"),
    "hashed, another key": Case(lambda k: (hashed(f"{k.name} {k.other}"),), "changed", "changed"),
    "another key": Case(lambda k: (f"{k.name} {k.other}",), "changed", "changed"),
    "two keys": Case(lambda k: (f"{k.name} {k.other}", f"{k.name} {k.box}"), "accept", "accept"),
    "another port": Case(lambda k: (f"[127.0.0.1]:1 {k.box}",), "unknown", "unknown"),
    "without the port": Case(lambda k: (f"127.0.0.1 {k.box}",), "accept", "accept"),
    "without the port, another key": Case(lambda k: (f"127.0.0.1 {k.other}",), "unknown", "unknown"),
    "a list": Case(lambda k: (f"elsewhere,{k.name} {k.box}",), "accept", "accept"),
    "a wildcard": Case(lambda k: (f"[127.0.*]:* {k.box}",), "accept", "accept"),
    "a question mark": Case(lambda k: (f"[127.0.?.1]:* {k.box}",), "accept", "accept"),
    "everything": Case(lambda k: (f"* {k.box}",), "accept", "accept"),
    "everything but this": Case(lambda k: (f"*,!{k.name} {k.box}",), "accept", "accept"),
    "everything but this, with or without port": Case(
        lambda k: (f"*,!{k.name},!127.0.0.1 {k.box}",), "unknown", "unknown"
    ),
    "only a negation": Case(lambda k: (f"!elsewhere {k.box}",), "unknown", "unknown"),
    "no key in the line": Case(lambda k: (f"{k.name}", f"{k.name} ssh-ed25519"), "unknown", "unknown"),
    "a broken key": Case(lambda k: (f"{k.name} ssh-ed25519 AAAA%%%",), "unknown", "unknown"),
    "a key of another type by name": Case(
        lambda k: (f"{k.name} ssh-rsa {k.box.split()[1]}",), "unknown", "unknown"
    ),
    "revoked": Case(lambda k: (f"@revoked * {k.box}",), "revoked", "revoked"),
    "known and revoked": Case(lambda k: (f"{k.name} {k.box}", f"@revoked * {k.box}"), "revoked", "revoked"),
    "revoked, hashed": Case(
        lambda k: (f"{k.name} {k.box}", f"@revoked {hashed(f'{k.name} {k.box}')}"), "revoked", "revoked"
    ),
    "revoked elsewhere": Case(
        lambda k: (f"{k.name} {k.box}", f"@revoked elsewhere {k.box}"), "accept", "accept"
    ),
    "revoked without the port": Case(
        lambda k: (f"{k.name} {k.box}", f"@revoked 127.0.0.1 {k.box}"), "revoked", "revoked", stricter=True
    ),
    "another key revoked": Case(lambda k: (f"{k.name} {k.box}", f"@revoked * {k.other}"), "accept", "accept"),
    "a marker that is none": Case(lambda k: (f"@friend {k.name} {k.box}",), "unknown", "unknown"),
    "an alias": Case(
        lambda k: (f"rented-7 {k.box}",), "accept", "accept", config="  HostKeyAlias rented-7\n"
    ),
    "an alias in capitals": Case(
        lambda k: (f"rented-7 {k.box}",), "accept", "accept", config="  HostKeyAlias Rented-7\n"
    ),
    "an alias that is not there": Case(
        lambda k: (f"{k.name} {k.box}",), "unknown", "unknown", config="  HostKeyAlias rented-7\n"
    ),
    "an authority": Case(lambda k: (f"@cert-authority {k.name} {k.authority}",), "authority", "accept"),
    "an authority for all": Case(lambda k: (f"@cert-authority * {k.authority}",), "authority", "accept"),
    "an authority without the port": Case(
        lambda k: (f"@cert-authority 127.0.0.1 {k.authority}",), "authority", "accept"
    ),
    "an authority elsewhere": Case(
        lambda k: (f"@cert-authority elsewhere {k.authority}",), "unknown", "unknown"
    ),
    "another authority": Case(lambda k: (f"@cert-authority * {k.other}",), "authority", "unknown"),
    "an authority, revoked": Case(
        lambda k: (f"@cert-authority * {k.authority}", f"@revoked * {k.authority}"), "authority", "revoked"
    ),
    "an authority, and the key itself": Case(
        lambda k: (f"@cert-authority * {k.authority}", f"{k.name} {k.box}"), "accept", "accept"
    ),
    "the box's own key as an authority": Case(
        lambda k: (f"@cert-authority * {k.box}",), "authority", "unknown"
    ),
    "an authority for another name than the certificate's": Case(
        lambda k: (f"@cert-authority rented-7 {k.authority}",),
        "authority",
        "unknown",
        config="  HostKeyAlias rented-7\n",
    ),
}


def over(transport: str, pinned: HostKey | None = None) -> OpenLink:
    """A link over fabric, over the client in it alone as a probe has it, or over the system's ssh."""
    box = BoxSpec("gpu1", "gpu1", link="ssh" if transport == "ssh" else "fabric")
    return connect(box, pinned=pinned, limit_s=40, probe=transport == "probe")


def outcome(transport: str, pinned: HostKey | None = None) -> str:
    """`accept`, or why not; never anything but a verdict on the host key."""
    try:
        with over(transport, pinned):
            return "accept"
    except HostKeyUnknown as error:
        return "authority" if "certificate authority" in error.what else "unknown"
    except HostKeyChanged as error:
        return "revoked" if "revoked" in error.what else "changed"


def by_ssh_itself() -> str:
    words = ["ssh", "-F", str(folder() / "config"), "-o", "BatchMode=yes", "gpu1", "true"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode in (0, 255)
    assert (done.returncode == 0) != (b"Host key verification failed" in done.stderr), done.stderr
    return "accept" if done.returncode == 0 else "refuse"


@pytest.fixture
def signed(make_box, tmp_path):
    """A box whose host key is signed by an authority, for the name that the tests call it by."""
    box: Box = make_box()
    authority, other = keygen(tmp_path / "authority"), keygen(tmp_path / "other")
    certify(box, tmp_path / "authority")
    ours = key_of(box.folder / "host_key_ed25519.pub")
    return box, Keys(text(ours), text(other), text(authority), f"[127.0.0.1]:{box.port}")


def certify(box: Box, authority: Path, validity: str = "-1h:+1d") -> None:
    words = ["ssh-keygen", "-q", "-s", authority, "-I", "box", "-h", "-n", "127.0.0.1", "-V", validity]
    subprocess.run([*words, box.folder / "host_key_ed25519.pub"], check=True, capture_output=True)
    box.drop_sshd()
    config = box.folder / "sshd_config"
    config.write_text(config.read_text() + "HostCertificate /run/box/host_key_ed25519-cert.pub\n")
    box.raise_sshd()


def known(box: Box, lines: tuple[str, ...], config: str = "") -> Path:
    """Our HOME for one case: ssh_config with one known_hosts file of these lines."""
    file = folder() / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    more = f"  UserKnownHostsFile {file}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
    (folder() / "config").write_text(box.ssh_config_text("gpu1", with_known_hosts=False) + more + config)
    return file


def misread(box: Box, keys: Keys, cases: dict[str, Case]) -> list[str]:
    """What is read otherwise than the table says, or than ssh by itself reads it."""
    wrong = []
    for name, case in cases.items():
        file = known(box, case.lines(keys), case.config)
        was = file.read_bytes()
        with ThreadPoolExecutor(4) as asking:
            itself_asked = asking.submit(by_ssh_itself)
            asked = {transport: asking.submit(outcome, transport) for transport in TRANSPORTS}
        itself, seen = itself_asked.result(), {way: answer.result() for way, answer in asked.items()}
        if seen != {"fabric": case.fabric, "probe": case.fabric, "ssh": case.ssh}:
            wrong.append(f"{name}: {seen}")
        if itself != ("accept" if case.ssh == "accept" or case.stricter else "refuse"):
            wrong.append(f"{name}: ssh by itself would {itself}")
        if file.read_bytes() != was:
            wrong.append(f"{name}: the file was written to")
    return wrong


def test_a_file_means_what_it_means_to_ssh(signed):  # S1 S2 S4
    """A third of the table, another one each time."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    names = random.Random(seed).sample(list(CASES), len(CASES) // 3)
    assert misread(*signed, {name: CASES[name] for name in names}) == []


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_each_file_of_the_table_means_what_it_means_to_ssh(signed):
    assert misread(*signed, CASES) == []


PINS = {
    "the pin": ("box", (), "accept"),
    "another pin": ("other", (), "changed"),
    "another pin, although the file knows the key": ("other", ("{name} {box}",), "changed"),
    "another pin, although an authority vouches": ("other", ("@cert-authority * {authority}",), "changed"),
    "the pin, although the file has another key": ("box", ("{name} {other}",), "accept"),
    "the pin, revoked": ("box", ("@revoked * {box}",), "revoked"),
    "the pin, revoked without the port": ("box", ("@revoked 127.0.0.1 {box}",), "revoked"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_pin_decides_alone(signed, transport):  # S2 S4 R25
    box, keys = signed
    for name, (pin, lines, expected) in PINS.items():
        known(box, tuple(line.format(**keys._asdict()) for line in lines))
        words = getattr(keys, pin).split()
        assert outcome(transport, HostKey(words[0], words[1])) == expected, name


def test_an_authority_is_refused_by_name_where_it_cannot_be_checked(signed):  # S4
    box, keys = signed
    known(box, (f"@cert-authority * {keys.authority}",))
    with pytest.raises(HostKeyUnknown) as caught:
        connect(BoxSpec("gpu1", "gpu1"), pinned=None, limit_s=40)
    assert caught.value.away.offered == box.fingerprint
    assert caught.value.hint == 'set link = "ssh" in [box.gpu1] of babysit.toml'
    assert caught.value.next == ("babysit trust gpu1",)
    with connect(BoxSpec("gpu1", "gpu1", link="ssh"), pinned=None, limit_s=40) as link:
        assert link.host_key is None  # nothing to pin: the authority vouches anew each time
        assert link.run(b"echo in", b"", limit_s=40).stdout == b"in\n"
        assert link.run(b"echo again", b"", limit_s=40).stdout == b"again\n"


def test_a_certificate_that_ran_out_says_so(make_box, tmp_path):  # S4
    box: Box = make_box()
    authority = keygen(tmp_path / "authority")
    certify(box, tmp_path / "authority", "-2d:-1d")
    known(box, (f"@cert-authority * {text(authority)}",))
    with pytest.raises(HostKeyUnknown, match="its certificate does not count: expired"):
        connect(BoxSpec("gpu1", "gpu1", link="ssh"), pinned=None, limit_s=40)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_settings_of_ssh_config_that_would_trust_anybody_do_not_count(box: Box, transport):  # S1 S2
    """A pin, or nothing known: whatever the file allows ssh itself."""
    other = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIORzLyGSf5c7Fmxvz0/8c64luYHZnlx5Qy+D22/wcyjP")
    mine = key_of(box.folder / "host_key_ed25519.pub")
    trusting = (
        "Host *\n  StrictHostKeyChecking no\n  NoHostAuthenticationForLocalhost yes\n"
        f"  KnownHostsCommand /bin/echo * {text(mine)}\n  UpdateHostKeys yes\n"
    )
    file = known(box, ())
    config = folder() / "config"
    config.write_text(trusting + config.read_text().replace("  StrictHostKeyChecking yes\n", ""))
    before = box.traffic()
    assert outcome(transport, other) == "changed"
    wait_until(lambda: not box.session_pids(), 60, "sshd has written what it saw")
    assert box.traffic().auth_attempts == before.auth_attempts
    assert outcome(transport, mine) == "accept"
    config.write_text(config.read_text().replace("  KnownHostsCommand", "#"))
    assert outcome(transport) == "unknown"
    assert file.read_bytes() == b""


WEAK = {
    "Ciphers 3des-cbc": "cipher",
    "Ciphers aes128-cbc": "cipher",
    "Ciphers aes128-ctr|MACs hmac-sha1": "MAC",
    "Ciphers aes128-ctr|MACs hmac-md5-96": "MAC",
}


def test_weak_algorithms_are_off_and_the_refusal_says_so(make_box):  # S5
    for number, (options, what) in enumerate(WEAK.items()):
        box: Box = make_box(f"gpu{number}", sshd_options=tuple(options.split("|")))
        (folder() / "config").write_text(box.ssh_config_text("gpu1"))
        for transport in TRANSPORTS:
            with pytest.raises(LinkError) as caught:
                over(transport)
            assert caught.value.away.cause == Cause.WEAK, (transport, caught.value.what)
            assert f"speaks no {what} that we use" in caught.value.what
            assert "weak ones are off here" in caught.value.what
            assert not caught.value.away.transient
            if transport == "ssh":
                assert f"it offers {options.split()[-1]}" in caught.value.what
        box.stop()


def test_a_choice_of_ciphers_in_ssh_config_is_kept_but_for_the_weak(make_box):  # S5
    box: Box = make_box(sshd_options=("Ciphers aes128-cbc,aes256-ctr,aes128-ctr", "LogLevel DEBUG1"))
    for ours, met in (("aes256-ctr,aes128-cbc", "aes256-ctr"), ("aes128-cbc,aes128-ctr", "aes128-ctr")):
        (folder() / "config").write_text(box.ssh_config_text("gpu1") + f"  Ciphers {ours}\n")
        before = len(box.sshd_log())
        with connect(BoxSpec("gpu1", "gpu1", link="ssh"), pinned=None, limit_s=40):
            pass
        assert f"server->client cipher: {met} " in box.sshd_log()[before:]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_strict_order_of_the_key_exchange_is_known(box: Box, transport):  # S5
    (folder() / "config").write_text(box.ssh_config_text("gpu1"))
    with over(transport) as link:
        assert link.strict_kex is True


def test_a_box_without_the_strict_order_is_told(box: Box, monkeypatch):  # S5
    """The library can be told not to offer it: then neither side keeps it."""
    import paramiko

    (folder() / "config").write_text(box.ssh_config_text("gpu1"))
    make = paramiko.Transport.__init__

    def lax(transport, *args, **kwargs):
        make(transport, *args, **{**kwargs, "strict_kex": False})

    monkeypatch.setattr(paramiko.Transport, "__init__", lax)
    address = resolve(BoxSpec("gpu1", "gpu1"))
    with ssh.connect(address, box_name="gpu1", pinned=None, limit_s=40) as link:
        assert link.strict_kex is False
