"""The 150 flowers, split and normalised: data/train.csv (120 rows) and data/test.csv (30 rows).

The same files come out of every run and every Python: the split is drawn from a fixed seed, and what
it is scaled by comes from the training rows alone. Standard library only, Python 3.8 or newer.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from pathlib import Path

from files import replace

SOURCE = Path(__file__).resolve().with_name("iris.csv")
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SEED = 1936
TEST_ROWS_PER_SPECIES = 10


def main() -> None:
    folder = arguments().folder
    rows = read(SOURCE)
    train, test = split(rows)
    scales = [scale([float(row[name]) for row in train]) for name in FEATURES]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("test", test)):
        target = folder / "data" / f"{name}.csv"
        replace(target, table(part, scales))
        print(f"{name}: {len(part)} rows in {target}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Split and normalise the iris measurements.")
    parser.add_argument("--folder", type=Path, default=Path(), help="where data/ is made (default: here)")
    return parser.parse_args()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="ascii", newline="") as lines:
        return list(csv.DictReader(lines))


def split(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Training and test rows, with the same number of each species held back."""
    train, test = [], []
    for species in sorted({row["species"] for row in rows}):
        own = [row for row in rows if row["species"] == species]
        random.Random(f"{SEED} {species}").shuffle(own)
        test += own[:TEST_ROWS_PER_SPECIES]
        train += own[TEST_ROWS_PER_SPECIES:]
    return train, test


def scale(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation. fsum, since plain sums differ between Python versions."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def table(rows: list[dict[str, str]], scales: list[tuple[float, float]]) -> str:
    lines = [",".join((*FEATURES, "species"))]
    for row in rows:
        scaled = [(float(row[name]) - mean) / deviation for name, (mean, deviation) in zip(FEATURES, scales)]
        lines.append(",".join([*(f"{value:.6f}" for value in scaled), row["species"]]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
