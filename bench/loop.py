"""What one turn of a loop costs: range, tqdm, the real loopmonitor and ours, each in a process of its own.

Aims, of CPU time with all threads (a busy machine spoils the clock on the wall): ours at most 0.65 times tqdm
by default, at most 2.5 times with two numbers tracked, and no dearer for a long list than for a short one.
The peers come by `make interop`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("BABYSIT_INTEROP_PYTHON") or str(ROOT / ".venv-interop/bin/python")
ROUNDS = 7

# What is imported, how the steps come, what is done with each, and how many turns take long enough.
RANGE, TQDM = "range(N)", "tqdm(range(N))"
THEIRS, OURS = "from loopmonitor import ipc_range", "from onbox import ipc_range"
NUMBERS = "step.track(loss=0.5, count=3)"
LIST = "step.track(values=values)"
CASES = {
    "range": ("", RANGE, "pass", 800_000),
    "tqdm": ("from tqdm import tqdm", TQDM, "pass", 1_000_000),
    "loopmonitor": (THEIRS, "ipc_range(N)", "pass", 1_000),
    "loopmonitor, state_every=500": (THEIRS, "ipc_range(N, state_every=500)", "pass", 100_000),
    "loopmonitor, two numbers": (THEIRS, "ipc_range(N)", NUMBERS, 1_000),
    "loopmonitor, list of 10k": (THEIRS, "ipc_range(N)", LIST + "; values=[0.5] * 10_000", 20),
    "ours": (OURS, "ipc_range(N)", "pass", 800_000),
    "ours, two numbers": (OURS, "ipc_range(N)", NUMBERS, 800_000),
    "ours, list of 10": (OURS, "ipc_range(N)", LIST + "; values=[0.5] * 10", 800_000),
    "ours, list of 10k": (OURS, "ipc_range(N)", LIST + "; values=[0.5] * 10_000", 800_000),
    "ours, list of 100k": (OURS, "ipc_range(N)", LIST + "; values=[0.5] * 100_000", 800_000),
}
AIMS = {("ours", "tqdm"): 0.65, ("ours, two numbers", "tqdm"): 2.5}
AIMS |= {(f"ours, list of {length}", "ours, list of 10"): 1.2 for length in ("10k", "100k")}

SCRIPT = """
import time
{imports}
def turns(N):
    {setup}
    began, cpu = time.perf_counter_ns(), time.process_time_ns()
    for step in {steps}:
        {body}
    return (time.process_time_ns() - cpu) / N, (time.perf_counter_ns() - began) / N
print(*turns({count}))
"""


class Cost(NamedTuple):
    """Of one turn, in ns."""

    cpu: float
    wall: float


def main() -> None:
    """Print the medians, and the ratios of CPU time beside their aims."""
    if not Path(PYTHON).exists():
        sys.exit(f"no real peers at {PYTHON}\nnext: make interop")
    took: dict[str, list[Cost]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(ROUNDS):
            for name in CASES:
                took[name].append(_turn(name, home))
    load = os.getloadavg()[0]
    print(f"ns a turn, medians of {ROUNDS} rounds in turn; load {load:.1f} on {os.cpu_count()} cores")
    print(f"{'':29} {'CPU':>12} {'x tqdm':>10}  {'wall':>12} {'x tqdm':>10}")
    tqdm = _middle(took["tqdm"])
    for name, costs in took.items():
        cpu, wall = _middle(costs)
        print(f"{name:29} {cpu:12,.0f} {cpu / tqdm.cpu:10.2f}  {wall:12,.0f} {wall / tqdm.wall:10.2f}")
    for (name, other), aim in AIMS.items():
        ratio = statistics.median(
            mine.cpu / its.cpu for mine, its in zip(took[name], took[other], strict=True)
        )
        print(f"{name}: {ratio:.2f} x {other}, aim {aim:g}: {'met' if ratio <= aim else 'MISSED'}")


def _middle(costs: list[Cost]) -> Cost:
    cpus, walls = zip(*costs, strict=True)
    return Cost(statistics.median(cpus), statistics.median(walls))


def _turn(name: str, home: str) -> Cost:
    imports, steps, body, count = CASES[name]
    body, _, setup = body.partition("; ")
    script = SCRIPT.format(imports=imports, steps=steps, body=body, setup=setup or "pass", count=count)
    env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(ROOT), "LOOPCTL_DIR": f"{home}/ipc"}
    command = [PYTHON, "-c", script]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=True, timeout=600)
    cpu, wall = map(float, done.stdout.split())
    return Cost(cpu, wall)


if __name__ == "__main__":
    main()
