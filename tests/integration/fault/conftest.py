"""A box that all points of one file share."""

import os
import sys
from pathlib import Path

import pytest
from box import Box

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "night")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One box for a whole file: each point has a run name of its own, or an attempt of its own."""
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
