"""A file that is either its old self or its new self, whenever we are killed."""

from __future__ import annotations

import os
from pathlib import Path


def replace(target: Path, text: str) -> None:
    """Put `text` into `target` in one step: written beside it, on the disk, then renamed over it."""
    fresh = target.with_name(target.name + ".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
