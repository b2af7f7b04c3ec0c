"""`tail` and `notify` over a real ssh: cut and back, to the loop's end, told to the user's targets, nothing left behind."""

import contextlib
import json
import os
import re
import signal
import threading

import pytest
from host_rig import Laptop, Loop, answer_fifos, askers, rows
from receiver import receiver
from waiting import wait_until

pytestmark = pytest.mark.timeout(400)


class Watching:
    """A `babysit` under way: what it has printed so far."""

    def __init__(self, desk, *words):
        self.child = Laptop.start(desk, "ipc", "gpu1", *words)
        self.out, self.err = [], []
        self._readers = [
            threading.Thread(target=lambda pipe=pipe, to=to: to.extend(pipe), daemon=True)
            for pipe, to in ((self.child.stdout, self.out), (self.child.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def shows(self, text, count=1):
        wait_until(lambda: sum(text in line for line in self.out) >= count, 60, f"{text!r} in {self}")

    def says(self, text):
        wait_until(lambda: any(text in line for line in self.err), 60, f"{text!r} in {self}")

    def over(self):
        code = self.child.wait(60)
        for reader in self._readers:
            reader.join(60)
        self.child.communicate()
        return code

    def __str__(self):
        return f"{self.out[-20:]} {self.err}"


def _nothing_is_left(gpu):
    wait_until(lambda: not askers(gpu), 60, "the box to be quiet")
    assert not answer_fifos(gpu)


def test_a_tail_goes_on_over_a_cut_and_ends_with_the_loop(gpu, desk):  # R20
    loop = Loop(gpu, "tailed", 100_000)
    try:
        before = gpu.traffic()
        tail = Watching(desk, "tail", "tailed", "--interval", "0.5")
        tail.shows("tailed (pid", 2)
        assert gpu.traffic().connections - before.connections == 1
        gpu.drop_sshd()
        try:
            for pid in gpu.session_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            tail.says("was lost at ")
        finally:
            gpu.raise_sshd()
        tail.says("is back after ")
        seen = len(tail.out)
        wait_until(lambda: len(tail.out) > seen, 60, "another look")
        assert desk.run("ipc", "gpu1", "continue", "tailed", "--yes").returncode == 0
        assert tail.over() == 0, tail
        assert "its end record says: continued after iteration" in tail.out[-1] + tail.out[-2], tail
    finally:
        loop.end()
    said = next(line for line in tail.err if "is back" in line)
    assert re.search(r"link to gpu1 is back after \d+ s", said)
    _nothing_is_left(gpu)


def test_a_time_that_was_given_ends_while_the_link_is_lost_too(gpu, train, desk):  # R20
    watch = Watching(desk, "tail", "train", "--for", "4s", "--interval", "0.5")
    watch.shows("iter ")
    gpu.drop_sshd()
    try:
        for pid in gpu.session_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert watch.over() == 124, watch
    finally:
        gpu.raise_sshd()
    _nothing_is_left(gpu)
    assert train.lives()


def test_a_loop_that_was_killed_is_told_by_the_exit_code(gpu, desk):
    loop = Loop(gpu, "killed")
    tail = Watching(desk, "tail", "killed", "--interval", "0.5", "--json")
    tail.shows('"untrusted_label": "killed"')
    loop.end()
    assert tail.over() == 23, tail
    assert (
        json.loads(tail.out[-1])["ended"] is True and "killed" in json.loads(tail.out[-1])["untrusted_says"]
    )


def test_a_tail_for_a_while_leaves_the_loop_and_says_that_it_goes_on(train, desk):
    """And a yes is taken by every verb that acts: who scripts them types it everywhere."""
    assert desk.run("ipc", "gpu1", "pause", "--yes").returncode == 0
    assert desk.run("ipc", "gpu1", "resume", "--yes").returncode == 0
    left = desk.run("ipc", "gpu1", "tail", "--for", "2s", "--interval", "0.5s")
    assert left.returncode == 124, left.said
    assert "it goes on" in left.said and "iter " in left.said
    assert desk.run("ipc", "gpu1", "peek", "--for", "2s").returncode == 2


@pytest.mark.parametrize("words", [("tail", "train"), ("notify", "train", "loss < -1")])
def test_ctrl_c_leaves_the_loop_running_and_nothing_on_the_box(gpu, train, desk, words):
    watch = Watching(desk, *words)
    wait_until(lambda: askers(gpu), 60, "a question on the box")
    watch.child.send_signal(signal.SIGINT)
    assert watch.over() == 130, watch
    assert "the loop goes on" in "".join(watch.err) and "Traceback" not in "".join(watch.err)
    _nothing_is_left(gpu)
    assert train.lives()


def test_a_condition_that_holds_reaches_the_users_own_targets(train, desk):  # R155 S30
    with receiver() as hook:
        secret = desk.home / "hook"
        secret.write_text(hook.url())
        secret.chmod(0o600)
        desk.spec(f"""
            [box.gpu1]
            host = "gpu1"
            [notify.me]
            url = "file:{secret}"
            on = ["page"]
        """)
        met = desk.run("ipc", "gpu1", "notify", "loss < 2 and iteration > 1", "--json")
        assert met.returncode == 0 and met.json["targets_told"] == 1, met.said
        wait_until(lambda: hook.hits, 60, "the notice")
        body = hook.hits[0].json
        assert (
            "loss < 2 and iteration > 1" in body["title"]
            and "loop (untrusted): condition met" in body["message"]
        )
        assert rows(desk, "SELECT kind FROM event") == [("met",)]
        over = desk.run("ipc", "gpu1", "notify", "loss < -1", "--for", "1s")
        assert over.returncode == 124 and "not met in" in over.said, over.said
        bad = desk.run("ipc", "gpu1", "notify", "loss.__class__")
        assert bad.returncode == 2, bad.said
        assert len(rows(desk, "SELECT 1 FROM event")) == 1
