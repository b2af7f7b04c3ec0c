"""A stage under watch: all that `supervise` is to it, with samples and an end record beside its result."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from onbox.chain.supervise import (
    CANNOT_START,
    SIGNAL_BASE,
    begin_result,
    cannot,
    not_started,
    tell,
    write_result,
)
from onbox.fs import check_plain
from onbox.meter.sampler import Options, Sampler
from onbox.monitor import kernel
from onbox.monitor.alone import Signals, start
from onbox.monitor.sink import LineFile, Sink
from onbox.monitor.watch import Death, Watch

BASE_MS, MAX_MS = 250, 30_000
CAP_BYTES = 32 << 20
STATUS_S = 10.0
_SOON_S = 0.5  # after the first sample that shows the command; then twice as long each time, up to STATUS_S
STATUS_BYTES = 3072
_CHILDREN = 16
_LEFT, _ERRORS, _WORDS = 8, 3, 200


def watched(result: Path, folder: Path, stage: str, attempt: int, command: Sequence[str]) -> int:
    """As `supervise` in every point, and `folder` then holds STAGE.ATTEMPT.jsonl and STAGE.json.

    What fails of the watching is written down and costs the command nothing. 125 and no file at `result`: the
    command was not started, and may be started otherwise.
    """
    try:
        begin_result(result)
    except OSError as error:
        return cannot("use %s" % result, error)
    signals = Signals()
    kernel.adopt()
    options = Options(BASE_MS, MAX_MS, gpu=True, max_children=_CHILDREN, stage=stage, attempt=attempt)
    try:
        sampler = Sampler(options, alone=True)
        errors: List[str] = []
        watch = Watch(
            sampler, Sink(_file(folder / ("%s.%d.jsonl" % (stage, attempt)), errors)), BASE_MS, MAX_MS
        )
        watch.errors += errors
        status = _Status(folder / (stage + ".json"), watch)
        heard: List[int] = []
        failed = start(command, watch, signals, lambda seen: _pass_on(watch.pid, seen, heard))
    except Exception as error:  # noqa: BLE001 - whatever it is, the chain has another way to run its stage
        print("babysit: cannot watch: %s: %s" % (type(error).__name__, error), file=sys.stderr)
        return CANNOT_START
    if failed is not None:
        code = not_started(result, command[0], failed.errno or 0)
        watch.finish(death=Death(exit_code=None if code == CANNOT_START else code), cpu_s=time.process_time())
        status.write(watch.end)
        return code
    watch.looked = status.now_and_then
    _to_its_end(watch)
    death = watch.finish(
        "told" if heard else None, died=lambda death: _say(result, death), cpu_s=time.process_time()
    )
    status.write(watch.end)
    return death.exit_code if death.exit_code is not None else SIGNAL_BASE + (death.signal or 0)


class _Status:
    """The small file that the patrol reads; one that cannot be written is written the next time."""

    def __init__(self, path: Path, watch: Watch) -> None:
        self._path, self._watch = path, watch
        self._at, self._pause_s = float("-inf"), _SOON_S

    def now_and_then(self) -> None:
        """Nothing comes back: a young command is told more often than one that runs for long."""
        if time.monotonic() >= self._at + self._pause_s:
            if self._at > 0:
                self._pause_s = min(2 * self._pause_s, STATUS_S)
            self.write(b"")

    def write(self, end: bytes) -> None:
        """Nothing comes back. Not synced: a status that a power cut takes is of no use to anybody."""
        self._at = time.monotonic()
        other = self._path.with_name(".%s.%d" % (self._path.name, os.getpid()))
        try:
            content = _fitting({**self._watch.sampler.status(), "end": _short(end)})
            check_plain(self._path)
            other.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(str(other), flags, 0o600), "wb") as file:
                file.write(content)
            other.replace(self._path)
        except Exception as error:  # noqa: BLE001 - the command runs, and its end is what we are there for
            self._watch.remember("cannot write %s: %s" % (self._path, getattr(error, "strerror", error)))


def _file(path: Path, errors: List[str]) -> Optional[LineFile]:
    try:
        check_plain(path)
        return LineFile(path, CAP_BYTES)
    except OSError as error:
        errors.append("cannot write %s: %s" % (path, error.strerror or error))
        return None


def _pass_on(pid: int, seen: "signal.struct_siginfo", heard: List[int]) -> bool:
    """False: nothing for us. What a terminal's keys send reaches the command by itself."""
    heard.append(seen.si_signo)
    if seen.si_code <= 0:
        tell(pid, seen.si_signo)
    return False


def _to_its_end(watch: Watch) -> None:
    try:
        while not watch.turn():
            continue
    except Exception as error:  # noqa: BLE001 - how the command ends matters more than how it was doing
        watch.remember("the watch failed: %r" % error)
        while not watch.wait.until(time.monotonic() + 3600):
            continue


def _say(result: Path, death: Death) -> None:
    if death.signal is not None:
        write_result(result, "signal", death.signal, int(death.core))
    elif death.exit_code is not None:
        write_result(result, "exit", death.exit_code, 0)


def _short(end: bytes) -> Optional[Dict[str, Any]]:
    """The end record for the small file: the summary stands beside it, and lists are cut."""
    if not end:
        return None
    record: Dict[str, Any] = json.loads(end.decode())
    record.pop("summary", None)
    record["left_running_count"] = len(record["left_running"])
    record["left_running"] = [
        {**one, "command": str(one.get("command"))[:_WORDS]} for one in record["left_running"][:_LEFT]
    ]
    record["monitor_errors"] = [str(one)[:_WORDS] for one in record["monitor_errors"][:_ERRORS]]
    return record


def _fitting(record: Dict[str, Any]) -> bytes:
    """The record in at most STATUS_BYTES: what is least needed goes first."""
    content = _compact(record)
    for name in ("left_running", "monitor_errors"):
        if len(content) > STATUS_BYTES and record["end"] is not None:
            record["end"][name] = record["end"][name][:1]
            content = _compact(record)
    if len(content) > STATUS_BYTES:
        content = _compact(
            {**record, "end": None if record["end"] is None else {**record["end"], "left_running": []}}
        )
    return content


def _compact(record: Dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
