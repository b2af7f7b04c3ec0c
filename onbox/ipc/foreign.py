"""Verbs to loops of loopmonitor's own, which cannot answer: what came of a command is seen from outside."""

import contextlib
import json
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import Dict, Generator, List, NamedTuple, Optional, Sequence, Tuple

from onbox.ipc import answers, known, outside, process
from onbox.ipc.answers import Answer
from onbox.ipc.channel import Channel, Nobody, Refused, encoded
from onbox.ipc.known import Known
from onbox.ipc.target import Chosen, answer
from onbox.wire import folder as place
from onbox.wire import state
from onbox.wire.registry import Torn

_ENDS_S = 2.0  # from leaving the loop to the end of the program
_LOOK_S, _LOOK_AT_MOST_S = 0.005, 0.1
_SNAPSHOTS = ("break", "checkpoint")
_CAP = 64 << 20
_Mark = Tuple[int, int, int]
_Steps = Generator[None, None, Answer]


class _Telling(NamedTuple):
    """One command on its way to one loop."""

    folder: Path
    asked: Chosen
    line: str
    deadline: float
    watched: process.Watched
    where: Optional[Path]  # its working folder: nobody can say it any more when it has ended


def plotted(folder: Path, asked: Chosen, last: int) -> Answer:
    """Its state, and the lists in it as series; of a number only the last value is known."""
    found = state.live(folder, asked.known.pid)
    if found is None:
        return answer(asked, 0, "no state yet: it writes one when its first iteration has ended")
    tracked = found.get("tracked")
    history: Dict[str, List[List[object]]] = {}
    for key, value in tracked.items() if isinstance(tracked, dict) else ():
        if isinstance(value, list):
            pairs: List[List[object]] = [[at + 1, one] for at, one in enumerate(value)]
            history[key] = pairs[-last:] if last else pairs
        else:
            history[key] = [[found.get("iteration"), value]]
    reply = {"state": found, "history": history}
    return answer(asked, 0, "iteration %s" % found.get("iteration"), reply=reply, confirmed=True)


def asked(folder: Path, loops: Sequence[Chosen], verb: str, arguments: str, wait_s: float) -> List[Answer]:
    """What came of `verb` in each loop within `wait_s`; they are asked side by side."""
    if verb == "memory":
        return [outside.memory(loop) for loop in loops]
    if verb == "stack":
        return [outside.stack(loop) for loop in loops]
    line = ("%s %s" % (verb, arguments)).rstrip()
    deadline, pause = time.monotonic() + wait_s, _LOOK_S
    with contextlib.ExitStack() as stack:
        running = [
            _told(
                _Telling(
                    folder,
                    loop,
                    line,
                    deadline,
                    process.Watched(loop.known.identity),
                    process.folder(loop.known.pid),
                )
            )
            for loop in loops
        ]
        for steps in running:
            stack.callback(steps.close)
        results: Dict[int, Answer] = {}
        while len(results) < len(running):
            for at, steps in enumerate(running):
                if at not in results:
                    try:
                        next(steps)
                    except StopIteration as ended:
                        results[at] = ended.value
            if len(results) < len(running):
                time.sleep(pause)
                pause = min(pause * 1.2, _LOOK_AT_MOST_S)
    return [results[at] for at in range(len(running))]


def _told(telling: _Telling) -> _Steps:
    """The answer to one command, waited for step by step."""
    asked, loop, verb = telling.asked, telling.asked.known, telling.line.split(" ", 1)[0]
    try:
        before = _snapshots(telling, verb)
        try:
            _checked(telling.line)
            if loop.kind == known.R:
                _appended(place.r_commands(telling.folder, loop.pid), telling.line)
                trouble = None
            else:
                trouble = yield from _sent(telling)
        except Nobody as nobody:
            return answer(asked, answers.NO_LOOP, str(nobody))
        except (Refused, ValueError) as refused:
            return answer(asked, answers.REFUSED, str(refused))
        if trouble is not None:
            return answer(asked, answers.SILENT, trouble)
        if verb == "set":
            return answer(asked, 0, "sent; loopmonitor does not tell whether it took it")
        return (yield from _outcome(telling, verb, before))
    finally:
        telling.watched.close()


def _checked(line: str) -> None:
    """Nothing comes back. Raises Refused, ValueError for what the loop would misread or refuse unseen."""
    encoded(line)
    verb, _, words = line.partition(" ")
    if verb == "set":
        from onbox.wire.literal import literal  # noqa: PLC0415 - brings the parser of Python

        key, _, value = words.partition("=")
        if not key.strip().isidentifier():
            raise Refused("the key is no name: %s" % key.strip()[:60])
        literal(value)


def _sent(telling: _Telling) -> Generator[None, None, Optional[str]]:
    """None when the loop has read the command, else why it has not in time. Raises Nobody, Refused."""
    pid, watched = telling.asked.known.pid, telling.watched
    channel = Channel(place.fifo(telling.folder, pid))
    try:
        while not (channel.taken() and channel.unread() == 0 and process.catches(pid, signal.SIGUSR1)):
            if not watched.alive() or not channel.same():
                raise Nobody("its loop has just ended")
            if time.monotonic() > telling.deadline:
                return "not sent: %s" % _busy(pid, channel)
            yield
        if not _fired(channel, telling):
            return "not sent: its pipe is full"
        while channel.unread() and watched.alive() and channel.same():
            if time.monotonic() > telling.deadline:
                return "sent, but it has not read it: %s" % process.waits_for(pid)
            yield
    finally:
        channel.close()
    return None


def _fired(channel: Channel, telling: _Telling) -> bool:
    """Whether the command was written, and then signalled; False, and no signal, for a full pipe.

    Raises Nobody, Refused.
    """
    pid = telling.asked.known.pid
    if process.owner(pid) != os.geteuid():
        raise Refused("the process belongs to another user")
    if process.unread_output(pid):
        raise Refused(
            "its standard output is a pipe that nobody reads any more: loopmonitor prints there "
            "and would end the program; nothing was sent"
        )
    if not telling.watched.alive():
        raise Nobody("it has just ended")
    if not channel.put(telling.line):
        return False
    # From here to the signal as few steps as can be: a loop that ends takes its handler away.
    safe = process.catches(pid, signal.SIGUSR1) and channel.same()
    try:
        signalled = safe and telling.watched.signalled(signal.SIGUSR1)
    except PermissionError:
        raise Refused("we may not signal that process; the command waits in its pipe") from None
    if not signalled:
        raise Nobody("its loop ended while it was told; no signal was sent")
    return True


def _busy(pid: int, channel: Channel) -> str:
    if not process.catches(pid, signal.SIGUSR1):
        return "it does not catch SIGUSR1, which would end it"
    if not channel.taken():
        return "another command is under way to it"
    return "an earlier command still waits there; %s" % process.waits_for(pid)


def _appended(path: Path, line: str) -> None:
    """Nothing comes back: the line is in the file that a loop in R polls. Raises Refused."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(str(path), flags, 0o600)
    except OSError as error:
        raise Refused("%s: %s" % (path, error.strerror)) from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_nlink != 1:
            raise Refused("%s is not a plain file of ours" % path)
        os.write(descriptor, encoded(line))
    except OSError as error:
        raise Refused("%s: %s" % (path, error.strerror)) from None
    finally:
        os.close(descriptor)


def _outcome(telling: _Telling, verb: str, before: Dict[Path, _Mark]) -> _Steps:
    """What `continue`, `break` or `checkpoint` did, as seen in registry, process and folder."""
    asked, loop = telling.asked, telling.asked.known
    gone_at: Optional[float] = None
    left_at: Optional[float] = None
    while True:
        saved = next(
            (path for path, mark in _snapshots(telling, verb).items() if before.get(path) != mark), None
        )
        reply = None if saved is None else {"saved": str(saved)}
        if verb == "checkpoint" and saved is not None:
            return answer(asked, 0, "saved %s" % saved, reply=reply, confirmed=True)
        alive = telling.watched.alive()
        try:
            listed = known.still(telling.folder, loop, asked.n)
        except Torn:
            listed = True
        if verb != "checkpoint" and not listed:
            left_at = left_at or time.monotonic()
            if verb == "continue" or not alive or time.monotonic() > left_at + _ENDS_S:
                return _left(asked, saved, alive=alive)
            yield
            continue
        if not alive:
            gone_at = gone_at or time.monotonic()
            if time.monotonic() > gone_at + 0.1:  # its last writes were before its end: looked at once more
                return answer(asked, answers.DIED, "it died, still registered: it was killed", reply=reply)
        elif time.monotonic() > telling.deadline:
            return answer(asked, answers.SILENT, _unseen(loop, verb), reply=reply)
        yield


def _left(asked: Chosen, saved: Optional[Path], *, alive: bool) -> Answer:
    where = "" if saved is None else ", saved %s" % saved
    ends = "the program goes on" if alive else "the program has ended"
    reply = None if saved is None else {"saved": str(saved)}
    return answer(asked, 0, "left its loop%s; %s" % (where, ends), reply=reply, confirmed=True)


def _unseen(loop: Known, verb: str) -> str:
    if verb == "checkpoint":
        return (
            "it read the command, but no new snapshot appeared in %s: no state yet, or it cannot write there"
            % (process.folder(loop.pid) or "its folder")
        )
    return "sent, but it has not left: %s" % process.waits_for(loop.pid)


def _snapshots(telling: _Telling, verb: str) -> Dict[Path, _Mark]:
    """The whole snapshots of that verb in the process' folder, each with what tells it from an older one."""
    where = telling.where
    if where is None or verb not in _SNAPSHOTS:
        return {}
    name = re.compile(r"loopmonitor_%s_%d_[0-9TZ]+\.json" % (verb, telling.asked.known.pid))
    found: Dict[Path, _Mark] = {}
    try:
        paths = [path for path in where.iterdir() if name.fullmatch(path.name)]
    except OSError:
        return {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            about = path.lstat()
            json.loads(place.read_plain(path, _CAP).decode("utf-8"))  # a cut one is still being written
            found[path] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return found
