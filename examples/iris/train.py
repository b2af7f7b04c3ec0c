"""The training: one line and one checkpoint an epoch; killed at any moment, it goes on from the checkpoint.

Each epoch draws its order from its own seed, so that a run that was killed and resumed ends with the
same bytes as one that was not. Standard library only, Python 3.8 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import softmax
from files import replace

SEED = 1936


def main() -> None:
    wanted = arguments()
    count_launch(wanted.folder / "launches.log")
    source = wanted.folder / "data" / "train.csv"
    rows = softmax.read(source)
    trained_on = hashlib.sha256(source.read_bytes()).hexdigest()
    checkpoint = wanted.folder / "checkpoint.json"
    epoch, weights = 0, softmax.untrained(len(rows[0][0]))
    if checkpoint.exists():
        kept = load(checkpoint, trained_on)
        epoch, weights = kept["epoch"], kept["weights"]
        print(f"resumed from epoch {epoch}", flush=True)
    while epoch < wanted.epochs:
        began = time.monotonic()
        epoch += 1
        order = list(rows)
        random.Random(SEED * 1_000_003 + epoch).shuffle(order)
        for row in order:
            softmax.step(weights, row)
        loss, share = softmax.judge(weights, rows)
        time.sleep(max(0.0, wanted.epoch_seconds - (time.monotonic() - began)))
        replace(checkpoint, json.dumps({"epoch": epoch, "trained_on": trained_on, "weights": weights}))
        print(f"Epoch {epoch}/{wanted.epochs} - loss: {loss:.4f} - acc: {share:.4f}", flush=True)
    print(f"trained: {epoch} epochs in {checkpoint}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on data/train.csv, or go on with the training.")
    parser.add_argument("--folder", type=Path, default=Path(), help="the work folder (default: here)")
    parser.add_argument("--epochs", type=int, default=90, help="how many in all (default: 90)")
    parser.add_argument("--epoch-seconds", type=float, default=0.0, help="least time an epoch takes, seconds")
    return parser.parse_args()


def count_launch(path: Path) -> None:
    """Append one line a start, `pid time`: an account of launches kept by nobody but the job itself."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, f"{os.getpid()} {time.time():.3f}\n".encode("ascii"))
    finally:
        os.close(log)


def load(path: Path, trained_on: str) -> dict[str, Any]:
    """The checkpoint; ends the program where it cannot be gone on from."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
        same = kept["trained_on"] == trained_on
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is no checkpoint of ours ({error}); move it away to train from the start")
    if not same:
        sys.exit(f"{path} was trained on other rows than data/train.csv has; move it away to start anew")
    return kept


if __name__ == "__main__":
    main()
