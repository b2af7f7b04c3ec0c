"""Runs for the chain's proof; all they started ends with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.chain.rig import Rig


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """`make_run(**options and stages of Rig)`."""
    rigs: list[Rig] = []

    def make(**options: Any) -> Rig:
        rigs.append(Rig(options.pop("home", tmp_path), **options))
        return rigs[-1]

    try:
        yield make
    finally:
        for rig in rigs:
            rig.end()
