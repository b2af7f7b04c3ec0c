"""Where a box is: the spec and ssh_config made one, as ssh itself would go."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.link.address import resolve
from fleet.model.spec import BoxSpec

CONFIG = """
Include other.conf
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
  ProxyJump bastion
Host command
  ProxyCommand nc %h %p
Host direct
  ProxyJump none
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


def test_the_spec_overrides_ssh_config(home, with_or_without_ssh):
    found = resolve(BoxSpec("b", "gpu1", user="bob", port=22, identity="~/my key"))
    assert (found.port, found.user, found.identities) == (22, "bob", (f"{home}/my key",))
    assert found.lookup_name == "10.0.0.7"
    assert found.identities_only
    assert found.by_hand == "ssh -l bob -p 22 -i '~/my key' gpu1"


def test_a_bare_address_and_a_login_in_the_host(home, with_or_without_ssh):
    found = resolve(BoxSpec("b", "carol@192.0.2.1"))
    assert (found.host, found.port, found.user) == ("192.0.2.1", 22, "carol")
    assert f"{home}/.ssh/id_ed25519" in found.identities


def test_host_key_alias_files_and_agent(home, monkeypatch):  # S4
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    found = resolve(BoxSpec("b", "alias", port=2200))
    assert (found.host_key_alias, found.lookup_name) == ("the-box", "the-box")
    assert found.known_hosts[:2] == (f"{home}/.ssh/kh1", f"{home}/.ssh/kh 2")
    assert found.identities_only
    assert found.agent is None
    assert resolve(BoxSpec("b", "gpu1")).agent == "/run/agent"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert resolve(BoxSpec("b", "gpu1")).agent is None


@pytest.mark.parametrize(("host", "option"), [("jumps", "ProxyJump"), ("command", "ProxyCommand")])
def test_a_way_that_is_not_supported_is_named(home, host, option, with_or_without_ssh):
    with pytest.raises(UsageError) as caught:
        resolve(BoxSpec("b", host))
    assert option in caught.value.what
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert resolve(BoxSpec("b", "direct")).host == "direct"


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


def test_ssh_itself_agrees(home):
    found = resolve(BoxSpec("b", "gpu1"))
    said = subprocess.run(
        ["ssh", "-F", home / ".ssh/config", "-G", "gpu1"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {f"hostname {found.host}", f"port {found.port}", f"user {found.user}"} <= set(said)
