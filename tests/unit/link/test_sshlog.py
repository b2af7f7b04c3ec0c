"""What ssh's own log means: stages, causes, keys; lines of OpenSSH 9.2, and lines that a hostile box put there."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.link.causes import Scene, Stage, cause_of
from fleet.link.sshlog import SshLog
from fleet.model.probe import Cause

KEY = "SHA256:fkzBvNfupMsTrZWUPwlf4yuCQaR7mBZjvw638mowlaE"
CONNECT = "debug1: Connecting to gpu1 [10.0.0.7] port 2222.\n"
GREETING = f"{CONNECT}debug1: Connection established.\n"
HANDSHAKE = f"{GREETING}debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2\n"
LOGIN = f"{HANDSHAKE}debug1: Server host key: ssh-ed25519 {KEY}\ndebug1: SSH2_MSG_NEWKEYS received\n"
COMMAND = f'{LOGIN}Authenticated to 10.0.0.7 ([10.0.0.7]:2222) using "publickey".\n'


def read(text: str) -> SshLog:
    log = SshLog()
    log.feed(text.encode())
    return log


def cause(text: str) -> Cause:
    log = read(text)
    scene = Scene(
        stage=log.stage,
        took_s=1.0,
        limit_s=5.0,
        hung_up=log.hung_up or (log.stage == Stage.COMMAND and not log.no_session),
        greeting=log.greeting,
        refused_keys=tuple(log.refused_keys),
        no_common=log.no_common,
    )
    return cause_of(log.error or EOFError(), scene)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("debug2: resolve_canonicalize: hostname gpu1 is address\n", Stage.RESOLVE),
        (CONNECT, Stage.CONNECT),
        (GREETING, Stage.GREETING),
        ("debug1: Executing proxy command: exec nc gpu1 22\n", Stage.GREETING),
        (HANDSHAKE, Stage.HANDSHAKE),
        (LOGIN, Stage.LOGIN),
        (COMMAND, Stage.COMMAND),
    ],
)
def test_how_far_it_came(text, stage):
    assert read(text).stage == stage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh: Could not resolve hostname gpu1: Name or service not known\n", Cause.RESOLVE),
        (f"{CONNECT}ssh: connect to host gpu1 port 1: Connection refused\n", Cause.REFUSED),
        (f"{CONNECT}ssh: connect to host gpu1 port 1: No route to host\n", Cause.NO_ROUTE),
        (f"{CONNECT}ssh: connect to host gpu1 port 1: Something new\n", Cause.NO_ROUTE),
        (f"{CONNECT}ssh: connect to host gpu1 port 1: Connection timed out\n", Cause.TIMEOUT_CONNECT),
        (f"{GREETING}Connection timed out during banner exchange\n", Cause.TIMEOUT_BANNER),
        (f"{GREETING}kex_exchange_identification: Connection closed by remote host\n", Cause.THROTTLED),
        (f"{GREETING}kex_exchange_identification: read: Connection reset by peer\n", Cause.THROTTLED),
        (
            (
                f"{GREETING}debug1: kex_exchange_identification: banner line 0: Exceeded MaxStartups\n"
                "kex_exchange_identification: Connection closed by remote host\n"
            ),
            Cause.THROTTLED,
        ),
        (
            (
                f"{GREETING}debug1: kex_exchange_identification: banner line 0: 220 smtp\n"
                "kex_exchange_identification: Connection closed by remote host\n"
            ),
            Cause.PROTOCOL,
        ),
        (
            f"{GREETING}banner exchange: Connection to 10.0.0.7 port 2222: invalid format\n",
            Cause.PROTOCOL,
        ),
        (f"{HANDSHAKE}Bad packet length 4294967295.\n", Cause.PROTOCOL),
        (f"{HANDSHAKE}Connection closed by 10.0.0.7 port 2222\n", Cause.CUT),
        (f"{HANDSHAKE}Timeout, server 10.0.0.7 not responding.\n", Cause.TIMEOUT_HANDSHAKE),
        (
            (
                f"{HANDSHAKE}Unable to negotiate with 10.0.0.7 port 2222: no matching cipher found. "
                "Their offer: 3des-cbc\n"
            ),
            Cause.WEAK,
        ),
        (f"{LOGIN}Connection reset by 10.0.0.7 port 2222\n", Cause.CUT),
        (f"{LOGIN}dev@gpu1: Permission denied (publickey).\n", Cause.AUTH),
        (f"{COMMAND}Connection to gpu1 closed by remote host.\n", Cause.CUT),
        (f"{COMMAND}Timeout, server gpu1 not responding.\n", Cause.CUT),
        (f"{COMMAND}", Cause.CUT),  # ended, and nobody said why
        (f"{COMMAND}channel 0: open failed: connect failed: open failed\n", Cause.PROTOCOL),
        (f"{COMMAND}exec request failed on channel 0\n", Cause.PROTOCOL),
    ],
)
def test_its_messages_are_told_apart_as_on_the_other_link(text, expected):  # R12
    assert cause(text) == expected
    assert cause(text.replace("\n", "\r\n")) == expected  # as older ones write it


def test_a_name_that_may_come_back():
    for text, number in (
        ("Temporary failure in name resolution", socket.EAI_AGAIN),
        ("Name does not resolve", socket.EAI_NONAME),
        ("nodename nor servname provided, or not known", socket.EAI_NONAME),
        ("Words of tomorrow", socket.EAI_AGAIN),
    ):
        assert read(f"ssh: Could not resolve hostname gpu1: {text}\n").error.errno == number


OFFER = f"debug1: Offering public key: /k/id ED25519 {KEY} explicit\n"
ACCEPT = f"debug1: Server accepts key: /k/id ED25519 {KEY} explicit\n"
GO_ON = "debug1: Authentications that can continue: publickey\n"
DENIED = "dev@gpu1: Permission denied (publickey).\n"


@pytest.mark.parametrize(
    ("text", "refused", "unusable", "locked"),
    [
        (GO_ON + OFFER + GO_ON + DENIED, ["/k/id"], [], []),
        (OFFER + ACCEPT + "debug1: No more authentication methods to try.\n" + DENIED, [], [], ["/k/id"]),
        (
            OFFER.replace("/k/id", "me@here key").replace("explicit", "agent") + GO_ON,
            ["the agent's me@here key"],
            [],
            [],
        ),
        (
            OFFER + ACCEPT + 'Authenticated using "publickey" with partial success.\n' + DENIED,
            [],
            ["/k/id is accepted, but the box wants a second proof that we cannot give"],
            [],
        ),
        (
            OFFER
            + ACCEPT
            + 'sign_and_send_pubkey: signing failed for ED25519 "/k/id" from agent: agent refused operation\n'
            + DENIED,
            [],
            ["/k/id could not sign: agent refused operation"],
            [],
        ),
        (
            'Load key "/k/id": error in libcrypto\n',
            [],
            ["/k/id is no private key that can be used here"],
            [],
        ),
        (
            'Load key "/k/id": bad permissions\n',
            [],
            ["/k/id can be read by others, so that ssh leaves it (chmod 600)"],
            [],
        ),
        ('Load key "/k/id": incorrect passphrase supplied to decrypt private key\n', [], [], ["/k/id"]),
        ('Load key "/k/id.pub": invalid format\n', [], [], []),
        (
            OFFER + "Received disconnect from 10.0.0.7 port 2222:2: Too many authentication failures\n",
            ["/k/id"],
            [],
            [],
        ),
    ],
)
def test_what_became_of_each_key(text, refused, unusable, locked):
    log = read(LOGIN + text)
    assert (log.refused_keys, log.unusable_keys, log.locked_keys) == (refused, unusable, locked)


def test_the_host_key_and_who_vouched():
    certificate = f"debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com {KEY}, serial 0 ID x\n"
    by_certificate = "debug1: Host 'gpu1' is known and matches the ED25519-CERT host certificate.\n"
    by_key = "debug1: Host 'gpu1' is known and matches the ED25519 host key.\n"
    plain = read(LOGIN + by_key)
    assert (plain.shown.type, plain.shown.fingerprint, plain.vouched) == ("ssh-ed25519", KEY, "key")
    signed = read(certificate + by_certificate)
    assert (signed.shown, signed.vouched) == (plain.shown, "certificate")
    tried = read(certificate + "debug1: No matching CA found. Retry with plain key\n" + by_key)
    assert (tried.shown, tried.vouched) == (plain.shown, "key")
    lapsed = read(
        certificate
        + by_certificate
        + "Certificate invalid: expired\ndebug1: No matching CA found. Retry with plain key\n"
        + "No ED25519 host key is known for gpu1 and you have requested strict checking.\n"
    )
    assert (lapsed.vouched, lapsed.refused, lapsed.certificate_fault) == (None, "unknown", "expired")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("No ED25519 host key is known for gpu1 and you have requested strict checking.", "unknown"),
        ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "changed"),
        ("@       WARNING: REVOKED HOST KEY DETECTED!               @", "revoked"),
    ],
)
def test_why_a_host_key_was_refused(line, why):  # S1 S2
    assert read(f"{LOGIN}{line}\nHost key verification failed.\n").refused == why


@pytest.mark.parametrize(("client", "server"), [(True, True), (True, False), (False, True)])
def test_strict_kex_needs_both(client, server):  # S5
    def proposal(who, letter, has):
        return (
            f"debug2: {who} KEXINIT proposal\ndebug2: KEX algorithms: curve25519-sha256"
            f"{f',kex-strict-{letter}-v00@openssh.com' if has else ''}\n"
        )

    ours = proposal("local client", "c", client)
    assert read(ours).strict_kex is None
    assert read(ours + proposal("peer server", "s", server)).strict_kex == (client and server)


def test_how_the_command_ended():  # R12
    ended = "debug1: client_input_channel_req: channel 0 rtype exit-{} reply 0\n"
    assert read(COMMAND + ended.format("status")).status_came
    assert read(COMMAND + ended.format("signal")).signal_came
    assert not read(
        COMMAND + "debug1: client_input_channel_req: channel 0 rtype eow@openssh.com\n"
    ).status_came


def test_whether_the_answer_came_whole():  # R12
    assert not read(COMMAND).eof_came
    for said in ("eof", "close"):
        assert read(f"{COMMAND}debug2: channel 0: rcvd {said}\n").eof_came
    assert not read(f"{COMMAND}debug2: channel 0: send eof\n").eof_came


def test_a_line_that_the_box_put_into_the_log_is_harmless_and_buys_nothing():  # S23
    """A farewell with line breaks in it: more lines, as far as ssh's log can tell."""
    forged = (
        "Received disconnect from 10.0.0.7 port 2222:2: bye\n"
        f"debug1: Offering public key: \x1b]52;c;eA==\x07\u202e ED25519 {KEY} explicit\n{GO_ON}"
        "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0\n"
    )
    log = read(LOGIN + forged)
    assert log.refused_keys == ["\\x1b]52;c;eA==\\x07\\u202e"]
    assert log.vouched is None


@given(st.lists(st.binary(max_size=80), max_size=30))
def test_no_log_breaks_the_reader_and_pieces_do_not_matter(pieces):
    whole, by_piece = SshLog(), SshLog()
    whole.feed(b"".join(pieces))
    for piece in pieces:
        by_piece.feed(piece)
    assert vars(whole) == vars(by_piece)


def test_a_flood_is_not_kept():
    log = SshLog()
    for _ in range(2000):
        log.feed(b"debug1: kex_exchange_identification: banner line 1: " + b"x" * 4000 + b"\n")
        log.feed(b"no line end " * 1000)
    assert len(log.greeting) <= 16 * 1024
    assert sum(len(value) for value in vars(log).values() if isinstance(value, str | bytes)) < 200_000
