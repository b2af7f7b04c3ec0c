"""How an asker is told: through the FIFO of a question, or in the words of 0.1.x on standard output."""

import contextlib
import os
import select
import stat
import time
from pathlib import Path
from typing import Any, Dict

from onbox.loop import console
from onbox.loop.faults import Faults
from onbox.loop.history import fitting
from onbox.wire import folder as place
from onbox.wire.text import dumped, worded
from onbox.wire.words import peek_block

CAP = 1 << 20
_WITHIN_S = 2.0
REFUSED, FAILED = "refused", "failed"


class Asker:
    """Who asked. Each way to be told comes back at once or within 2 s, and never raises."""

    verb = ""
    patience_s = _WITHIN_S

    def accepted(self, *, final: bool = False, **facts: Any) -> None:
        """It will be done."""

    def done(self, **facts: Any) -> None:
        """It is done."""

    def cannot(self, code: str, what: str, **facts: Any) -> None:
        """It is not done, `code` is `refused` or `failed`."""


class Question(Asker):
    """One with an id; its asker reads a FIFO of its own."""

    def __init__(self, folder: Path, faults: Faults, named: Dict[str, Any]) -> None:
        self.verb = named["verb"]
        self.named = named
        self._path = place.answer(folder, named["id"])
        self._faults = faults

    def accepted(self, *, final: bool = False, **facts: Any) -> None:
        """As Asker."""
        self._tell({"ok": True, "stage": "accepted", "final": final, "at": time.time(), **facts})

    def done(self, **facts: Any) -> None:
        """As Asker."""
        self._tell({"ok": True, "stage": "done", "final": True, "at": time.time(), **facts})

    def cannot(self, code: str, what: str, **facts: Any) -> None:
        """As Asker."""
        error = {"code": code, "what": what[:500]}
        self._tell({"ok": False, "final": True, "at": time.time(), **facts, "error": error})

    def _tell(self, said: Dict[str, Any]) -> None:
        try:
            line = _bounded(worded({**self.named, **said}))
            _written(self._path, line, self.patience_s)
        except (FileNotFoundError, BrokenPipeError):
            pass  # who asked has gone
        except Exception as error:  # noqa: BLE001 - the program must never hear of it
            self._faults.note(error)


class Plain(Asker):
    """A line of loopmonitor 0.1.x: what it is told stands on the program's standard output."""

    def __init__(self, verb: str, faults: Faults) -> None:
        self.verb = verb
        self._faults = faults

    def accepted(self, *, final: bool = False, **facts: Any) -> None:  # noqa: ARG002 - as Question
        """As Asker."""
        if self.verb == "continue":
            self.say("[loopmonitor] 'continue' received \N{EM DASH} loop will exit after this iteration.")

    def done(self, **facts: Any) -> None:
        """As Asker."""
        if self.verb == "checkpoint":
            self.say("[loopmonitor] Checkpoint saved to %s" % _name(facts))
        elif self.verb == "break":
            stopping = "[loopmonitor] Stopping \N{EM DASH} state saved."
            written = "[loopmonitor] State written to %s" % _name(facts)
            self.say("\n".join([peek_block(facts["state"]), stopping, written]))
        elif self.verb == "set":
            self.say("[loopmonitor] set %s = %s" % (facts["key"], facts["value"]))

    def cannot(self, code: str, what: str, **facts: Any) -> None:  # noqa: ARG002 - as Question
        """As Asker."""
        if self.verb == "checkpoint":
            self.say("[loopmonitor] Checkpoint failed: %s" % what)
        elif self.verb != "continue":
            self.say("[loopmonitor] '%s' failed: %s" % (self.verb, what))

    def say(self, text: str) -> None:
        """Nothing comes back: the lines are printed, or dropped and counted."""
        console.say(text, self._faults)


def _bounded(said: Dict[str, Any]) -> bytes:
    """The answer as a line of at most 1 MiB: histories are thinned, then lists cut, then values left out."""
    line = dumped(said) + b"\n"
    if len(line) > CAP and "history" in said:
        said = {**said, "history": fitting(said["history"], CAP // 2)}
        line = dumped(said) + b"\n"
    for tail in (100, 10, 0):
        if len(line) > CAP and "state" in said:
            tracked = {
                key: value[-tail:] if tail and isinstance(value, list) else str(value)[:50]
                for key, value in said["state"]["tracked"].items()
            }
            said = {**said, "state": {**said["state"], "tracked": tracked}}
            line = dumped(said) + b"\n"
    if len(line) > CAP:
        kept = {key: said[key] for key in ("id", "verb", "pid", "n", "at")}
        error = {"code": FAILED, "what": "the answer would have %d bytes" % len(line)}
        line = dumped({**kept, "ok": False, "final": True, "error": error}) + b"\n"
    return line


def _name(facts: Dict[str, Any]) -> str:
    """The snapshot's name in the program's folder, as 0.1.x says it."""
    return Path(facts["saved"]).name if facts.get("saved") else "nothing"


def _written(path: Path, line: bytes, patience_s: float) -> None:
    """Nothing comes back: the asker's FIFO has the line. Raises OSError, and when it is not read in time."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(str(path), flags)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISFIFO(about.st_mode) or about.st_uid != os.geteuid() or about.st_nlink != 1:
            raise place.Unsafe("not the FIFO of an asker of ours: %s" % path)
        deadline = time.monotonic() + patience_s
        left = memoryview(line)
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(descriptor, left) :]
                continue
            if not room.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError("an asker did not read its answer")
            if time.monotonic() > deadline:
                raise TimeoutError("an asker read its answer too slowly")
    finally:
        os.close(descriptor)
