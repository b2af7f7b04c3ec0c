"""From asking to the answer: inside of Python, by the whole `ipc` command, and by `babysit ipc` over ssh.

Beside it the real loopmonitor: its sender's own steps until the line stands on the program's output, which
is where it answers, and its whole command, which ends without an answer. A loop that sleeps most of the
time, and one that never pauses; the others are stopped meanwhile. The way over ssh needs root; it is left
out elsewhere. The peers come by `make interop`.
"""

import contextlib
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RIGS = ("", "tests", "tests/interop", "tests/integration/night", "tests/integration/steering")
sys.path[:0] = [str(ROOT / folder) for folder in RIGS]

from box import Box  # noqa: E402 - the rigs of the tests are no package
from host_rig import Loop  # noqa: E402 - as above
from laptop import BABYSIT, Laptop  # noqa: E402 - as above
from loops import Program  # noqa: E402 - as above
from peers import OURS, PYTHON, THEIRS, TURNING, Folder  # noqa: E402 - as above

from fleet.arming.ship import build_pyz  # noqa: E402 - as above
from onbox.ipc import known, ours  # noqa: E402 - as above
from onbox.ipc.target import chosen, target  # noqa: E402 - as above

ROUNDS, INSIDE, OVER_SSH = 9, 20, 7
BUSY = TURNING.replace("    time.sleep(0.005)\nprint", "    sum(range(20_000))\nprint")
PAIRS = [
    (f"command: {OURS}'s {verb} to {OURS}, {how}", f"command: {THEIRS}'s {verb} to {THEIRS}, {how}")
    for verb in ("peek", "memory")
    for how in ("asleep", "busy")
]
BARE = [sys.executable, "-c", "pass"]


def main() -> None:
    """Print the medians of each way, and their ratios."""
    if not Path(PYTHON).exists():
        sys.exit(f"no real peers at {PYTHON}\nnext: make interop")
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        folder = Folder(Path(home))
        try:
            loops = {
                f"{module}, {how}": folder.turning(module, text)
                for module in (OURS, THEIRS)
                for how, text in (("asleep", TURNING), ("busy", BUSY))
            }
            ways = _inside(folder, loops) | _commands(folder, loops)
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    with _alone(name, loops):
                        took.setdefault(name, []).append(way())
        finally:
            folder.close()
    load = os.getloadavg()[0]
    print(f"ms from asking to the answer, {ROUNDS} rounds in turn; load {load:.1f} on {os.cpu_count()} cores")
    _report(took)
    for one, peer in PAIRS:
        _ratio(took, one, peer)
    _over_ssh()


@contextlib.contextmanager
def _alone(way: str, loops: dict[str, Program]) -> Iterator[None]:
    """No loop but the one that is asked takes time meanwhile."""
    others = [loop for name, loop in loops.items() if name not in way]
    for loop in others:
        os.kill(loop.pid, signal.SIGSTOP)
    yield
    for loop in others:
        os.kill(loop.pid, signal.SIGCONT)


def _report(took: dict[str, list[float]]) -> None:
    bare = statistics.median(took["a bare interpreter"])
    for name, times in took.items():
        middle = statistics.median(times)
        spread = f"(min {min(times):.2f}, max {max(times):.2f})"
        print(f"{name:48} {middle:8.2f}  {middle / bare:5.2f} x bare  {spread}")


def _ratio(took: dict[str, list[float]], one: str, peer: str) -> None:
    """Print the median of what the rounds say, each by itself: a load that comes and goes is in both."""
    ratio = statistics.median(mine / its for mine, its in zip(took[one], took[peer], strict=True))
    print(f"{one}: {ratio:.2f} x {peer}")


def _inside(folder: Folder, loops: dict[str, Program]) -> dict[str, Callable[[], float]]:
    """One question from a process that is there already; each figure is the median of some."""
    ways: dict[str, Callable[[], float]] = {}
    for name, loop in loops.items():
        if name.startswith(OURS):
            (one,) = chosen(target(str(loop.pid)), known.roll(folder.ipc).living)
            ways[f"inside: {name}"] = _many(
                lambda one=one: ours.asked(folder.ipc, [one], "memory", "", 10.0)[0].reply
            )
        else:
            ways[f"inside: {name} (to its output)"] = _many(lambda loop=loop: _real(loop))
    return ways


def _real(loop: Program) -> bool:
    """Whether the line stood on the program's output at last; the steps of the published sender."""
    before = loop.out_path.stat().st_size
    loop.write(b"memory\n")
    os.kill(loop.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while loop.out_path.stat().st_size == before:
        if time.monotonic() > deadline:
            return False
    return True


def _commands(folder: Folder, loops: dict[str, Program]) -> dict[str, Callable[[], float]]:
    ways = {"a bare interpreter": _timed(BARE, dict(os.environ))}
    for name, loop in loops.items():
        kind = name.split(",", maxsplit=1)[0]
        for verb in ("peek", "memory"):
            ways[f"command: {kind}'s {verb} to {name}"] = _timed(*folder.command(kind, verb, loop.pid))
    pyz, name = folder.home / "onbox.pyz", f"{OURS}, asleep"
    pyz.write_bytes(build_pyz()[0])
    _, env = folder.command(OURS)
    as_shipped = [sys.executable, str(pyz), "ipc", "peek", str(loops[name].pid)]
    ways[f"command: as shipped, peek to {name}"] = _timed(as_shipped, env)
    return ways


def _timed(command: list[str], env: dict[str, str]) -> Callable[[], float]:
    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, env=env, capture_output=True, check=True, timeout=60)
        return (time.perf_counter() - began) * 1000

    return once


def _many(ask: Callable[[], object]) -> Callable[[], float]:
    def some() -> float:
        times = []
        for _ in range(INSIDE):
            began = time.perf_counter()
            if not ask():
                raise RuntimeError("no answer")
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)

    return some


def _over_ssh() -> None:
    """Print what one question costs from another machine, beside ssh that only prints a word there."""
    reason = Box.available()
    if reason:
        print(f"over ssh: left out: {reason}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        box = Box.start(Path(temporary) / "box")
        laptop = Laptop(Path(temporary) / "laptop", (box,))
        try:
            Loop(box, "train")
            laptop.run("ipc", "gpu1", "list")  # sends the tool
            config = shlex.quote(str(laptop.home / ".ssh/config"))
            plain = ["sh", "-c", f"exec ssh -F {config} -T -oBatchMode=yes gpu1 'echo a word'"]
            ways = {
                "a bare interpreter": _timed(BARE, laptop.env),
                "ssh that prints a word": _timed(plain, laptop.env),
                "babysit ipc BOX peek": _timed([str(BABYSIT), "ipc", "gpu1", "peek"], laptop.env),
                "babysit ipc BOX memory": _timed([str(BABYSIT), "ipc", "gpu1", "memory"], laptop.env),
            }
            took: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(OVER_SSH):
                for name, way in ways.items():
                    took[name].append(way())
        finally:
            laptop.close()
            box.stop()
    print(f"over ssh to this very machine, {OVER_SSH} rounds in turn")
    _report(took)
    for name in ways:
        if name.startswith("babysit"):
            _ratio(took, name, "ssh that prints a word")


if __name__ == "__main__":
    main()
