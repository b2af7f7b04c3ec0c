"""What outlives its chain is found, whatever it did to hide; nothing starts beside it, and `stop` ends it."""

import contextlib
from pathlib import Path

import pytest
from laptop import SOON_S, end_all
from processes import lives
from waiting import wait_until

_WORK = """
import os, sys, time
{first}
with open(os.path.join(sys.argv[1], "workers"), "a") as account:
    account.write(f"{{os.getpid()}}\\n")
while not os.path.exists(os.path.join(sys.argv[1], "go")):
    time.sleep(0.1)
"""
_BY_SUBPROCESS = """
import subprocess, sys
subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True).wait()
"""

# How a stage starts its worker, each hiding from another witness: (the stage's line, what the worker does first).
WORKERS = {
    "python-subprocess": ("python3 $W/starter.py $W/worker.py $W", ""),
    "setsid": ("setsid -w python3 $W/worker.py $W", ""),
    "descriptors-closed": ("setsid -w python3 $W/worker.py $W", "os.closerange(0, 64)"),
    "environment-wiped": ("P=$(command -v python3); exec setsid -w env -i $P $W/worker.py $W", ""),
}


def _workers(job):
    file = job.folder / "workers"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def _on_the_host(job, inner):
    """The worker's pid as this machine counts; inside the box it is `inner`."""
    for pid in job.box.pids():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if f"\nNSpid:\t{pid}\t{inner}\n" in status:
                return pid
    raise AssertionError(f"the worker {inner} is not on the box")


def _kill_all_but(job, worker):
    """The chain by -9 first, so that nobody writes its end; then its stage and whatever stands around it."""
    job.box.run(f"kill -9 {job.record('attempt')['pid']}")

    def alone():
        others = {pid: line for pid, line in job.box.processes().items() if pid != worker}
        end_all(pid for pid, line in others.items() if not line.startswith("sshd"))
        return not others

    wait_until(alone, SOON_S, "only the worker lives")
    assert lives(worker)


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_that_outlives_its_chain_is_seen_guarded_and_ended(laptop, job, kind):  # P1 R16 R89
    line, first = WORKERS[kind]
    (job.folder / "worker.py").write_text(_WORK.format(first=first))
    (job.folder / "starter.py").write_text(_BY_SUBPROCESS)
    command = job.command(f"echo up; {line}")
    assert laptop.run("arm", "gpu1", "train", "--", command).returncode == 0
    wait_until(lambda: _workers(job), SOON_S, "the worker is up")
    inner = _workers(job)[0]
    worker = _on_the_host(job, inner)
    _kill_all_but(job, worker)

    patrol = laptop.run("patrol", "--once")
    assert patrol.returncode == 10 and "ORPHANED" in patrol.stdout, patrol.said
    assert f"pid {inner}" in patrol.stdout and "babysit stop gpu1 train" in patrol.stdout
    starts = (("resume", "train", "--yes"), ("arm", "gpu1", "train", "--", command))
    for child in [laptop.start(*words) for words in starts]:
        said = "".join(child.communicate(timeout=2 * SOON_S))
        assert child.returncode in {0, 10}, (
            said
        )  # one may see the lock that the other's start holds for a moment
    for words in starts:
        refused = laptop.run(*words)
        assert refused.returncode == 10 and "nothing was started" in refused.said, refused.said
        assert f"pid {inner}" in refused.said and "next: babysit stop gpu1 train" in refused.said
    assert job.launches() == 1 and _workers(job) == [inner] and lives(worker)
    assert not job.record("end")

    stopped = laptop.run("stop", "train", "--yes")
    assert stopped.returncode == 0 and str(inner) in stopped.stdout, stopped.said
    assert not lives(worker)
    assert job.record("end")["state"] == "stopped"
    again = laptop.run("resume", "train", "--yes")
    assert again.returncode == 0, again.said
    wait_until(lambda: len(_workers(job)) == 2, SOON_S, "the worker of attempt 2")
    assert job.launches() == 2 and job.record("attempt")["attempt"] == "2"
