import signal
import subprocess

import pytest

from onbox.monitor.sink import Sink
from onbox.monitor.waits import for_child
from onbox.monitor.watch import Death, Watch, _whose


class Faulty:
    """A sampler with a fault in everything."""

    def zero(self, *_):
        return [b'{"kind":"metadata"}\n']

    def __getattr__(self, name):
        raise ZeroDivisionError(name)


def test_a_fault_of_the_sampler_is_remembered_and_the_end_is_known():
    watch = Watch(Faulty(), Sink(memory=True), 5, 5)
    process = subprocess.Popen(["sh", "-c", "sleep 0.2; exit 7"])
    watch.begin(process.pid, ["sh"], "sh", for_child(process.pid))
    while not watch.turn():
        pass
    told = []
    death = watch.finish(died=told.append)
    process.returncode = death.code
    assert (death.code, told) == (7, [death])
    assert len(watch.errors) == 4 and all("ZeroDivisionError" in error for error in watch.errors)
    assert watch.finish() == death  # an interrupt may ask again


@pytest.mark.parametrize(
    ("killed", "death", "whose"),
    [
        ("timeout", Death(exit_code=0), "timeout"),
        ("user", Death(signal=signal.SIGKILL), "user"),
        ("told", Death(exit_code=0), None),
        ("told", Death(exit_code=143), "user"),
        ("told", Death(signal=signal.SIGTERM), "user"),
        ("told", Death(signal=signal.SIGKILL), None),  # by somebody else, or for want of memory
        (None, Death(signal=signal.SIGTERM), None),
    ],
)
def test_whose_doing_an_end_was(killed, death, whose):
    assert _whose(killed, death) == whose


def test_a_death_is_told_as_subprocess_tells_it():
    assert (Death(exit_code=3).code, Death(signal=9).code, Death().code) == (3, -9, None)
