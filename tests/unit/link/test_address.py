"""Where a box is: the spec and ssh_config made one, as ssh itself would go."""

import getpass
import hmac
import os
import shlex
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.link.address import resolve
from fleet.link.hostkeys import known_in_user_files
from fleet.model.spec import BoxSpec

CONFIG = """
Host gpu1
  HostName 10.0.0.7
  Port 2222
  User alice
  IdentityFile ~/.ssh/%r_%h
Host alias
  HostKeyAlias the-box
  UserKnownHostsFile ~/.ssh/kh1 "~/.ssh/kh 2"
  IdentitiesOnly yes
  IdentityAgent none
Host jumps
  HostName 10.0.0.8
  ProxyJump carol@bastion:2200
Host bastion
  HostName bastion.example
Host far
  ProxyJump bastion,[fe80::1]:23
Host command
  HostName 10.0.0.8
  User alice
  ProxyCommand ~/nc "a b" %h %p %r %n 100%%
Host direct
  ProxyJump none
Host by-itself
  ProxyCommand none
Host odd
  ProxyCommand nc %h %q
Host descriptor
  ProxyCommand nc -F %h
  ProxyUseFdpass yes
Host hangs
  HostName 10.0.0.9
"""


@pytest.fixture
def home():
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(CONFIG)
    return home


@pytest.fixture(params=["ssh -G", "no ssh program"])
def with_or_without_ssh(request, monkeypatch, tmp_path):
    if request.param == "no ssh program":
        monkeypatch.setenv("PATH", str(tmp_path))
        assert shutil.which("ssh") is None


def test_an_alias_gives_host_port_user_and_keys(home, with_or_without_ssh):  # R26
    found = resolve(BoxSpec("b", "gpu1"))
    assert (found.host, found.port, found.user) == ("10.0.0.7", 2222, "alice")
    assert found.identities == (f"{home}/.ssh/alice_10.0.0.7",)
    assert found.lookup_name == "[10.0.0.7]:2222"
    assert found.known_hosts[:1] == (f"{home}/.ssh/known_hosts",)
    assert found.by_hand == "ssh gpu1"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("~/.ssh/%n-%p-%r", "{home}/.ssh/gpu1-2222-alice"),
        ("~/.ssh/%k", "{home}/.ssh/gpu1"),
        (
            "%d/.ssh/%h_%L_%i_100%%",
            f"{{home}}/.ssh/10.0.0.7_{os.uname().nodename.split('.')[0]}_{os.getuid()}_100%",
        ),
        ("${KEYS}/%u ${", "/keys of mine/{user} ${{"),
    ],
)
def test_a_key_file_named_by_tokens_is_the_one_that_ssh_takes(home, monkeypatch, words, file):  # R26
    monkeypatch.setenv("KEYS", "/keys of mine")
    (home / ".ssh/config").write_text(f'{CONFIG}Host *\n  IdentityFile "{words}"\n')
    expected = file.format(home=home, user=getpass.getuser())
    assert resolve(BoxSpec("b", "gpu1")).identities[1] == expected


def test_the_spec_overrides_ssh_config(home, with_or_without_ssh):
    found = resolve(BoxSpec("b", "gpu1", user="bob", port=22, identity="~/my key"))
    assert (found.port, found.user, found.identities) == (22, "bob", (f"{home}/my key",))
    assert found.lookup_name == "10.0.0.7"
    assert found.identities_only
    assert found.by_hand == "ssh -p 22 -i '~/my key' bob@gpu1"


def test_a_bare_address_and_a_login_in_the_host(home, with_or_without_ssh):
    found = resolve(BoxSpec("b", "carol@192.0.2.1"))
    assert (found.host, found.port, found.user) == ("192.0.2.1", 22, "carol")
    assert f"{home}/.ssh/id_ed25519" in found.identities


def test_host_key_alias_files_and_agent(home, with_or_without_ssh, monkeypatch):  # S4
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    found = resolve(BoxSpec("b", "alias", port=2200))
    assert (found.host_key_alias, found.lookup_name) == ("the-box", "the-box")
    assert found.known_hosts[:2] == (f"{home}/.ssh/kh1", f"{home}/.ssh/kh 2")
    assert found.identities_only
    assert found.agent is None
    assert resolve(BoxSpec("b", "gpu1")).agent == "/run/agent"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert resolve(BoxSpec("b", "gpu1")).agent is None


@pytest.mark.parametrize("how", ["plain", "hashed"])
def test_a_key_under_the_alias_is_found_in_the_named_file(home, with_or_without_ssh, how):  # S4
    salt = bytes(range(20))
    digest = hmac.digest(salt, b"the-box", "sha1")
    name = f"|1|{b64encode(salt).decode()}|{b64encode(digest).decode()}" if how == "hashed" else "the-box"
    (home / ".ssh/kh 2").write_text(f"gpu1 ssh-ed25519 b3RoZXI=\n{name} ssh-ed25519 bWluZQ==\n")
    found = known_in_user_files(resolve(BoxSpec("b", "alias", port=2200)))
    assert [key.b64 for key in found.keys] == ["bWluZQ=="]


def test_a_proxy_command_is_the_way_with_its_places_filled(home, with_or_without_ssh):  # R26
    way = resolve(BoxSpec("b", "command")).way
    assert way.command == '~/nc "a b" 10.0.0.8 22 alice command 100%'
    assert way.through == "the ProxyCommand of command"
    # What the spec says goes before ssh_config here, too.
    assert " 10.0.0.8 99 bob " in resolve(BoxSpec("b", "command", user="bob", port=99)).way.command
    assert resolve(BoxSpec("b", "direct")).way is None
    assert resolve(BoxSpec("b", "by-itself")).way is None


def test_a_jump_is_ssh_on_our_terms(home):  # R24 R26 S6
    way = resolve(BoxSpec("b", "jumps", limit_s=9)).way
    words = shlex.split(way.command)
    assert words[:3] == ["ssh", "-F", f"{home}/.ssh/config"]
    assert words[-8:-4] == ["-l", "carol", "-p", "2200"]
    assert words[-4:] == ["-W", "[10.0.0.8]:22", "--", "bastion"]
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no", "ClearAllForwardings=yes"} <= {
        *words
    }
    assert {"ControlPath=none", "ConnectTimeout=8"} <= set(words)
    assert f'UserKnownHostsFile="{home}/.ssh/known_hosts" "{home}/.ssh/known_hosts2"' in words
    assert way.through == "jump host carol@bastion:2200"


def test_two_jumps_are_one_command_in_the_other(home):
    words = shlex.split(resolve(BoxSpec("b", "far")).way.command)
    assert words[-4:] == ["-W", "[far]:22", "--", "fe80::1"]
    inner = shlex.split(next(word for word in words if word.startswith("ProxyCommand="))[13:])
    assert inner[-4:] == ["-W", "[fe80::1]:23", "--", "bastion"]


def test_a_jump_without_an_ssh_program_is_refused_by_name(home, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        resolve(BoxSpec("b", "jumps"))
    assert "carol@bastion:2200 (ProxyJump)" in caught.value.what
    assert caught.value.next == ("apt-get install openssh-client",)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("Include other.conf\n", "line 1 says 'Include'"),
        ("Host x\n  include=~/y\n", "line 2 says 'include'"),
        ("Match tagged x\n", "line 1 says 'Match tagged'"),
        ("Match host y exec 'sleep 99'\n", "line 1 says 'Match host y exec'"),
        ("Match host\n", "cannot be read without the ssh program"),
    ],
)
def test_what_cannot_be_read_without_an_ssh_program_is_refused_by_name(
    home, config, word, monkeypatch, tmp_path
):
    (home / ".ssh/config").write_text(config)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        resolve(BoxSpec("b", "gpu1"))
    assert word in caught.value.what
    assert caught.value.next == ("apt-get install openssh-client",)


def test_an_include_is_followed_where_there_is_ssh(home):
    (home / ".ssh/config").write_text(f"Include {home}/.ssh/other\n")
    (home / ".ssh/other").write_text("Host gpu1\n  HostName 10.9.9.9\n")
    assert resolve(BoxSpec("b", "gpu1")).host == "10.9.9.9"


@pytest.mark.parametrize(("host", "word"), [("odd", "%q"), ("descriptor", "ProxyUseFdpass")])
def test_a_way_that_is_not_supported_is_named(home, host, word, with_or_without_ssh):
    with pytest.raises(UsageError) as caught:
        resolve(BoxSpec("b", host))
    assert word in caught.value.what
    assert caught.value.exit_code == 2


NAMES = ("$(touch${IFS}x)", "a;b", "`x`", "a'b", 'a"b', "a|b", "a&b", "a>b", "a\\b")


@pytest.mark.parametrize("as_what", ["host", "user"])
def test_no_name_becomes_a_word_of_a_proxy_command_s_shell(home, as_what, monkeypatch, tmp_path):  # S3 S21
    (home / ".ssh/config").write_text("Host *\n  ProxyCommand nc %n %h %p %r\n")

    def refused(name):
        spec = BoxSpec("b", name) if as_what == "host" else BoxSpec("b", "gpu1", user=name)
        with pytest.raises(UsageError):
            resolve(spec)

    refused(NAMES[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in NAMES:
        refused(name)


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=touch x",
        "-x",
        "",
        "a b",
        "a\tb",
        "a\nb",
        "a\x00b",
        "a\x1bb",
        " a",
        "a\u0085b",
        "a\u2028b",
    ],
)
def test_a_host_that_could_be_an_option_is_refused(home, host, tmp_path):  # S16 S21
    with pytest.raises(UsageError):
        resolve(BoxSpec("b", host))
    with pytest.raises(UsageError):
        resolve(BoxSpec("b", "gpu1", user=host))
    assert not (tmp_path / "x").exists()


def test_a_broken_ssh_config_is_said_in_ssh_s_words(home):
    (home / ".ssh/config").write_text("Host *\n  Nonsense yes\n")
    with pytest.raises(UsageError) as caught:
        resolve(BoxSpec("b", "gpu1"))
    assert "nonsense" in caught.value.what.lower() or "bad configuration" in caught.value.what.lower()
    assert caught.value.next == ("ssh -G gpu1",)


@pytest.mark.parametrize(
    "cut", ["head -c 4096", "tail -c +4097"], ids=["the-end-is-lost", "the-start-is-lost"]
)
def test_an_answer_of_ssh_that_came_in_part_is_not_used(home, tmp_path, monkeypatch, cut):  # R26 P5
    """ssh writes it block by block, and does not notice when one of its writes fails."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\n{shutil.which("ssh")} "$@" | {cut}\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    long = "SendEnv " + " ".join(f"NAME_{number}" for number in range(400))
    (home / ".ssh/config").write_text(f"Host train\n  HostName 192.0.2.7\n  {long}\n")
    with pytest.raises(UsageError, match="answered in part"):
        resolve(BoxSpec("b", "train"))


def test_ssh_itself_agrees(home):
    found = resolve(BoxSpec("b", "gpu1"))
    said = subprocess.run(
        ["ssh", "-F", home / ".ssh/config", "-G", "gpu1"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {f"hostname {found.host}", f"port {found.port}", f"user {found.user}"} <= set(said)
