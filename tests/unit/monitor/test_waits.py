import os
import signal
import subprocess
import time

import pytest
from waiting import wait_until

from onbox.monitor.waits import Wait, child_ended, for_child, for_stranger, stat_words, stranger_ended


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def test_a_child_has_ended_when_it_waits_to_be_collected_and_when_somebody_has(sleeper):
    ended = child_ended(sleeper.pid)
    assert not ended()
    sleeper.kill()
    wait_until(ended, 45, "its end")
    assert stat_words(sleeper.pid)[0] == "Z"
    sleeper.wait()
    assert ended()


def test_a_stranger_has_ended_as_a_zombie_when_gone_and_when_its_number_is_anothers(sleeper):
    start = int(stat_words(sleeper.pid)[19])
    ended = stranger_ended(sleeper.pid, start)
    assert not ended() and stranger_ended(sleeper.pid, start - 1)()
    sleeper.kill()
    wait_until(ended, 45, "its end")
    assert stat_words(sleeper.pid)[0] == "Z"
    sleeper.wait()
    assert stat_words(sleeper.pid) == [] and ended()


def test_looking_again_and_again_ends_with_the_process_or_at_its_moment(sleeper):
    wait = Wait(stranger_ended(sleeper.pid, None))
    assert not wait.until(time.monotonic() + 0.03)
    sleeper.kill()
    assert wait.until(time.monotonic() + 20)
    sleeper.wait()
    assert wait.until(time.monotonic() + 20)


@pytest.mark.parametrize("waiting", [for_child, for_stranger])
def test_a_moment_may_be_further_than_the_kernel_counts(sleeper, waiting):
    wait = waiting(sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    wait_until(lambda: wait.until(time.monotonic() + 1e12), 45, "its end")
    wait.close()
    assert os.waitpid(sleeper.pid, 0)[1] == signal.SIGKILL
    sleeper.returncode = -9
