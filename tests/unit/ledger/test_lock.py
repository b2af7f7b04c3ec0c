"""One tick at a time, by a lock that the kernel frees however its holder ends."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from fleet.errors import Busy, LedgerError
from fleet.ledger.lock import kernel_lock, tick_lock

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom fleet.ledger.lock import tick_lock\n"
    "with tick_lock(Path(sys.argv[1]), at=1795000000.0):\n    print('held', flush=True)\n    time.sleep(50)\n"
)


@pytest.fixture
def holder(tmp_path):
    child = subprocess.Popen([sys.executable, "-I", "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_tick_is_told_who_and_since_when(tmp_path, holder):  # R91
    with pytest.raises(Busy) as caught, tick_lock(tmp_path, at=1.0):
        pass
    assert caught.value.what == f"another tick is at it: pid {holder.pid} since 2026-11-18T11:06:40+00:00"
    assert caught.value.exit_code == 75


def test_the_lock_of_a_killed_tick_is_free_at_once(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with tick_lock(tmp_path, at=1.0):
        assert (tmp_path / "tick.lock").read_text() == f"pid {os.getpid()} since 1970-01-01T00:00:01+00:00\n"
    assert stat.S_IMODE((tmp_path / "tick.lock").stat().st_mode) == 0o600


def test_a_lock_can_be_waited_for(tmp_path, holder):
    with pytest.raises(Busy), kernel_lock(tmp_path / "tick.lock", what="another tick", wait_s=0.1):
        pass
    holder.kill()
    with kernel_lock(tmp_path / "tick.lock", what="another tick", wait_s=45):
        pass


def test_children_do_not_inherit_the_lock(tmp_path):
    with tick_lock(tmp_path, at=1.0):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with tick_lock(tmp_path, at=2.0):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "tick.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot open the lock"), tick_lock(tmp_path, at=1.0):
        pass
    assert not (tmp_path / "elsewhere").exists()
