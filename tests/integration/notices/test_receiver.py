"""The receiver that the other tests trust: each mode does what its name says, and nothing is left of it."""

import http.client
import threading

import pytest
from receiver import MODES, receiver

ANSWERS = {
    "ok": 204,
    "slow": 204,
    "500": 500,
    "flaky": 500,
    "307": 307,
    "drip": 200,
    "wait": 429,
    "gone": 429,
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    before = threading.active_count()
    with receiver(mode) as hook:
        connection = http.client.HTTPConnection("127.0.0.1", hook.port, timeout=0.8)
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
        (hit,) = hook.hits
        assert (hit.path, hit.headers["X-Key"], hit.json, hook.events()) == (
            "/x",
            "k",
            {"event": "ev-1"},
            ["ev-1"],
        )
    assert threading.active_count() == before
    with receiver(port=hook.port):
        pass
