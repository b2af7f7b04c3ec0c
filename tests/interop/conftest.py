"""The tier with the real peers: their interpreter is there, or it is said how to get it."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import peers


@pytest.fixture(scope="session", autouse=True)
def _peers():
    if not Path(peers.PYTHON).exists():
        reason = f"no real peers at {peers.PYTHON}; next: make interop"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def folder(tmp_path):
    """A folder of steering of its own; every program in it ends with the test."""
    found = peers.Folder(tmp_path)
    yield found
    found.close()
