"""The receiver that the other tests trust: each mode does what its name says, and nothing is left of it."""

import http.client
import threading

import pytest
from receiver import MODES, receiver
from sshd import free_port
from waiting import wait_until

ANSWERS = {
    "ok": 204,
    "slow": 204,
    "held": 204,
    "500": 500,
    "flaky": 500,
    "307": 307,
    "drip": 200,
    "wait": 429,
    "gone": 429,
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    before = set(threading.enumerate())
    with receiver(mode, free_port()) as hook:
        if mode == "held":
            hook.release.set()
        # Only from who never answers one has to turn away.
        patience_s = 0.8 if mode == "hang" else 60
        connection = http.client.HTTPConnection("127.0.0.1", hook.port, timeout=patience_s)
        connection.request("POST", "/x", b'{"event": "ev-1"}', {"X-Key": "k"})
        if mode in ANSWERS:
            answer = connection.getresponse()
            assert answer.status == ANSWERS[mode]
            assert answer.read(2) == (b".." if mode == "drip" else b"")
            answer.close()
        else:
            with pytest.raises((ConnectionResetError, TimeoutError)):
                connection.getresponse()
        connection.close()
        wait_until(lambda: hook.hits, 60, "the request has come")
        (hit,) = hook.hits
        assert (hit.path, hit.headers["X-Key"], hit.json, hook.events()) == (
            "/x",
            "k",
            {"event": "ev-1"},
            ["ev-1"],
        )
    wait_until(lambda: set(threading.enumerate()) <= before, 60, "no thread is left")
    with receiver(port=hook.port):
        pass
