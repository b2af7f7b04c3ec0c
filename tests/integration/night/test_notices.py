"""Notices: told once, with one event id, whatever dies in between; no receiver holds a tick up; no secret shows."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from laptop import SOON_S, end_all
from processes import of, pids
from receiver import receiver
from waiting import wait_until

SECRET = "canary-hook-7781"
SPEC = """
[notify.phone]
url = "env:PHONE_URL"
"""
TICK = ("patrol", "--once", "--json")


def _url(hook):
    return hook.url(f"/{SECRET}")


@pytest.fixture
def phone(night):
    """A laptop with a receiver's name in its babysit.toml, and the address only in its environment."""
    laptop, job = night
    laptop.spec(SPEC)
    return laptop, job


def _failed(laptop, job, url=None):
    """A run that has failed, and no tick has seen it yet."""
    env = {"PHONE_URL": url} if url else {}
    assert laptop.run("arm", "gpu1", job.run, "--", job.waiting("exit 3"), **env).returncode == 0
    job.up()
    job.release()
    job.ended()


def _outbox(laptop):
    """Every row on its way, as the ledger's file has it: (event id, state, tries)."""
    with sqlite3.connect(f"file:{laptop.state}/ledger.db?mode=ro", uri=True, timeout=SOON_S) as ledger:
        found = ledger.execute("SELECT event_id, state, tries FROM outbox ORDER BY event_id").fetchall()
    ledger.close()
    return found


def _due_now(laptop):
    """Let the back-off be over: what a tick half an hour later would find."""
    with sqlite3.connect(laptop.state / "ledger.db", timeout=SOON_S) as ledger:
        ledger.execute("UPDATE outbox SET due_at = 0 WHERE state = 'due'")
    ledger.close()


def test_a_failed_run_is_told_once_with_its_title_and_event_id(phone):  # P3
    laptop, job = phone
    with receiver() as hook:
        _failed(laptop, job, _url(hook))
        assert laptop.run(*TICK, PHONE_URL=_url(hook)).returncode == 20
        wait_until(lambda: hook.hits, SOON_S, "the notice")
        assert laptop.run(*TICK, PHONE_URL=_url(hook)).returncode == 20
        wait_until(lambda: _outbox(laptop)[0][1] == "sent", SOON_S, "that it went is written down")
        wait_until(lambda: not laptop.couriers(), SOON_S, "the courier leaves")
        (hit,) = hook.hits
    (row,) = _outbox(laptop)
    assert hit.path == f"/{SECRET}"
    assert hit.json["title"].startswith(f"{job.run} on gpu1: FAILED (") and "status 3" in hit.json["title"]
    assert hit.json["event"] == row[0] and row[1] == "sent"
    assert f"next: babysit logs gpu1 {job.run}" in hit.json["message"] and row[0] in hit.json["message"]


def test_a_tick_killed_between_commit_and_courier_is_made_good_by_the_next(phone):  # P3 P4
    laptop, job = phone
    with receiver() as hook:
        _failed(laptop, job)
        dead = _tick_killed_after_its_commit(laptop, _url(hook))
        assert dead == -signal.SIGKILL
        ((event, state, tries),) = _outbox(laptop)
        assert (state, tries) == ("due", 0) and not hook.hits and not laptop.couriers()
        assert laptop.run(*TICK, PHONE_URL=_url(hook)).returncode == 20
        wait_until(lambda: hook.hits, SOON_S, "the notice")
        laptop.run(*TICK, PHONE_URL=_url(hook))
        wait_until(lambda: not laptop.couriers(), SOON_S, "the courier leaves")
        assert hook.events() == [event]


# The tick as it is, in a process that dies the moment it asks for what comes next: the import of the courier.
_DRIVER = """
import os, signal, sys
class Dies:
    def find_spec(self, name, path=None, target=None):
        if name == "fleet.notices.courier":
            os.kill(os.getpid(), signal.SIGKILL)
sys.meta_path.insert(0, Dies())
sys.argv = ["babysit", "patrol", "--once"]
from babysit.entry import main
main()
"""


def _tick_killed_after_its_commit(laptop, url):
    words = [sys.executable, "-c", _DRIVER]
    env = {**laptop.env, "PHONE_URL": url}
    return subprocess.run(
        words, env=env, cwd=laptop.home, capture_output=True, timeout=150, check=False
    ).returncode


def test_a_receiver_that_is_down_gets_it_later_with_the_same_event_id(phone):  # P3 P4
    laptop, job = phone
    with receiver("500") as hook:
        _failed(laptop, job, _url(hook))
        tick = laptop.run(*TICK, PHONE_URL=_url(hook))
        wait_until(lambda: hook.hits, SOON_S, "the first try")
        # A try counts when it begins; that it failed is written down when it is over.
        wait_until(
            lambda: "not delivered to phone" in laptop.run("status", PHONE_URL=_url(hook)).stdout,
            SOON_S,
            "the try is written down as failed",
        )
        assert _outbox(laptop)[0][1:] == ("due", 1)
        hook.mode = "ok"
        end_all(laptop.couriers())
        _due_now(laptop)
        assert laptop.run(*TICK, PHONE_URL=_url(hook)).returncode == tick.returncode == 20
        wait_until(lambda: _outbox(laptop)[0][1] == "sent", SOON_S, "delivered")
        assert len(hook.hits) == 2 and len(set(hook.events())) == 1


def _timed_tick(laptop, url):
    began = time.monotonic()
    return laptop.run(*TICK, PHONE_URL=url), time.monotonic() - began


def test_a_dripping_receiver_delays_no_tick_and_the_secret_is_nowhere(phone):  # P5 S7 S8 S10
    laptop, job = phone
    with receiver("drip") as hook:
        _failed(laptop, job, _url(hook))
        first, news_s = _timed_tick(laptop, _url(hook))
        wait_until(lambda: hook.hits, SOON_S, "the notice")
        second, quiet_s = _timed_tick(laptop, _url(hook))
        # Both ticks are over, and the receiver still drips into the first notice's answer.
        assert (first.returncode, second.returncode) == (20, 20)
        assert len(hook.hits) == 1 and laptop.couriers()
        assert _outbox(laptop)[0][1:] == ("due", 1)
        print(f"\nthe tick that told it took {news_s:.1f} s, one without news {quiet_s:.1f} s")
        every = [of(pid, "cmdline") for pid in pids()]
        assert not [line for line in every if SECRET.encode() in line]
        said = first.said + second.said + laptop.run("status").said + laptop.run("handbook", job.run).said
        assert SECRET not in said
    for path in [*laptop.state.rglob("*"), *job.run_folder().rglob("*")]:
        with suppress(FileNotFoundError, IsADirectoryError):  # the courier's own come and go
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_reference_that_leads_nowhere_is_said_and_no_tick_fails_of_it(phone):  # S8
    laptop, job = phone
    _failed(laptop, job)
    assert laptop.run(*TICK).returncode == 20
    wait_until(
        lambda: _outbox(laptop)[0][2] == 1 and _outbox(laptop)[0][1] == "due", SOON_S, "a try was made"
    )
    wait_until(lambda: "PHONE_URL" in laptop.run("status").stdout, SOON_S, "what is missing is named")
    tick = laptop.run(*TICK)
    assert tick.returncode == 20
    assert [error["code"] for error in tick.json["errors"]] == ["BS-DELIVERY"]
