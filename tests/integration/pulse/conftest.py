"""Programs that say how far they are, under the oldest and the newest Python of this machine."""

import sys
from pathlib import Path

import pytest
import pythons

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "steering"))

from loops import program  # noqa: F401 - a fixture

_FOUND = pythons.found()
_VERSIONS = sorted(_FOUND, key=lambda version: tuple(map(int, version.split("."))))


_NEWEST = _VERSIONS[-1]
_OLDEST = {_VERSIONS[0]} - {_NEWEST}


@pytest.fixture(params=[_NEWEST, *(pytest.param(version, marks=pytest.mark.fault) for version in _OLDEST)])
def python(request):
    """The newest; in the long sweep the oldest too."""
    return _FOUND[request.param]


@pytest.fixture(params=[_NEWEST, *_OLDEST])
def each_python(request):
    """The newest and the oldest: where threads, forks and streams of Python itself matter."""
    return _FOUND[request.param]
