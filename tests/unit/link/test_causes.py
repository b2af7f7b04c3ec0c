"""From a foreign exception to one cause, one sentence and one next command."""

import errno
import re
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleet.errors import AuthRefused, HostKeyChanged, HostKeyUnknown, LinkError, LinkTimeout
from fleet.link.address import Address
from fleet.link.causes import _TABLE, Scene, Stage, cause_of, host_key_error, link_error
from fleet.link.hostkeys import HostKey, Refuse
from fleet.link.way import _JUMP_SAYS, Parting, Way, blame
from fleet.model.probe import Cause

BOX = Address("10.0.0.7", 2222, "dev", (), (), None, "[10.0.0.7]:2222", by_hand="ssh gpu1")


def scene(stage: Stage, **facts) -> Scene:
    return Scene(stage=stage, took_s=2.25, limit_s=5.0, **facts)


S = Stage
CASES = [
    (
        EOFError(),
        scene(S.HANDSHAKE, no_common=("cipher", "3des-cbc")),
        Cause.WEAK,
        False,
        "10.0.0.7 port 2222 speaks no cipher that we use (it offers 3des-cbc); weak ones are off here",
    ),
    (socket.gaierror(socket.EAI_NONAME, "raw text"), scene(S.RESOLVE), Cause.RESOLVE, False, "no such name"),
    (socket.gaierror(socket.EAI_AGAIN, "raw text"), scene(S.RESOLVE), Cause.RESOLVE, True, "did not answer"),
    (TimeoutError(), scene(S.RESOLVE), Cause.RESOLVE, True, "did not answer"),
    (
        ConnectionRefusedError(),
        scene(S.CONNECT),
        Cause.REFUSED,
        True,
        "nothing listens on 10.0.0.7 port 2222",
    ),
    (TimeoutError(), scene(S.CONNECT), Cause.TIMEOUT_CONNECT, True, "within 5 s"),
    (
        OSError(errno.EHOSTUNREACH, "No route to host"),
        scene(S.CONNECT),
        Cause.NO_ROUTE,
        True,
        ": No route to host",
    ),
    (ConnectionResetError(), scene(S.CONNECT), Cause.THROTTLED, True, "hung up at the greeting"),
    (OSError("raw text"), scene(S.CONNECT), Cause.NO_ROUTE, True, "cannot be reached"),
    (TimeoutError(), scene(S.GREETING, ran_out=True), Cause.TIMEOUT_BANNER, True, "no SSH greeting"),
    (EOFError(), scene(S.GREETING, hung_up=True), Cause.THROTTLED, True, "hung up at the greeting"),
    (
        EOFError(),
        scene(S.GREETING, hung_up=True, greeting=b"Exceeded MaxStartups\r\n"),
        Cause.THROTTLED,
        True,
        "",
    ),
    (
        EOFError(),
        scene(S.GREETING, hung_up=True, greeting=b"220 smtp\r\n"),
        Cause.PROTOCOL,
        False,
        "'220 smtp'",
    ),
    (
        ConnectionError("raw text"),
        scene(S.GREETING, greeting=b"x" * 99),
        Cause.PROTOCOL,
        False,
        "not usable SSH",
    ),
    (TimeoutError(), scene(S.HANDSHAKE, ran_out=True), Cause.TIMEOUT_HANDSHAKE, True, "not over within 5 s"),
    (EOFError(), scene(S.HANDSHAKE, hung_up=True), Cause.CUT, True, "in the key exchange after 2.2 s"),
    (ValueError("raw text"), scene(S.HANDSHAKE), Cause.PROTOCOL, False, "the key exchange failed"),
    (TimeoutError(), scene(S.LOGIN, ran_out=True, hung_up=True), Cause.TIMEOUT_HANDSHAKE, True, ""),
    (EOFError(), scene(S.LOGIN, hung_up=True), Cause.CUT, True, "during the login"),
    (
        EOFError(),
        scene(S.LOGIN, refused_keys=("k1",)),
        Cause.AUTH,
        False,
        "did not let dev in: it refused k1",
    ),
    (EOFError(), scene(S.LOGIN, refused_keys=("k1",), hung_up=True), Cause.AUTH, False, "too many keys"),
    (EOFError(), scene(S.LOGIN, locked_keys=("/k",)), Cause.AUTH, False, "under cron there is none"),
    (EOFError(), scene(S.LOGIN), Cause.AUTH, False, "no key to offer"),
    (TimeoutError(), scene(S.COMMAND, ran_out=True), Cause.TIMEOUT_COMMAND, True, "the answer did not end"),
    (EOFError(), scene(S.COMMAND, hung_up=True), Cause.CUT, True, "in the middle of an answer"),
    (EOFError(), scene(S.COMMAND), Cause.PROTOCOL, False, "refused to open a session"),
]


@pytest.mark.parametrize(("error", "at", "cause", "transient", "words"), CASES)
def test_each_failure_has_its_cause_and_sentence(error, at, cause, transient, words):  # R12
    told = link_error(error, at, address=BOX, box_name="gpu1", at=7.0)
    assert (told.away.cause, told.away.transient) == (cause, transient)
    assert words in told.what
    assert "raw text" not in told.what
    assert (told.where, told.away.at, told.away.took_s) == ("gpu1", 7.0, 2.25)
    assert told.next


def test_each_row_of_the_table_is_reached():
    reached = {next(i for i, (test, _) in enumerate(_TABLE) if test(error, at)) for error, at, *_ in CASES}
    assert reached == set(range(len(_TABLE)))


@pytest.mark.parametrize(
    ("cause", "kind", "code"),
    [(Cause.AUTH, AuthRefused, 4), (Cause.TIMEOUT_BANNER, LinkTimeout, 11), (Cause.CUT, LinkError, 11)],
)
def test_the_kind_of_error_and_its_exit_code(cause, kind, code):
    error, at = next((error, at) for error, at, found, *_ in CASES if found == cause)
    told = link_error(error, at, address=BOX, box_name="gpu1", at=0)
    assert type(told) is kind
    assert told.exit_code == code


def test_a_locked_key_has_ssh_add_as_its_next_command():
    told = link_error(EOFError(), scene(S.LOGIN, locked_keys=("/my key",)), address=BOX, box_name="b", at=0)
    assert told.next == ("ssh-add '/my key'", "ssh gpu1")


def told_of_a_way(status, stderr=b"", **facts):
    facts = {"hung_up": True, **facts}
    at = scene(S.GREETING, parting=Parting(status, stderr), **facts)
    behind = replace(BOX, way=Way("true", "jump host j"))
    return link_error(EOFError(), at, address=behind, box_name="gpu1", at=0)


# What OpenSSH 9.2 prints when a jump fails, and the row of its table that it meets.
JUMPS = [
    (
        b"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.",
        Cause.WAY_HOSTKEY,
    ),
    (b"No ED25519 host key is known for j and you have requested strict checking.\r\n", Cause.WAY_HOSTKEY),
    (b"dev@10.0.0.9: Permission denied (publickey).\r\n", Cause.WAY_AUTH),
    (
        b"channel 0: open failed: connect failed: Connection refused\r\nConnection closed by UNKNOWN port 65535\r\n",
        Cause.NO_ROUTE,
    ),
    (b"channel 0: open failed: administratively prohibited: open failed\r\n", Cause.WAY),
    (
        b"channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n",
        Cause.REFUSED,
    ),
    (b"channel 0: open failed: connect failed: Connection timed out\r\n", Cause.TIMEOUT_CONNECT),
    (b"channel 0: open failed: connect failed: Name or service not known\r\n", Cause.RESOLVE),
    (b"channel 0: open failed: connect failed: No route to host\r\n", Cause.NO_ROUTE),
    (
        b"Connection timed out during banner exchange\r\nConnection to 10.0.0.9 port 22 timed out\r\n",
        Cause.TIMEOUT_BANNER,
    ),
    (b"ssh: connect to host 10.0.0.9 port 22: Connection timed out\r\n", Cause.TIMEOUT_CONNECT),
    (b"ssh: Could not resolve hostname j: Name or service not known\r\n", Cause.RESOLVE),
    (b"ssh: connect to host 10.0.0.9 port 22: Connection refused\r\n", Cause.REFUSED),
    (b"ssh: connect to host 10.0.0.9 port 22: No route to host\r\n", Cause.NO_ROUTE),
    (b"kex_exchange_identification: read: Connection reset by peer\r\n", Cause.THROTTLED),
]


@pytest.mark.parametrize(("stderr", "cause"), JUMPS)
def test_what_ssh_says_of_a_jump_becomes_a_cause_and_a_sentence_of_ours(stderr, cause):  # R12
    told = told_of_a_way(255, stderr)
    assert told.away.cause == cause
    assert "jump host j" in told.what and "and said" not in told.what
    assert told.exit_code == (4 if cause in {Cause.WAY_AUTH, Cause.WAY_HOSTKEY} else 11)
    assert told.next == ("ssh gpu1",)


def test_each_row_of_the_jumps_table_is_reached_and_in_its_order():
    reached = [
        next(i for i, (pattern, *_) in enumerate(_JUMP_SAYS) if re.search(pattern, said.decode()))
        for said, _ in JUMPS
    ]
    assert reached == list(range(len(_JUMP_SAYS)))


def test_a_command_that_ended_well_or_after_a_greeting_is_not_to_blame():
    assert blame(Parting(0, b"Connection refused")) is None
    assert told_of_a_way(0).away.cause == Cause.THROTTLED
    assert told_of_a_way(255, greeting=b"SSH-1").away.cause == Cause.PROTOCOL
    late = scene(S.LOGIN, hung_up=True, parting=Parting(255, b"Permission denied (x)"))
    assert cause_of(EOFError(), late) == Cause.CUT


@given(st.one_of(st.none(), st.integers(-64, 255)), st.binary(max_size=300))
def test_whatever_a_command_says_the_sentence_is_harmless(status, stderr):  # S10
    told = told_of_a_way(status, stderr + b" {host} {0}")
    assert told.what.isprintable()
    assert len(told.what) < 500


@given(
    st.builds(
        Scene,
        stage=st.sampled_from(Stage),
        took_s=st.just(1.0),
        limit_s=st.just(2.0),
        ran_out=st.booleans(),
        hung_up=st.booleans(),
        greeting=st.binary(max_size=50),
        refused_keys=st.lists(st.just("k"), max_size=2).map(tuple),
    ),
    st.sampled_from(
        [EOFError(), TimeoutError(), OSError(5, "I/O error"), ValueError("x"), ConnectionResetError()]
    ),
)
def test_every_scene_has_a_cause_and_a_harmless_sentence(at, error):
    assert cause_of(error, at) in Cause
    says = link_error(error, at, address=BOX, box_name="b", at=0).what
    assert says.isprintable()


KEY, OLD = HostKey("ssh-ed25519", "b25l"), HostKey("ssh-ed25519", "dHdv")


def test_host_key_errors_show_both_fingerprints_and_the_way_on():  # S1 S2
    def told(refuse, **more):
        return host_key_error(refuse, KEY, address=BOX, box_name="gpu1", at=0, took_s=1, **more)

    unknown = told(Refuse("unknown"), skipped=("/kh (larger than 5 MB)",))
    assert type(unknown) is HostKeyUnknown
    assert (unknown.away.known, unknown.away.offered) == (None, KEY.fingerprint)
    assert "not read: /kh (larger than 5 MB)" in unknown.what
    assert unknown.next == ("babysit trust gpu1",)
    changed = told(Refuse("changed", OLD))
    assert type(changed) is HostKeyChanged
    assert (changed.away.known, changed.away.offered) == (OLD.fingerprint, KEY.fingerprint)
    assert changed.next == (f"babysit trust gpu1 --fingerprint {KEY.fingerprint}",)
    authority = told(Refuse("authority"))
    assert (type(authority), authority.away.offered) == (HostKeyUnknown, KEY.fingerprint)
    assert "a certificate authority there vouches for it" in authority.what
    assert authority.hint == 'set link = "ssh" in [box.gpu1] of babysit.toml'
    revoked = told(Refuse("revoked", KEY))
    assert (type(revoked), revoked.next) == (HostKeyChanged, ())


def test_the_light_modules_bring_no_ssh_library():
    program = (
        "import sys, fleet.link, fleet.link.address, fleet.link.base, fleet.link.causes, fleet.link.dial,"
        "fleet.link.hostkeys, fleet.link.local, fleet.link.open, fleet.link.openssh; print(sorted({'fabric', 'paramiko'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=sys.path[0] or None
    )
    assert shown.stdout == "[]\n"
