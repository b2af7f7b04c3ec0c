"""Fixtures of steering: programs with a loop in them, under every Python of this machine, asked as askers ask."""

import sys
from pathlib import Path

import pytest
import pythons

sys.path.insert(0, str(Path(__file__).parent))

from host_rig import desk, gpu, train  # noqa: F401 - fixtures
from loops import program  # noqa: F401 - a fixture

PYTHONS = pythons.found()


VERSIONS = sorted(PYTHONS, key=lambda version: tuple(map(int, version.split("."))))


@pytest.fixture(params=VERSIONS)
def any_python(request):
    """Every interpreter, one after the other."""
    return PYTHONS[request.param]


@pytest.fixture(params=sorted({VERSIONS[0], VERSIONS[-1]}))
def edge_python(request):
    """The oldest and the newest."""
    return PYTHONS[request.param]
