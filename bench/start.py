"""Start-up of `babysit --help` and `babysit status` as ratios to a bare interpreter, in one run.

Aims: --help at most 6 times, status off a terminal at most 9 times a bare interpreter.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 25
BABYSIT = str(Path(sys.executable).with_name("babysit"))
COMMANDS = {
    "bare": [sys.executable, "-I", "-c", "pass"],
    "--help": [BABYSIT, "--help"],
    "status": [BABYSIT, "status"],
}
AIMS = {"--help": 6.0, "status": 9.0}


def main() -> None:
    """Print the median, fastest and slowest of each, and the ratio of the medians."""
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        env = {"HOME": home, "PATH": os.environ["PATH"]}
        for _ in range(ROUNDS):
            for name, command in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run(command, env=env, cwd=home, capture_output=True, check=True)
                took[name].append(time.perf_counter() - began)
    bare = statistics.median(took["bare"])
    for name, times in took.items():
        middle = statistics.median(times)
        aim = f", aim {AIMS[name]:g}" if name in AIMS else ""
        spread = f"(min {min(times) * 1000:.1f}, max {max(times) * 1000:.1f})"
        print(f"{name:8} median {middle * 1000:6.1f} ms  {spread}  {middle / bare:.1f} x bare{aim}")


if __name__ == "__main__":
    main()
