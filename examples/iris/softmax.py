"""Softmax regression: which of the species a flower is, from its scaled measurements.

Sums go through fsum, which gives the same number in every Python version.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

SPECIES = ("setosa", "versicolor", "virginica")
LEARNING_RATE = 0.05


class Row(NamedTuple):
    """One flower: its scaled measurements and which of SPECIES it is."""

    measured: list[float]
    species: int


def read(path: Path) -> list[Row]:
    """The rows of one prepared file, in its order."""
    with path.open(encoding="ascii", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        return [Row([float(cell) for cell in row[:-1]], SPECIES.index(row[-1])) for row in rows]


def untrained(features: int) -> list[list[float]]:
    """One line of weights a species, its bias last, all zero."""
    return [[0.0] * (features + 1) for _ in SPECIES]


def chances(weights: list[list[float]], measured: list[float]) -> list[float]:
    """How likely each species is; they add up to 1."""
    scores = [math.fsum([*(w * x for w, x in zip(line, measured)), line[-1]]) for line in weights]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def step(weights: list[list[float]], row: Row) -> None:
    """Move the weights a little towards the right answer for one row."""
    for index, chance in enumerate(chances(weights, row.measured)):
        push = LEARNING_RATE * ((index == row.species) - chance)
        line = weights[index]
        for at, value in enumerate(row.measured):
            line[at] += push * value
        line[-1] += push


def judge(weights: list[list[float]], rows: list[Row]) -> tuple[float, float]:
    """Mean loss (cross-entropy) and share of right answers over `rows`."""
    told = [(chances(weights, row.measured), row.species) for row in rows]
    loss = -math.fsum(math.log(max(found[species], 1e-300)) for found, species in told) / len(rows)
    right = sum(found.index(max(found)) == species for found, species in told)
    return loss, right / len(rows)
