"""The command on the box: what ends it is never lost, wherever Python stands when it comes."""

import subprocess
import sys
from pathlib import Path

import pytest

# The interpreter calls back for its import locks like this; no exception can leave such a call.
LOST = """
import signal, time, weakref
from onbox.ipc.around import Ended, listen_to_signals

listen_to_signals({})
class Here: pass
here = Here()
mark = weakref.ref(here, lambda _: (signal.raise_signal(NUMBER), None))
try:
    del here
    time.sleep(20)
    print("lost")
except Ended as ended:
    print(ended.number)
"""


@pytest.mark.parametrize("number", [1, 2, 15])
def test_a_signal_that_python_cannot_raise_where_it_came_is_not_lost(number):
    done = subprocess.run(
        [sys.executable, "-c", LOST.replace("NUMBER", str(number))],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{number}\n", "")
