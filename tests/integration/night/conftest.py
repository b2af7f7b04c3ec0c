"""Fixtures of the night: a box, a laptop that knows it, and a job with its own account."""

import itertools
import os
import sys
from pathlib import Path

import pytest
from box import Box

sys.path.insert(0, str(Path(__file__).parent))

from laptop import Job, Laptop

_numbers = itertools.count(1)


@pytest.fixture
def laptop(tmp_path, box):
    laptop = Laptop(tmp_path / "laptop", (box,))
    yield laptop
    laptop.close()


@pytest.fixture
def job(box):
    return Job(box)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One box for a whole file, where the cases do not disturb each other: each has a run name of its own."""
    reason = Box.available()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    box = Box.start(tmp_path_factory.mktemp("shared") / "box")
    try:
        yield box
    finally:
        box.stop()


@pytest.fixture
def night(tmp_path, shared):
    """A new laptop and a new job on the shared box; the job's run name is `job.run`."""
    number = next(_numbers)
    job = Job(shared, f"job{number}", run=f"run{number}")
    laptop = Laptop(tmp_path / "laptop", (shared,))
    yield laptop, job
    laptop.close()
    job.release()
