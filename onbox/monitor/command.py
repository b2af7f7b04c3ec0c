"""`exec`: a command under watch from the command line, and what came of it in a few lines."""

import os
import signal
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from onbox.chain.supervise import CANNOT_START, NOT_FOUND, SIGNAL_BASE
from onbox.meter.figures import size
from onbox.meter.sampler import Options, Sampler
from onbox.monitor import asked, kernel
from onbox.monitor.alone import Signals, start
from onbox.monitor.ending import end_tree
from onbox.monitor.report import Report
from onbox.monitor.saying import say
from onbox.monitor.sink import LineFile, Sink
from onbox.monitor.watch import Death, Watch, send

USAGE, TIMED_OUT, NOT_EXECUTABLE = 2, 124, 126
_USAGE = """\
usage: python onbox.pyz exec [OPTION...] -- CMD [ARG...]
  --out FILE         the samples, JSON Lines
  --interval MS      from one sample to the next (100)
  --max-interval MS  while nothing moves (1000)
  --timeout S        end the whole tree after that long
  --grace S          from TERM, or an interrupt, to KILL (5)
  --stdout FILE      --stderr FILE   where its streams go
  --gpu              sample the GPUs too
  --no-children      sample CMD alone
  --json             the end record instead of a few lines
  --quiet            no lines at all
The exit status is CMD's, or 128 and its signal's number; 124 timed out,
125 we failed, 126 it cannot be executed, 127 it is not there, 2 usage."""


class Line(NamedTuple):
    """What the command line says."""

    out: Optional[str] = None
    interval: float = 100
    max_interval: float = 1000
    timeout: Optional[float] = None
    grace: float = 5.0
    stdout: Optional[str] = None
    stderr: Optional[str] = None
    gpu: bool = False
    no_children: bool = False
    json: bool = False
    quiet: bool = False
    words: Sequence[str] = ()


_FLAGS = ("gpu", "no_children", "json", "quiet")
_NUMBERS = ("interval", "max_interval", "timeout", "grace")


def main(words: List[str]) -> int:
    """The exit status of `exec WORDS`."""
    if words[:1] in (["--help"], ["-h"]):
        print(_USAGE)
        return 0
    try:
        line = read(words)
        asked.positive(interval=line.interval, max_interval=line.max_interval)
        asked.not_negative(grace=line.grace, timeout=0.0 if line.timeout is None else line.timeout)
    except ValueError as error:
        say("onbox exec: %s\n%s" % (_plain(str(error)), _USAGE))
        return USAGE
    files: List[int] = []
    command = None
    try:
        command = _Exec(line, _streams(line, files))
        return command.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody is to take it for the command's end
        code = _cannot("watch %s" % line.words[0], error)
        step = None if command is None else command.left()
        say("next: %s" % (step or "mend that, or run the command without exec"))
        return code
    finally:
        asked.close(files)


def read(words: Sequence[str]) -> Line:
    """The command line; everything behind `--`, or from the first word that is no option, is the command.

    Raises ValueError.
    """
    said: Dict[str, Any] = {}
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "--":
        option, equals, value = left.pop(0).partition("=")
        name = option[2:].replace("-", "_")
        if not option.startswith("--") or name not in Line._fields or name == "words":
            raise ValueError("no option %s" % option)
        if name in _FLAGS:
            if equals:
                raise ValueError("%s takes no value" % option)
            said[name] = True
            continue
        if not equals and not left:
            raise ValueError("%s needs a value" % option)
        said[name] = _value(option, name, value if equals else left.pop(0))
    left = left[1:] if left[:1] == ["--"] else left
    if not left:
        raise ValueError("no command: nothing stands behind --")
    return Line(**said, words=tuple(left))


def _value(option: str, name: str, text: str) -> Any:
    if name not in _NUMBERS:
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError("%s: %r is no number" % (option, text)) from None


def _streams(line: Line, files: List[int]) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for name, path in (("stdout", line.stdout), ("stderr", line.stderr)):
        if path is not None and name == "stderr" and path == line.stdout:
            found[name] = found["stdout"]
        elif path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            files.append(os.open(path, flags, 0o666))
            found[name] = files[-1]
    return found


class _Exec:
    """One command, from its start to what is said of it. Raises OSError when a file cannot be opened."""

    def __init__(self, line: Line, streams: Dict[str, int]) -> None:
        self._line, self._streams = line, streams
        options = Options(
            base_interval_ms=int(line.interval) or 1,
            max_interval_ms=max(int(line.max_interval), int(line.interval)) or 1,
            include_children=not line.no_children,
            gpu=line.gpu,
        )
        sink = Sink(None if line.out is None else LineFile(line.out))
        sampler = Sampler(options, alone=True)
        self._watch = Watch(sampler, sink, options.base_interval_ms, options.max_interval_ms)
        self._told: List[int] = []
        self._pid = 0

    def run(self) -> int:
        """The exit status."""
        signals = Signals()
        if not kernel.adopt():
            self._watch.errors.append("orphans do not come to us: no PR_SET_CHILD_SUBREAPER here")
        name = self._line.words[0]
        error = start(self._line.words, self._watch, signals, self._pass_on, **self._streams)
        if error is not None:
            path = asked.found(name, os.environ)
            if isinstance(error, FileNotFoundError) and "/" in path and os.path.isfile(path):  # noqa: PTH113 - a word
                error = OSError(0, "its interpreter is not there")  # whom the kernel missed, it does not say
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            code = NOT_FOUND if missing else NOT_EXECUTABLE
            self._watch.finish(death=Death(exit_code=code), cpu_s=time.process_time())
            if missing:
                say("onbox exec: command not found: %s" % _plain(name))
                return code
            return _cannot("execute %s" % name, error, code)
        self._pid = self._watch.pid
        killed = self._to_its_end()
        death = self._watch.finish(killed, cpu_s=time.process_time())
        end = Report(self._watch.end.decode().rstrip("\n") or "{}")
        if self._line.json:
            say(end, sys.stderr if self._line.stdout is None else sys.stdout)
        elif not self._line.quiet:
            for text in told(name, end.record):
                say("onbox: %s" % _plain(text))
        if killed == "timeout":
            return TIMED_OUT
        if death.signal is not None:
            return SIGNAL_BASE + death.signal
        return CANNOT_START if death.exit_code is None else death.exit_code

    def left(self) -> Optional[str]:
        """What to do about a command that runs on without us; None where none does."""
        if not self._pid or self._watch.wait.ended():
            return None
        return "kill %d, for the command runs on, unwatched" % self._pid

    def _to_its_end(self) -> Optional[str]:
        """Why it ended, as far as it was us."""
        watch, line = self._watch, self._line
        limit = float("inf") if line.timeout is None else watch.began + line.timeout
        while not watch.turn(limit) and signal.SIGINT not in self._told:
            if time.monotonic() >= limit:
                end_tree(watch, line.grace)
                return "timeout"
        if signal.SIGINT in self._told and end_tree(watch, line.grace, ask=False):
            return "user"
        return "told" if self._told else None

    def _pass_on(self, seen: "signal.struct_siginfo") -> bool:
        """Whether it is time to end the tree. What a terminal's keys send has reached our own group."""
        self._told.append(seen.si_signo)
        if seen.si_signo == signal.SIGINT and self._told.count(signal.SIGINT) == 2:
            raise KeyboardInterrupt  # which cuts the grace short
        group = os.getpgrp() if seen.si_code > 0 else -1
        pids = [pid for pid, _ in self._watch.sampler.living(fresh=True) if _group(pid) != group]
        send(pids, signal.Signals(seen.si_signo))
        return seen.si_signo == signal.SIGINT


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def told(name: str, end: Dict[str, Any]) -> List[str]:
    """What came of it, in lines for people."""
    if not end:
        return ["%s has ended; its end record failed" % name]
    how = "exit %s" % end["exit_code"] if end["signal"] is None else "died of %s" % _signal(end["signal"])
    whose = {
        "timeout": ", ended by the timeout",
        "user": ", told to end",
        "oom": ", killed by the OOM killer",
    }
    summary = end["summary"]
    lines = [
        "%s: %s after %.1f s%s; CPU %.0f %% of a core, memory %s, %d sample%s"
        % (
            name,
            how,
            end["wall_s"],
            whose.get(end["killed_by"], ""),
            summary.get("avg_cpu_percent") or 0.0,
            _memory(end, summary),
            end["samples_taken"],
            "" if end["samples_taken"] == 1 else "s",
        )
    ]
    if end["left_running"]:
        shown = ", ".join("%d %s" % (one["pid"], one["command"]) for one in end["left_running"][:8])
        lines.append("%d left running: %s" % (len(end["left_running"]), shown))
    return lines + list(end["monitor_errors"])


def _memory(end: Dict[str, Any], summary: Dict[str, Any]) -> str:
    peak_kb = summary.get("peak_mem_rss_kb") or 0
    floor_kb = end["max_rss_floor_kb"]
    if not end["max_rss_exact"] and peak_kb < floor_kb:
        return "below %s" % size(floor_kb * 1024)  # the kernel counts us into it
    return "at most %s" % size(peak_kb * 1024)


def _plain(text: str) -> str:
    """`text` with codes for what could act on a terminal: a process may call itself anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def _cannot(act: str, error: Exception, code: int = CANNOT_START) -> int:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    path = getattr(error, "filename", None)
    where = "" if path is None or act.endswith(str(path)) else "%s: " % (path,)
    say(_plain("onbox exec: cannot %s: %s%s" % (act, where, why)))
    return code
