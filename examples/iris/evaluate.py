"""The result: how well the checkpoint knows the 30 flowers it never saw, in results.csv and on the screen.

Standard library only, Python 3.8 or newer.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import softmax
from files import replace


def main() -> None:
    folder = arguments().folder
    checkpoint = folder / "checkpoint.json"
    if not checkpoint.exists():
        sys.exit(f"{checkpoint} is not there: train first")
    kept = json.loads(checkpoint.read_text(encoding="ascii"))
    rows = softmax.read(folder / "data" / "test.csv")
    text = table(kept["epoch"], kept["weights"], rows)
    replace(folder / "results.csv", text)
    print(text, end="", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Evaluate checkpoint.json on data/test.csv.")
    parser.add_argument("--folder", type=Path, default=Path(), help="the work folder (default: here)")
    return parser.parse_args()


def table(epochs: int, weights: list[list[float]], rows: list[softmax.Row]) -> str:
    loss, share = softmax.judge(weights, rows)
    lines = ["metric,value", f"epochs,{epochs}", f"test_rows,{len(rows)}"]
    lines += [f"test_accuracy,{share:.4f}", f"test_loss,{loss:.6f}"]
    for index, species in enumerate(softmax.SPECIES):
        _, found = softmax.judge(weights, [row for row in rows if row.species == index])
        lines.append(f"recall_{species},{found:.4f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
