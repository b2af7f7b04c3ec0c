"""Fixtures of the night: a box, a laptop that knows it, and a job with its own account."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from laptop import Job, Laptop


@pytest.fixture
def laptop(tmp_path, box):
    return Laptop(tmp_path / "laptop", (box,))


@pytest.fixture
def job(box):
    return Job(box)
