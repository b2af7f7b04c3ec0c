"""Kill or fail a real program at its n-th system call, by strace injection; for kill sweeps and fail sweeps.

    for syscall, count in points(argv, syscalls=("rename", "fsync")):
        for nth in range(1, count + 1):
            result = run_injected(argv, syscall, nth, "kill")        # or "ENOSPC", "EIO", "EINTR", ...
            assert result.hit

- `points` runs the program once untouched and counts its calls. It changes what the program changes: give each
  run a world of its own (`env`, `cwd`, arguments).
- A kill comes before the call: the n-th was not made. "After the n-th" is "before the next of any".
- Children and threads are followed, and strace counts for each of them alone: `count` is the largest count of any
  one, and point N hits the first that comes to its own N-th call. A kill ends that whole process (no other one).
- What ran on by itself (a detached child) is waited for, up to `limit_s`; then the whole group is killed.
- Start-up counts, too: an interpreter makes hundreds of `openat` and `read`, but no `rename`, `fsync`, `pwrite64`,
  `unlink`, `connect`, `ftruncate`. For the others either name `paths` (only calls that touch these very paths are
  counted and hit), or write the child so that it prints the line `ready` and then reads one line of its standard
  input before it begins, and say `ready=True`: strace is attached in between, and sees nothing of the start-up.
- strace cannot be nested, and a process that is traced already cannot be traced.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from processes import lives
from waiting import wait_until

# What changes a file or its name. Openings are apart: start-up makes many (see above).
WRITES = ("write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate")

SIGNALS = ("kill", "int", "term", "stop")

_CALL = re.compile(rb"^(?:(\d+) +)?(\w+)\(", re.MULTILINE)
_HIT = re.compile(rb"\(INJECTED\)|= \?$|\+\+\+ killed by", re.MULTILINE)


class Result(NamedTuple):
    """How it went. `status` is negative for a signal, as in subprocess; `hit` whether the point was reached."""

    status: int
    stdout: bytes
    stderr: bytes
    hit: bool


def available() -> str:
    """Empty when system calls can be injected here, else why not."""
    return "" if shutil.which("strace") else "strace is not installed"


def points(
    argv: Sequence[str], *, syscalls: Iterable[str] = WRITES, ends: int = 0, **how
) -> list[tuple[str, int]]:
    """Each of `syscalls` that the program makes, and how often; `how` as for `run_injected`.

    Fails the test when the untouched program does not end with status `ends`.
    """
    names = tuple(syscalls)
    result, log = _run(argv, ["-e", f"trace={','.join(names)}"], **how)
    assert result.status == ends, f"untouched, it ended with {result.status}: {result.stderr.decode()}"
    by_process = Counter(_CALL.findall(log))
    most = {
        name: max((n for (_, call), n in by_process.items() if call == name.encode()), default=0)
        for name in names
    }
    return [(name, count) for name, count in most.items() if count]


def run_injected(argv: Sequence[str], syscall: str, nth: int, what: str = "kill", **how) -> Result:
    """The program with its `nth` call of `syscall` killed, or failing with the errno named by `what`.

    `what` may end in `+`: that call and all after it fail, as on a disk that stays full. "int", "term" and "stop"
    are signals that come with the call; whether they did is not in `hit`.
    Keyword arguments: `env` (the whole environment), `cwd`, `stdin` (bytes), `paths`, `ready`, `limit_s`,
    and `follow=False`: only the first thread is counted and hit, and its children are not waited for.
    """
    fault = f"signal={what.upper()}" if what in SIGNALS else f"error={what.removesuffix('+')}"
    when = f"{nth}+" if what.endswith("+") else f"{nth}"
    return _run(argv, ["-e", f"trace={syscall}", "-e", f"inject={syscall}:{fault}:when={when}"], **how)[0]


def _run(
    argv: Sequence[str],
    options: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    stdin: bytes = b"",
    paths: Sequence[Path | str] = (),
    ready: bool = False,
    follow: bool = True,
    limit_s: float = 120.0,
) -> tuple[Result, bytes]:
    watched = [word for path in paths for word in ("-P", str(path))]
    whom = ["-f"] if follow else []
    # One log: its lines tell which process called what. No --seccomp-bpf: with it kills are not injected.
    with tempfile.NamedTemporaryFile(prefix="strace-") as log:
        words = [
            shutil.which("strace") or "strace",
            *whom,
            "-q",
            "-e",
            "signal=none",
            "-o",
            log.name,
            *watched,
            *options,
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(
            argv if ready else [*words, "--", *argv], env=env, cwd=cwd, start_new_session=True, **pipes
        )
        tracer = _attached(words, child) if ready else None
        try:
            out, err = child.communicate(b"\n" + stdin if ready else stdin, timeout=limit_s)
            if tracer is not None:
                tracer.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {limit_s:g} s: {' '.join(map(str, argv))}") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if tracer is not None and tracer.poll() is None:
                tracer.kill()
                tracer.wait()
            child.communicate()
        said = Path(log.name).read_bytes()
    return Result(child.returncode, out, err, _HIT.search(said) is not None), said


def _attached(words: Sequence[str], child: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """strace on the child that has got ready: nothing that it does from now on is missed."""
    first = child.stdout.readline()
    if first != b"ready\n":
        child.kill()
        raise AssertionError(f"it did not get ready: {(first + child.communicate()[1]).decode()}")
    # It is the child's tracer before it has stopped it; not until then does it say so.
    loud = [word for word in words if word != "-q"]
    with tempfile.TemporaryFile() as said:
        tracer = subprocess.Popen([*loud, "-p", str(child.pid)], stdout=subprocess.DEVNULL, stderr=said)

        def attached() -> bool:
            gone = not lives(tracer.pid)
            return b" attached" in os.pread(said.fileno(), 4096, 0) or gone

        wait_until(attached, 60, "strace attached to the child")
        assert lives(tracer.pid), f"strace could not attach: {os.pread(said.fileno(), 4096, 0).decode()}"
    return tracer
