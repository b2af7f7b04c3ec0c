"""A target's URL is a secret: it is in no file of ours, no argument, no message and no child's environment."""

import contextlib
import os
import signal
import subprocess
import sys

import msgspec
import pytest
from ledger_samples import a_tick, an_event
from processes import children, lives, of, pids
from receiver import receiver
from waiting import wait_until

from fleet.ledger.ledger import Ledger
from fleet.model.spec import TargetSpec
from fleet.notices.courier import deliver_due, start_detached
from fleet.notices.parcel import Parcel, Receipt

PATIENT_S = 60.0

# One in each part of a URL that can carry a secret.
CANARIES = ("canary-user-1", "canary-pass-2", "canary-path-3", "canary-query-4")


def _url(port):
    return f"json://canary-user-1:canary-pass-2@127.0.0.1:{port}/canary-path-3?+X-Key=canary-query-4"


def _reference(kind, tmp_path, monkeypatch, url):
    if kind == "env":
        monkeypatch.setenv("HOOK_URL", url)
        return "env:HOOK_URL"
    path = tmp_path / "hook.url"
    path.write_text(url)
    path.chmod(0o600)
    return f"file:{path}"


def _end(pid):
    for each in (pid, *children(pid)):
        if lives(each):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def _found(content):
    return [canary for canary in CANARIES if canary.encode() in content]


@pytest.mark.parametrize("kind", ["env", "file"])
def test_the_secret_is_nowhere_but_at_the_receiver(tmp_path, monkeypatch, kind):  # S7 S8 S10
    folder = tmp_path / "state"
    with receiver("drip") as hook:
        reference = _reference(kind, tmp_path, monkeypatch, _url(hook.port))
        with Ledger.open(folder, write=True) as ledger:
            ledger.ticks.commit(a_tick(an_event(), targets=(TargetSpec("hook", reference),)))
        pid = start_detached(folder, limit_s=PATIENT_S, stays_s=0)
        try:
            wait_until(lambda: hook.hits, 60, "the detached courier's request")
            (sender,) = children(pid)
            assert b"fleet.notices.send" in of(sender, "cmdline")
            assert [each for each in pids() if _found(of(each, "cmdline"))] == []
            assert _found(of(sender, "environ")) == []
            hook.release.set()
            wait_until(lambda: not lives(pid), 60, "the end of the courier")
        finally:
            _end(pid)
        assert hook.hits[0].path == "/canary-path-3", "the receiver is where the secret belongs"
        assert hook.hits[0].headers["X-Key"] == "canary-query-4"
    for path in folder.iterdir():
        assert _found(path.read_bytes()) == [], path


@pytest.mark.parametrize(
    "url", [_url(1), "nosuch://" + "/".join(CANARIES), "json:///" + "/".join(CANARIES), " ".join(CANARIES)]
)
def test_what_the_sender_says_holds_no_secret(url):  # S11 S12
    parcel = Parcel(url, "title", "body", "failure", "ev-1", PATIENT_S)
    words = [sys.executable, "-I", "-m", "fleet.notices.send"]
    done = subprocess.run(
        words, check=False, input=msgspec.json.encode(parcel), capture_output=True, timeout=90
    )
    receipt = msgspec.json.decode(done.stdout, type=Receipt)
    assert not receipt.ok
    assert receipt.says
    assert _found(done.stdout + done.stderr) == []


# Two more ways of writing 169.254.169.254 that a resolver takes, and what an address of IPv6 can hide.
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "[fe80::1]"]
)
def test_no_notice_goes_where_a_cloud_keeps_its_keys(host):  # S15
    parcel = Parcel(f"json://{host}:9/latest/meta-data", "title", "body", "failure", "ev-1", PATIENT_S)
    words = [sys.executable, "-I", "-m", "fleet.notices.send"]
    done = subprocess.run(
        words, check=False, input=msgspec.json.encode(parcel), capture_output=True, timeout=90
    )
    receipt = msgspec.json.decode(done.stdout, type=Receipt)
    assert not receipt.ok and "link-local" in receipt.says


def test_a_message_that_repeats_the_secret_is_masked_on_its_way(tmp_path, monkeypatch):  # S10
    with receiver() as hook:
        reference = _reference("env", tmp_path, monkeypatch, _url(hook.port))
        event = msgspec.structs.replace(
            an_event(), title="t canary-path-3", body=f"log (untrusted): posting to {_url(hook.port)}"
        )
        with Ledger.open(tmp_path / "state", write=True) as ledger:
            ledger.ticks.commit(a_tick(event, targets=(TargetSpec("hook", reference),)))
        deliver_due(tmp_path / "state", limit_s=PATIENT_S)
        assert hook.hits[0].json["title"] == "t ***"
        assert _found(hook.hits[0].body) == []


def test_the_sender_sees_little_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "canary-user-1")
    with receiver("drip") as hook:
        reference = _reference("file", tmp_path, monkeypatch, hook.url())
        with Ledger.open(tmp_path / "state", write=True) as ledger:
            ledger.ticks.commit(a_tick(an_event(), targets=(TargetSpec("hook", reference),)))
        pid = start_detached(tmp_path / "state", limit_s=PATIENT_S, stays_s=0)
        try:
            wait_until(lambda: hook.hits, 60, "the detached courier's request")
            (sender,) = children(pid)
            names = {pair.partition(b"=")[0] for pair in of(sender, "environ").split(b"\0") if pair}
            hook.release.set()
            wait_until(lambda: not lives(pid), 60, "the end of the courier")
        finally:
            _end(pid)
    assert b"PATH" in names
    assert not names & {b"SOME_TOKEN", b"HOME"}
