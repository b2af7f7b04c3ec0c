"""Frames: whole or nothing, whatever surrounds or damages them."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ProbeUnreadable
from fleet.text.frame import Section, cksum, request, sections

TOKEN = "0123456789abcdef" * 2


def framed(body: bytes, token: str = TOKEN) -> bytes:
    return b"babysit-frame 1 %s %d %d\n%s\nbabysit-end %s\n" % (
        token.encode(), len(body), cksum(body), body, token.encode(),
    )  # fmt: skip


def body_of(*parts: tuple[str, str, int, bytes]) -> bytes:
    return b"".join(b"@ %s %s %d %d\n%s\n" % (n.encode(), r.encode(), s, len(c), c) for n, r, s, c in parts)


ONE = framed(body_of(("log", "train-k3f9", 0, b"a\nb"), ("gpu", "-", 127, b"")))


def test_sections_come_back_in_order_with_run_and_status():
    assert sections(ONE, TOKEN, where="gpu1") == (
        Section("log", "train-k3f9", 0, b"a\nb"),
        Section("gpu", None, 127, b""),
    )


def test_noise_before_and_after_is_ignored():  # R21
    noisy = b"Welcome!\nbabysit-frame 1 deadbeef 3 3\n" + ONE + b"logout\n"
    assert len(sections(noisy, TOKEN, where="gpu1")) == 2


@pytest.mark.parametrize("cut", range(len(ONE)))
def test_a_cut_at_any_byte_is_unreadable(cut):  # R21
    with pytest.raises(ProbeUnreadable):
        sections(ONE[:cut], TOKEN, where="gpu1")


@given(st.integers(0, len(ONE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_unreadable_or_outside_the_frame(at, change):
    damaged = bytearray(ONE)
    damaged[at] = (damaged[at] + change) % 256
    with pytest.raises(ProbeUnreadable):
        sections(bytes(damaged), TOKEN, where="gpu1")


def test_a_frame_inside_a_section_is_content():  # S25
    forged = framed(body_of(("end", "-", 0, b"state=done")))
    outer = framed(body_of(("log", "-", 0, forged)))
    assert sections(outer, TOKEN, where="x") == (Section("log", None, 0, forged),)


@pytest.mark.parametrize(
    "body",
    [
        b"@ log - 0 5\nab\n",
        b"@ log - x 1\na\n",
        b"@ log - 0 1\nab",
        b"junk\n",
        b"@ log - 0 99999999999999999999\n",
    ],
)
def test_a_malformed_body_is_unreadable(body):
    with pytest.raises(ProbeUnreadable):
        sections(framed(body), TOKEN, where="x")


@given(
    st.lists(
        st.tuples(st.sampled_from(["log", "gpu"]), st.just("-"), st.integers(0, 255), st.binary(max_size=50))
    )
)
def test_any_content_survives(parts):
    got = sections(framed(body_of(*parts)), TOKEN, where="x")
    assert [(s.name, s.status, s.content) for s in got] == [(n, s, c) for n, _, s, c in parts]


@pytest.mark.parametrize("data", [b"", b"a", b"babysit\n" * 1000, bytes(range(256))])
def test_cksum_is_the_one_of_the_box(data):
    told = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout.split()[0]
    assert cksum(data) == int(told)


@pytest.mark.parametrize("pair", [("a b", "x"), ("a", "x\ny"), ("a", "x\0"), ("", "x"), ("a", "x\r")])
def test_a_request_line_stays_one_line(pair):  # S17
    with pytest.raises(ValueError, match="cannot carry"):
        request(TOKEN, [pair])


def test_a_request_starts_with_its_token_and_ends():
    assert request("t", [("run", "a $(id) 'b'")]) == b"frame t\nrun a $(id) 'b'\nend\n"
