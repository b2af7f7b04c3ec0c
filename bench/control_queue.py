"""What one poll of a control queue costs: held back by `every_s`, and looking at an empty queue.

Beside it one os.stat of the queue's file, and the real runtimectl where BENCH_RUNTIMECTL names the folder
that holds its package (it is on no index). CPU time: a busy machine spoils the clock on the wall.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 7
OURS, THEIRS = "from onbox import RuntimeController", "from runtimectl import RuntimeController"
POLL = "controller.poll_and_apply(ctx={{}}, every_s={every})"

# What is imported, what is timed, how often.
CASES = {
    "os.stat": (OURS, "os.stat(controller.commands_path)", 50_000),
    "ours, held back": (OURS, POLL.format(every=3600.0), 200_000),
    "ours, empty queue": (OURS, POLL.format(every=0.0), 10_000),
}
REAL = {
    "runtimectl, held back": (THEIRS, POLL.format(every=3600.0), 200_000),
    "runtimectl, empty queue": (THEIRS, POLL.format(every=0.0), 5_000),
}
PAIRS = tuple((name.replace("runtimectl", "ours"), name) for name in REAL)
SCRIPT = """
import os, time
{imports}
controller = RuntimeController()
controller.configure("queue")
controller.register("lr", lambda ctx, value: None)
controller.poll_and_apply(ctx={{}}, every_s=0.0)
began = time.process_time_ns()
for _ in range({count}):
    {timed}
print((time.process_time_ns() - began) / {count})
"""


def main() -> None:
    """Print each median, and its ratio to one os.stat."""
    real = os.environ.get("BENCH_RUNTIMECTL", "")
    cases = {**CASES, **(REAL if real else {})}
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (imports, timed, count) in cases.items():
            script = SCRIPT.format(imports=imports, timed=timed, count=count)
            took[name].append(_poll_ns(script, real))
    stat = statistics.median(took["os.stat"])
    load = os.getloadavg()[0]
    print(f"ns of CPU a poll, median of {ROUNDS} rounds in turn; load {load:.1f} on {os.cpu_count()} cores")
    for name, times in took.items():
        ns = statistics.median(times)
        spread = f"(min {min(times):,.0f}, max {max(times):,.0f})"
        print(f"{name:24} {ns:10,.0f}  {ns / stat:6.2f} x os.stat  {spread}")
    for ours, peer in PAIRS:
        if peer in took:
            ratio = statistics.median(a / b for a, b in zip(took[ours], took[peer], strict=True))
            print(f"{ours}: {ratio:.2f} x {peer}")


def _poll_ns(script: str, real: str) -> float:
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": f"{ROOT}:{real}"}
        command = [sys.executable, "-c", script]
        done = subprocess.run(
            command, env=env, cwd=home, capture_output=True, text=True, check=True, timeout=600
        )
    return float(done.stdout)


if __name__ == "__main__":
    main()
