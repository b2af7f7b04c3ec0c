"""What each word of a question, or of a line of loopmonitor 0.1.x, does."""

import re
import threading
from typing import Any, Callable, Dict, Optional

from onbox.loop import looks
from onbox.loop.answers import REFUSED, Asker, Plain
from onbox.loop.history import newest
from onbox.loop.ranks import Held
from onbox.loop.running import BROKEN, CONTINUED, Loop
from onbox.wire.literal import literal
from onbox.wire.words import peek_block

QUESTION = re.compile(r"@([0-9a-f]{16})(?:/([0-9]{1,9}))? ([a-z]+)(?: (.*))?")
_HOLD = re.compile(r"([0-9]{1,18}) ([0-9a-f]{16}) (continue|break)")
_WAITING = 100  # askers of one loop at a time
_HOW = {"continue": CONTINUED, "break": BROKEN}
_SHOWN = 200


class Refused(ValueError):  # noqa: N818 - reads as what happened
    """The loop will not do it; the sentence says why."""


def answer(loop: Loop, asker: Asker, verb: str, words: str) -> None:
    """Nothing comes back: `asker` was told, or will be when the iteration ends."""
    act = _ACTS.get(verb)
    if act is None:
        asker.cannot(REFUSED, "no such verb: %s" % verb[:_SHOWN], iteration=loop.iteration())
        return
    try:
        act(loop, asker, words)
    except Refused as why:
        asker.cannot(REFUSED, str(why), iteration=loop.iteration())


def plain(loop: Optional[Loop], line: str, asker: Plain, pid: int) -> None:
    """Nothing comes back: the line of 0.1.x had its effect; what is no command of it has none."""
    verb, _, words = line.partition(" ")
    if loop is None or verb not in _PLAIN or (words and verb not in {"plot", "set"}):
        return
    if verb in {"peek", "plot"} and loop.iteration() == loop.initial:
        asker.say("[loopmonitor] No state available for PID %d" % pid)
    elif verb == "peek":
        asker.say(peek_block(loop.state()))
    elif verb == "plot":
        asker.say(
            "[loopmonitor] No window is opened from inside the loop; see it with: ipc plot %d --png FILE"
            % pid
        )
    elif verb == "stack":
        asker.say(looks.stack_text(pid))
    elif verb == "memory":
        asker.say("[loopmonitor] PID %d memory \N{EM DASH} RSS: %.1f MB" % (pid, looks.peak_kib() / 1024))
    else:
        answer(loop, asker, verb, words)


def _peek(loop: Loop, asker: Asker, _words: str) -> None:
    asker.done(iteration=loop.iteration(), state=_state(loop))


def _plot(loop: Loop, asker: Asker, words: str) -> None:
    if not (words.isascii() and words.isdigit() and len(words) <= 9):
        raise Refused("plot takes how many points: a number, 0 for all")
    asker.done(iteration=loop.iteration(), state=_state(loop), history=newest(loop.series, int(words)))


def _set(loop: Loop, asker: Asker, words: str) -> None:
    key, equals, text = words.partition("=")
    key = key.strip()
    if not equals or not key.isidentifier():
        raise Refused("invalid identifier: %r" % key[:_SHOWN])
    try:
        value = literal(text)
    except ValueError as error:
        raise Refused(str(error)) from None
    loop.injected[key] = value
    # The one that is running may have asked before; the one behind it asks later.
    asker.done(key=key, value=repr(value), iteration=loop.iteration() + 2)


def _leave(loop: Loop, asker: Asker, _words: str) -> None:
    _wait_at_boundary(loop, asker)


def _checkpoint(loop: Loop, asker: Asker, _words: str) -> None:
    """Without a hook it is done at once, also when the loop's thread is stuck."""
    if loop.save is None:
        loop.tell_saved(asker)
    else:
        _wait_at_boundary(loop, asker)


def _wait_at_boundary(loop: Loop, asker: Asker) -> None:
    if loop.held is not None and asker.verb in _HOW:
        raise Refused("held: the ranks are agreeing on iteration %d" % loop.held.at)
    if len(loop.requests) >= _WAITING:
        raise Refused("%d others wait for the end of this iteration" % _WAITING)
    asker.accepted(iteration=loop.iteration())
    loop.ask(asker)


def _stack(loop: Loop, asker: Asker, _words: str) -> None:
    asker.done(iteration=loop.iteration(), threads=looks.threads(threading.get_ident()))


def _memory(loop: Loop, asker: Asker, _words: str) -> None:
    asker.done(iteration=loop.iteration(), **looks.memory())


def _hold(loop: Loop, asker: Asker, words: str) -> None:
    said = _HOLD.fullmatch(words)
    if said is None:
        raise Refused("hold takes an iteration, a vote of 16 hex digits, and continue or break")
    at = int(said[1])
    if loop.held is not None or loop.stopping:
        raise Refused("held: the loop is leaving already")
    if loop.total is not None and at > loop.total:
        raise Refused("the loop ends at iteration %d, before %d" % (loop.total, at))
    if not loop.hold(Held(at, said[2], _HOW[said[3]])):
        raise Refused("iteration %d has passed" % at)
    asker.accepted(final=True, iteration=loop.iteration())


def _state(loop: Loop) -> Dict[str, Any]:
    return {**loop.state(), "faults": loop.faults.count, "fault": loop.faults.newest}


_Act = Callable[[Loop, Asker, str], None]
_ACTS: Dict[str, _Act] = {
    "peek": _peek,
    "plot": _plot,
    "set": _set,
    "continue": _leave,
    "break": _leave,
    "checkpoint": _checkpoint,
    "stack": _stack,
    "memory": _memory,
    "hold": _hold,
}
_PLAIN = frozenset(_ACTS) - {"hold"}
