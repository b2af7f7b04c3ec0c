"""A sampler at work, in a process of its own and under any Python: `sampling.py JSON` prints the lines that it gives.

JSON: cmd; interval_s, alone, mark, lists, options; after: a file that is there before we look; until (figures of the sum;
more: so many samples more) or stop_s: how long at most; stranger: we have a child of our own too. A sample has `at`: its
moment as its CPU was weighed.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from onbox.meter import tree
from onbox.meter.sampler import Ended, Options, Sampler


def held(words, environment):
    """A fork of ours that becomes `words` when the returned pipe gets a byte."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.setsid()
        os.read(reading, 1)
        os.close(reading)
        os.execvpe(words[0], words, environment)  # noqa: S606 - words of a test
    os.close(reading)
    return pid, writing


def ended(pid):
    """Whether our child waits to be collected."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def reached(lines, wish):
    """Whether the last line is at what was wished for."""
    until = wish.get("until", {})
    if not lines or not (until or "more" in wish):
        return False
    last = json.loads(lines[-1].decode())
    names = sorted(child["command"] for child in last.get("children", ()))
    total = dict(last.get("aggregated", last), children=names)
    return all(
        total[key] == most if key == "children" else total.get(key, 0) >= most for key, most in until.items()
    )


def timed(sampler, lines):
    """The lines of a sample, which is the last of them, with its moment."""
    return [*lines[:-1], lines[-1][:-2] + b',"at":%f}\n' % sampler._at] if lines else []


def course(sampler, pid, wish, adopted):
    """The lines until it ended, or for so long; then all of it is ended."""
    lines, there, left = [], False, wish.get("more", 0) + 1
    while "after" in wish and not ended(pid) and not Path(wish["after"]).exists():
        time.sleep(0.01)
    began = time.monotonic()
    while not ended(pid) and time.monotonic() - began < wish.get("stop_s", 60) and left:
        time.sleep(wish.get("interval_s", 0.05))
        lines += timed(sampler, sampler.sample())
        there = there or reached(lines, wish)
        left -= there
        for one in sampler.orphans():
            found, _, usage = os.wait4(one, os.WNOHANG)
            adopted += [usage] if found else []
    if not ended(pid):
        while sampler.living():
            for one, _ in sampler.living():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.01)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return lines + timed(sampler, sampler.sample())


def last(sampler, pid, adopted, began):
    """The exit line of a command that has ended."""
    stat, io = (Path("/proc", str(pid), name).read_bytes() for name in ("stat", "io"))
    _, status, usage = os.wait4(pid, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    spent = time.monotonic() - began
    left = sampler.living()
    return sampler.end(
        Ended(code, number, False, usage, None, left, 0, [], 0.0, spent, stat, io, 12000, adopted)
    )


def end_our_children():
    """Nothing comes back: no child of ours is left, whoever it belonged to."""
    mine = os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208 - names
        stat = b""
        with contextlib.suppress(OSError):
            stat = Path("/proc", name, "stat").read_bytes() if name.isdigit() else b""
        if stat.rpartition(b")")[2].split()[1:2] == [str(mine).encode()]:
            os.kill(int(name), signal.SIGKILL)
            os.waitpid(int(name), 0)


def main():
    wish = json.loads(sys.argv[1])
    if wish.get("lists") is False:
        tree.Tree.__init__.__kwdefaults__["lists"] = False
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0, "PR_SET_CHILD_SUBREAPER"
    environment = dict(os.environ, **({"ONBOX_WATCH": wish["mark"]} if wish.get("mark") else {}))
    pid, gate = held(wish["cmd"], environment)
    try:
        sampler = Sampler(
            Options(**wish.get("options", {})), alone=wish.get("alone", False), mark=wish.get("mark")
        )
        lines = timed(sampler, sampler.zero(pid, wish["cmd"], wish["cmd"][0]))
        began = time.monotonic()
        os.write(gate, b"+")
        if wish.get("stranger"):
            sampler.not_ours(subprocess.Popen(["sleep", "300"]).pid)
        adopted = []
        lines += course(sampler, pid, wish, adopted)
        lines.append(last(sampler, pid, adopted, began))
    finally:
        end_our_children()
    sys.stdout.buffer.write(b"".join(lines))


if __name__ == "__main__":
    main()
