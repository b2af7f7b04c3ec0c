"""A command or a process under watch, as a Python program holds it."""

# ruff: noqa: FBT001, FBT002, PLR0917 - callers know these names, their order and defaults

import os
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Type, TypeVar, Union

from onbox.meter import records
from onbox.meter.sampler import Options, Sampler
from onbox.meter.table import is_sample
from onbox.monitor import asked, kernel, waits
from onbox.monitor.ending import end_tree
from onbox.monitor.launch import Launch
from onbox.monitor.report import Report, report_of
from onbox.monitor.ring import Ring, Text, feed
from onbox.monitor.sink import Sink, file_of
from onbox.monitor.watch import Death, Watch

GRACE_S = 5.0
_Path = Union[str, "os.PathLike[str]"]
_T = TypeVar("_T", bound="ProcessMonitor")


class ProcessMonitor:
    """A command that runs under watch from here on, or with `from_pid` a process that runs already.

    `run()` watches it to its end; without it `sample_once()` looks. Keywords are those of `subprocess.run`;
    without a file or `stdout=` its streams are read and their last 64 KiB kept. Raises ValueError for what
    cannot be meant, and what `subprocess.Popen` raises for what cannot be executed; nothing runs then.
    """

    def __init__(
        self,
        cmd: asked.Command,
        base_interval_ms: float = 100,
        max_interval_ms: float = 1000,
        since_process_start: bool = False,
        output_file: Optional[_Path] = None,
        output_format: str = "jsonl",
        store_in_memory: bool = True,
        quiet: bool = False,
        include_children: bool = True,
        write_metadata: bool = False,
        write_env: bool = False,
        enable_ebpf: bool = False,
        enable_gpu: bool = False,
        *,
        grace_s: float = GRACE_S,
        pause_for_attachment: bool = True,
        **keywords: Any,
    ) -> None:
        """`write_metadata` is taken and not needed: every file begins with the metadata."""
        del write_metadata
        options = asked.options(
            base_interval_ms,
            max_interval_ms,
            output_format,
            since_process_start=since_process_start,
            include_children=include_children,
            gpu=enable_gpu,
            env=write_env,
        )
        asked.not_negative(grace_s=grace_s)
        self._grace_s = float(grace_s)
        mark = os.urandom(8).hex()
        wanted = asked.ask(cmd, mark, **keywords)
        try:
            self._prepare(options, output_file, output_format, store_in_memory, quiet, enable_ebpf, mark=mark)
            self._adopting = kernel.adopt()
            if not self._adopting:
                self._watch.errors.append("orphans do not come to us: no PR_SET_CHILD_SUBREAPER here")
            try:
                self._start(wanted, pause=pause_for_attachment)
            except BaseException as error:
                self.abandon(error)
                if self._death is None:
                    self._watch.finish(death=Death())  # all is closed, and the file says that it has ended
                self._release_all()
                raise
        finally:
            asked.close(wanted.files)

    @classmethod
    def from_pid(
        cls: Type[_T],
        pid: int,
        base_interval_ms: float = 100,
        max_interval_ms: float = 1000,
        since_process_start: bool = False,
        output_file: Optional[_Path] = None,
        output_format: str = "jsonl",
        store_in_memory: bool = True,
        quiet: bool = False,
        include_children: bool = True,
        write_metadata: bool = False,
        write_env: bool = False,
        enable_ebpf: bool = False,
        enable_gpu: bool = False,
    ) -> _T:
        """The monitor of a process that runs already; its end is its parent's to know, not ours to see to.

        Raises ProcessLookupError: there is none of that number.
        """
        del write_metadata
        options = asked.options(
            base_interval_ms,
            max_interval_ms,
            output_format,
            since_process_start=since_process_start,
            include_children=include_children,
            gpu=enable_gpu,
            env=write_env,
        )
        wait = waits.for_stranger(pid)
        self = cls.__new__(cls)
        self._adopting, self._grace_s = False, 0.0
        try:
            self._prepare(options, output_file, output_format, store_in_memory, quiet, enable_ebpf, mark=None)
            self._watch.attach(pid, wait)
        except BaseException:
            wait.close()
            if hasattr(self, "_watch"):
                self._watch.finish(death=Death())
            raise
        return self

    def run(self) -> None:
        """Nothing comes back: the process has ended, and all of it is known.

        An interrupt ends a command of ours with its whole tree, and is raised with `monitor` in it.
        """
        self.until(None)

    def sample_once(self) -> Optional[Report]:
        """A sample of this moment; None when the process has ended."""
        if self._death is None and self._watch.wait.ended():
            self._finish(None)
        if self._death is not None:
            return None
        self._watch.glean()
        return next((report_of(line) for line in self._watch.look() if is_sample(line)), None)

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._death is None and not self._watch.wait.ended()

    def get_pid(self) -> int:
        """Its number."""
        return self._watch.pid

    def get_samples(self) -> List[str]:
        """The samples in memory, JSON texts, oldest first; each can be read by key."""
        return [Report(text) for text in self._watch.sink.samples]

    def clear_samples(self) -> None:
        """Nothing comes back: memory holds no samples; the summary stays."""
        self._watch.sink.samples.clear()

    def save_samples(self, path: _Path, format: str = "jsonl") -> None:  # noqa: A002 - the name that callers know
        """Nothing comes back: the samples in memory are at `path`. Raises OSError, ValueError."""
        asked.known_format(format)
        file = file_of(path, format)
        for text in self._watch.sink.samples:
            file.take([text.encode() + b"\n"])
        file.close()
        for error in file.errors():
            raise OSError(error)

    def get_children(self) -> List[str]:
        """The newest thousand descendants as they were first seen, JSON texts."""
        return [Report(text) for text in self._watch.sink.children]

    def get_summary(self) -> Report:
        """What it came to until now, after the end exactly; JSON text that is read by key as well."""
        return report_of(records.line(self._watch.sampler.summary()))

    def get_metadata(self) -> Report:
        """What it was started as."""
        record = {key: value for key, value in report_of(self._watch.sink.metadata).items() if key != "kind"}
        return report_of(records.line(record))

    def get_env(self) -> Optional[Report]:
        """What it was started in; None without `write_env`."""
        env = self.get_metadata().get("env")
        return None if env is None else report_of(records.line(env))

    def get_end(self) -> Optional[Report]:
        """The record of its end; None while it runs."""
        return report_of(self._watch.end) if self._watch.end else None

    def until(self, timeout: Optional[float]) -> bool:
        """Whether it ended by itself; False: the time was over, and nothing of its tree is left."""
        limit = float("inf") if timeout is None else self._watch.began + timeout
        if self._death is not None:
            return True
        try:
            while not self._watch.turn(limit):
                if time.monotonic() >= limit:
                    self._end("timeout")
                    return False
            self._finish(None)
        except BaseException as error:
            self.abandon(error)
            raise
        return True

    def abandon(self, error: BaseException) -> None:
        """Nothing comes back: nothing of our command lives on; `error`, which cut it short, has `monitor`."""
        if self.__dict__.get("_process") is not None and self._death is None:
            self._end("user")
        error.monitor = self  # type: ignore[attr-defined] # where its reader looks for it

    @property
    def exit_code(self) -> Optional[int]:
        """As `subprocess` has it; None while it runs, and where nobody told us."""
        return None if self._death is None else self._death.code

    @property
    def monitor_errors(self) -> List[str]:
        """What went wrong with watching, in sentences; the command itself is not meant."""
        return self._watch.errors + self._watch.sink.errors()

    @property
    def stdout(self) -> Union[bytes, str, None]:
        """What it printed, where that was read; the last 64 KiB, or all that was asked for."""
        return self._rings["stdout"].kept(self._text) if "stdout" in self._rings else None

    @property
    def stderr(self) -> Union[bytes, str, None]:
        """The same of its other stream."""
        return self._rings["stderr"].kept(self._text) if "stderr" in self._rings else None

    def _prepare(
        self,
        options: Options,
        output_file: Optional[_Path],
        form: str,
        memory: bool,
        quiet: bool,
        ebpf: bool,
        *,
        mark: Optional[str],
    ) -> None:
        self._quiet, self._death = quiet, None  # type: bool, Optional[Death]
        self._launch: Optional[Launch] = None
        self._process: Optional[subprocess.Popen[Any]] = None
        self._rings: Dict[str, Ring] = {}
        self._text = Text()
        sampler = Sampler(options, alone=False, mark=mark)
        sink = Sink(None if output_file is None else file_of(output_file, form), memory=memory)
        self._watch = Watch(sampler, sink, options.base_interval_ms, options.max_interval_ms)
        if ebpf:
            self._watch.errors.append("enable_ebpf has no effect: system calls are not traced here")

    def _start(self, wanted: asked.Asked, *, pause: bool) -> None:
        launch = self._launch = Launch(wanted.words, wanted.then, **wanted.keywords)
        try:
            launch.arrive()
            if not pause:
                launch.release()
            self._watch.begin(launch.pid, wanted.shown, wanted.executable, waits.for_child(launch.pid))
            self._watch.released()
            process = self._process = launch.release()
            self._text = wanted.text
            for name, limit in wanted.rings.items():
                self._rings[name] = Ring(getattr(process, name), limit)
            if wanted.feed is not None and process.stdin is not None:
                feed(process.stdin, wanted.feed)
        except BaseException:
            self._process = launch.running()  # since a moment, and it may have started others
            if self._process is None:
                launch.cancel()
            elif not self._watch.pid:
                self._watch.begin(launch.pid, wanted.shown, wanted.executable, waits.for_child(launch.pid))
            raise

    def _end(self, killed: str) -> None:
        try:
            end_tree(self._watch, self._grace_s)
        finally:
            self._finish(killed)

    def _finish(self, killed: Optional[str]) -> None:
        self._death = self._watch.finish(killed)
        if self._process is not None and self._process.returncode is None:
            self._process.returncode = self._death.code  # None: somebody else knows
        self._release_all()
        if not self._quiet:
            for error in self.monitor_errors:
                print("onbox: %s" % error, file=sys.stderr)

    def _release_all(self) -> None:
        if self._launch is not None:
            self._launch.over()
        if self._adopting:
            kernel.disown()
            self._adopting = False
