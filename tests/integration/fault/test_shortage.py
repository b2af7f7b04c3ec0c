"""This machine runs short of something: the answer is a documented code in words, and the next call works."""

import subprocess

import pytest
from laptop import BABYSIT, Job, Laptop
from worlds import CODES, has_said

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def watched(shared, tmp_path):
    laptop = Laptop(tmp_path / "laptop", (shared,))
    job = Job(shared, "short", "short")
    assert laptop.run("arm", "gpu1", "short", "--", job.waiting()).returncode == 0
    has_said(job)
    yield laptop, job
    laptop.close()
    job.release()


def _by_sh(laptop, line):
    words = ["/bin/sh", "-c", line, "sh", BABYSIT]
    return subprocess.run(
        words, env=laptop.env, cwd=laptop.home, capture_output=True, text=True, timeout=90, check=False
    )


def test_a_tick_with_hardly_any_descriptors_says_so_and_leaves_no_lock(watched):  # P2 P5 P8
    laptop, _ = watched
    ended = {count: _by_sh(laptop, f'ulimit -n {count}; exec "$1" patrol --once') for count in (6, 9, 11, 13)}
    for count, tick in ended.items():
        said = tick.stdout + tick.stderr
        assert tick.returncode in CODES, f"{count} descriptors: exit {tick.returncode}: {said}"
        assert "Traceback" not in said, f"{count} descriptors: {said}"
        assert "finished" not in said, f"{count} descriptors: {said}"
    print({count: tick.returncode for count, tick in ended.items()})
    assert laptop.health("short") == "running"


@pytest.mark.parametrize(
    "call", ["status >/dev/full", "status >/dev/full 2>&1", "patrol --once --json >/dev/full"]
)
def test_output_that_a_full_disk_does_not_take_has_a_code_of_ours(tmp_path, call):  # P5
    laptop = Laptop(tmp_path / "laptop", ())
    done = _by_sh(laptop, f'"$1" {call}')
    assert done.returncode == 2, done
    if "2>" not in call:
        assert "No space left on device" in done.stderr and "next: " in done.stderr
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_no_bug_of_ours_and_no_file_takes_its_place(tmp_path, closed):  # P5
    laptop = Laptop(tmp_path / "laptop", ())
    done = _by_sh(laptop, f'"$1" patrol --once {closed}; code=$?; "$1" status || exit; exit $code')
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
