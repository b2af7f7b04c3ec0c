"""Nothing weak is left on, and a box without better algorithms is told by name."""

import paramiko
import pytest

from fleet.link.algorithms import WEAK, nothing_in_common, strong_settings


def test_what_the_library_offers_beside_the_weak_is_strong():  # S5
    """A later version with another weak name turns this red."""
    for kind, offered in (
        ("ciphers", paramiko.Transport._preferred_ciphers),
        ("macs", paramiko.Transport._preferred_macs),
    ):
        assert set(WEAK[kind]) <= set(offered)
        left = set(offered) - set(WEAK[kind])
        assert left
        assert not [name for name in left if "cbc" in name or "sha1" in name or "md5" in name]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, []),
        ({"ciphers": ["aes128-ctr,3des-cbc,aes128-cbc,arcfour256"]}, ["Ciphers=aes128-ctr"]),
        (
            {"ciphers": ["aes128-ctr"], "macs": ["hmac-sha1-etm@openssh.com,hmac-sha2-256,hmac-md5-96"]},
            ["Ciphers=aes128-ctr", "MACs=hmac-sha2-256"],
        ),
    ],
)
def test_of_what_ssh_config_allows_the_strong_stay(options, settings):  # S5
    assert strong_settings(options) == settings


def test_only_weak_ones_left_are_never_let_through():
    """Where ssh_config allows nothing else, ssh is told of a choice that no box can meet with a weak one."""
    (setting,) = strong_settings({"ciphers": ["3des-cbc,aes128-cbc"]})
    assert setting.startswith("Ciphers=")
    assert "cbc" not in setting


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ("Incompatible ssh server (no acceptable ciphers)", "cipher"),
        ("Incompatible ssh server (no acceptable macs)", "MAC"),
        ("Incompatible ssh peer (no acceptable kex algorithm)", "key exchange method"),
        ("Incompatible ssh peer (no acceptable host key)", "host key type"),
        ("Incompatible ssh server (no acceptable compression) [] [] ()", "compression"),
        ("Incompatible version (1.5 instead of 2.0)", None),
    ],
)
def test_what_is_not_shared_is_named(says, kind):
    found = nothing_in_common(paramiko.ssh_exception.IncompatiblePeer(says))
    assert found == ((kind, "") if kind else None)
