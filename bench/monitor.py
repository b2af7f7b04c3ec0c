"""A watched command beside denet, psutil and a bare subprocess.run, in one run and in turn.

How many commands had begun before they were watched, with every core busy; what the watching costs in CPU for
1, 10 and 100 processes; what it adds to a short command; how near the peak of a short job is to its own; and
what 100,000 samples leave in memory. CPU is of all threads of the watching process; a busy machine spoils the
clock on the wall. Aims stand beside the figures. The peers come by `make interop`; without them their columns
are empty. Takes about four minutes.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_INTEROP = os.environ.get("BABYSIT_INTEROP_PYTHON") or str(ROOT / ".venv-interop/bin/python")
PYTHON = _INTEROP if Path(_INTEROP).exists() else sys.executable

STARTS, BLOCK = 300, 50
_LOOPS = 2 * (os.cpu_count() or 1)
BRIEF_S, WATCHED_S, COST_ROUNDS = 1, 4, 3
SHORT_ROUNDS, PEAKS, SAMPLES = 15, 10, 100_000
AIM_CPU = {1: 0.6, 10: 1.7, 100: 8.0}  # percent of a core at a sample every 100 ms
AIM_PEAK, AIM_GROWTH_KB = 1.0, 256

# Each is run by an interpreter of its own, with `told` (an object) as its word, and prints one object.
HEAD = """
import json, os, subprocess, sys, time
told = json.loads(sys.argv[1])
"""
OURS = HEAD + "from onbox.monitor import execute_with_monitoring, ProcessMonitor\n"
DENET = HEAD + "import denet\nfrom denet import execute_with_monitoring, ProcessMonitor\n"

# The command's one work is to make a folder. Is it there when the first look at the command is done?
BEGUN = """
begun, name = [], lambda n: os.path.join(told["folder"], "%s-%d" % (told["who"], n))
for n in range(told["first"], told["first"] + told["count"]):
    attached = []
    execute_with_monitoring(["/bin/mkdir", name(n)], store_in_memory=False, base_interval_ms=10)
    begun += attached[:1]
print(json.dumps({"begun": sum(begun), "seen": len(begun)}))
"""
SEEN_BY_OURS = """
from onbox.meter.sampler import Sampler
_zero = Sampler.zero
def zero(self, *words, **named):
    lines = _zero(self, *words, **named)
    attached.append(os.path.exists(name(n)))
    return lines
Sampler.zero = zero
"""
SEEN_BY_DENET = """
class Seen:
    @staticmethod
    def from_pid(*words, **named):
        monitor = ProcessMonitor.from_pid(*words, **named)
        attached.append(os.path.exists(name(n)))
        return monitor
denet.ProcessMonitor = Seen
"""
COST = """
file = os.path.join(told["folder"], "samples")
before = time.process_time()
execute_with_monitoring(told["cmd"], base_interval_ms=100, max_interval_ms=100, store_in_memory=False,
                        output_file=file)
cpu = time.process_time() - before
with open(file) as lines:
    samples = sum('"kind":"tree"' in line or '"aggregated"' in line for line in lines)
os.unlink(file)
print(json.dumps({"cpu": cpu, "samples": samples}))
"""
PSUTIL = (
    HEAD
    + """
import psutil
before, samples = time.process_time(), 0
with subprocess.Popen(told["cmd"]) as child, open(os.path.join(told["folder"], "samples"), "w") as file:
    root, known = psutil.Process(child.pid), {}
    due = time.monotonic()
    while child.poll() is None:
        rows = []
        try:
            for one in [root, *root.children(recursive=True)]:
                one = known.setdefault(one.pid, one)
                with one.oneshot():
                    memory, io = one.memory_info()[:2], one.io_counters()[:]
                    rows.append([one.pid, one.cpu_percent(), memory, io, one.num_threads()])
        except psutil.Error:
            pass
        file.write(json.dumps({"ts_ms": int(time.time() * 1000), "rows": rows}) + "\\n")
        samples += 1
        due += 0.1
        time.sleep(max(0.0, due - time.monotonic()))
print(json.dumps({"cpu": time.process_time() - before, "samples": samples}))
"""
)
SHORT = """
took = []
execute_with_monitoring(told["cmd"], store_in_memory=False)  # what is loaded at the first call
for _ in range(told["count"]):
    began = time.perf_counter()
    execute_with_monitoring(told["cmd"], store_in_memory=False)
    took.append((time.perf_counter() - began) * 1000)
print(json.dumps(took))
"""
BARE = HEAD + "def execute_with_monitoring(cmd, **_): subprocess.run(cmd, capture_output=True)\n" + SHORT
PEAK = """
code, monitor = execute_with_monitoring(told["cmd"], stdout_file=told["out"], stderr_file=os.devnull)
summary = json.loads(monitor.get_summary()) if monitor.get_samples() else {}
with open(told["out"]) as said:
    print(json.dumps({"own": int(said.read()), "peak": summary.get("peak_mem_rss_kb", 0)}))
"""
JOB = """x = bytearray(%d << 20)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])"""
MANY = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
monitor = ProcessMonitor(["sleep", "600"], store_in_memory=False, output_file=os.devnull)
try:
    for n in range(told["count"]):
        monitor.sample_once()
        if n == told["count"] // 10:
            early = resident()
    late = resident()
finally:
    os.kill(monitor.get_pid(), 9)
print(json.dumps({"early": early, "late": late}))
"""


def main() -> None:
    """Print each table with its aims."""
    peers = {"denet": _there("denet"), "psutil": _there("psutil")}
    print(
        f"peers: {', '.join(f'{n} {v}' if v else f'{n}: none, next: make interop' for n, v in peers.items())}"
    )
    with tempfile.TemporaryDirectory() as folder:
        begun(folder, denet=bool(peers["denet"]))
        cost(folder, peers)
        short(folder, denet=bool(peers["denet"]))
        peaks(folder, denet=bool(peers["denet"]))
        many(folder)


def begun(folder: str, *, denet: bool) -> None:
    """Commands that had begun when the first look at them was done, with every core busy."""
    sides = {
        "ours": OURS + SEEN_BY_OURS + BEGUN,
        **({"denet": DENET + SEEN_BY_DENET + BEGUN} if denet else {}),
    }
    found = {name: {"begun": 0, "seen": 0} for name in sides}
    with _busy():
        for first in range(0, STARTS, BLOCK):
            for name, script in sides.items():
                one = _asked(script, who=name, folder=folder, first=first, count=BLOCK)
                found[name] = {key: found[name][key] + one[key] for key in one}
    loops = f"{_LOOPS} loops on all cores{_load()}"
    print(f"\nbegun before they were watched, of {STARTS} commands, {loops}")
    for name, one in found.items():
        aim = _aim(one["begun"] == 0, "0") if name == "ours" else ""
        print(f"  {name:8} {one['begun']:4} of {one['seen']}{aim}")


def cost(folder: str, peers: dict[str, str]) -> None:
    """CPU of the watching process for trees of 1, 10 and 100 processes that sleep."""
    scripts = {"ours": OURS + COST} | {
        name: script for name, script in (("denet", DENET + COST), ("psutil", PSUTIL)) if peers[name]
    }
    print(f"\nCPU of the watching, a sample every 100 ms, median of {COST_ROUNDS} rounds{_load()}")
    print(f"  {'':6} processes   % of a core   samples/s   ms a sample   % at 10/s")
    for count, aim in AIM_CPU.items():
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
        for _ in range(COST_ROUNDS):
            for name, script in scripts.items():
                # What its beginning costs is in both, and in neither of the differences.
                brief = _asked(script, folder=folder, cmd=_tree(count, BRIEF_S))
                whole = _asked(script, folder=folder, cmd=_tree(count, BRIEF_S + WATCHED_S))
                samples = max(1, whole["samples"] - brief["samples"])
                took[name].append((whole["cpu"] - brief["cpu"], samples))
        for name, rounds in took.items():
            cpu = statistics.median(cpu for cpu, _ in rounds) / WATCHED_S * 100
            rate = statistics.median(samples for _, samples in rounds) / WATCHED_S
            each = statistics.median(cpu / samples for cpu, samples in rounds) * 1000
            met = _aim(each <= aim, f"{aim:g} %") if name == "ours" else ""
            print(f"  {name:6} {count:9} {cpu:13.2f} {rate:11.1f} {each:13.2f} {each:11.2f}{met}")


def short(folder: str, *, denet: bool) -> None:
    """What watching adds to a command that is over soon."""
    sides = {"bare": BARE, "ours": OURS + SHORT, **({"denet": DENET + SHORT} if denet else {})}
    print(f"\nms from the call to its end, median of {SHORT_ROUNDS} (lowest, highest){_load()}")
    for cmd in (["true"], ["sleep", "0.2"]):
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(3):
            for name, script in sides.items():
                took[name] += _asked(script, folder=folder, cmd=cmd, count=SHORT_ROUNDS // 3)
        bare = statistics.median(took["bare"])
        for name, times in took.items():
            middle = statistics.median(times)
            spread = f"({min(times):.1f}, {max(times):.1f})"
            print(f"  {' '.join(cmd):10} {name:6} {middle:8.1f}  {middle / bare:5.2f} x bare  {spread}")


def peaks(folder: str, *, denet: bool) -> None:
    """The peak that is told of a short job, against the one that the job read of itself."""
    sides = {"ours": OURS + PEAK, **({"denet": DENET + PEAK} if denet else {})}
    print(f"\npeak of a short job against its own VmHWM, {PEAKS} runs each, cores busy{_load()}")
    with _busy():
        for megabytes in (40, 200):
            off: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(PEAKS):
                for name, script in sides.items():
                    cmd = [PYTHON, "-I", "-S", "-c", JOB % megabytes]
                    one = _asked(script, cmd=cmd, out=f"{folder}/out")
                    off[name].append((one["peak"] - one["own"]) / one["own"] * 100)
            for name, errors in off.items():
                worst = max(errors, key=abs)
                met = _aim(abs(worst) <= AIM_PEAK, f"{AIM_PEAK:g} %") if name == "ours" else ""
                middle = statistics.median(errors)
                print(f"  {megabytes:4} MB {name:6} median {middle:+7.2f} %, worst {worst:+7.2f} %{met}")


def many(folder: str) -> None:
    """What samples leave in memory when nobody keeps them."""
    one = _asked(OURS + MANY, folder=folder, count=SAMPLES)
    grown = one["late"] - one["early"]
    met = _aim(grown <= AIM_GROWTH_KB, f"{AIM_GROWTH_KB} KiB")
    early, late = f"{one['early']} KiB after a tenth of them", f"{one['late']} KiB at the end"
    print(f"\n{SAMPLES:,} samples: {early}, {late}, {grown:+} KiB{met}")


def _tree(count: int, seconds: int) -> list[str]:
    """A command of so many processes that sleep."""
    others = f"n=1; while [ $n -lt {count} ]; do sleep {seconds} & n=$((n + 1)); done"
    return ["sh", "-c", f"{others}; exec sleep {seconds}"]


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Every core has two loops that never pause."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _asked(script: str, **told: Any) -> Any:
    """What a peer's script prints of itself. Raises RuntimeError with its own words."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [PYTHON, "-c", script, json.dumps(told)],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"a script ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _there(peer: str) -> str:
    """The version of a peer, empty where it is not there."""
    said = f"from importlib.metadata import version; print(version({peer!r}))"
    done = subprocess.run([PYTHON, "-c", said], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def _aim(met: bool, aim: str) -> str:  # noqa: FBT001 - it is what is said
    return f"   aim {aim}: {'met' if met else 'MISSED'}"


def _load() -> str:
    return f"; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
