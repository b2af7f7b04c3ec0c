"""A command watched from Python, in one call."""

# ruff: noqa: FBT001, FBT002, PLR0917 - callers know these names, their order and defaults

import os
import subprocess
from typing import Any, Optional, Tuple, Union

from onbox.monitor import asked
from onbox.monitor.process import GRACE_S, ProcessMonitor

_Path = Union[str, "os.PathLike[str]"]


def execute_with_monitoring(
    cmd: asked.Command,
    stdout_file: Optional[_Path] = None,
    stderr_file: Optional[_Path] = None,
    timeout: Optional[float] = None,
    base_interval_ms: float = 100,
    max_interval_ms: float = 1000,
    store_in_memory: bool = True,
    output_file: Optional[_Path] = None,
    output_format: str = "jsonl",
    since_process_start: bool = False,
    pause_for_attachment: bool = True,
    quiet: bool = False,
    include_children: bool = True,
    write_metadata: bool = False,
    enable_ebpf: bool = False,
    enable_gpu: bool = False,
    write_env: bool = False,
    grace_s: float = GRACE_S,
    **keywords: Any,
) -> Tuple[Optional[int], ProcessMonitor]:
    """The exit code of a command that was watched from before its first instruction, and its monitor.

    Minus the signal's number for a command that died of one; None where somebody else collected it. `timeout`
    and `grace_s` in seconds. Raises subprocess.TimeoutExpired, and CalledProcessError with `check`, with the
    monitor in their attribute `monitor`; else as ProcessMonitor does.
    """
    if timeout is not None and not timeout < float("inf"):
        raise ValueError("timeout must be a number of seconds, not %r" % (timeout,))
    check = bool(keywords.get("check"))
    monitor = ProcessMonitor.__new__(ProcessMonitor)
    try:  # one for both: an interrupt may come between the start and the wait
        monitor.__init__(  # type: ignore[misc]
            cmd,
            base_interval_ms,
            max_interval_ms,
            since_process_start,
            output_file,
            output_format,
            store_in_memory,
            quiet,
            include_children,
            write_metadata,
            write_env,
            enable_ebpf,
            enable_gpu,
            grace_s=grace_s,
            pause_for_attachment=pause_for_attachment,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
            **keywords,
        )
        in_time = monitor.until(timeout)
    except BaseException as cut:
        monitor.abandon(cut)
        raise
    error: Any = None
    if not in_time:
        error = subprocess.TimeoutExpired(cmd, timeout or 0.0, output=monitor.stdout, stderr=monitor.stderr)
    elif check and monitor.exit_code:
        error = subprocess.CalledProcessError(
            monitor.exit_code, cmd, output=monitor.stdout, stderr=monitor.stderr
        )
    if error is not None:
        error.monitor = monitor
        raise error
    return monitor.exit_code, monitor
