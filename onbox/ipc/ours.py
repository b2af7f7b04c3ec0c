"""Verbs to loops of ours, that answer themselves."""

import contextlib
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from onbox.ipc import answers, ask, ended, outside, process
from onbox.ipc.answers import Answer
from onbox.ipc.ask import Question
from onbox.ipc.target import Chosen, answer
from onbox.wire import state

LEAVING = ("continue", "break", "hold")


def asked(folder: Path, loops: Sequence[Chosen], verb: str, arguments: str, wait_s: float) -> List[Answer]:
    """What each loop answered to `verb` within `wait_s`; they are asked side by side."""
    questions = [Question(folder, loop, verb, arguments) for loop in loops]
    with contextlib.ExitStack() as stack:
        ask.opened(stack, questions)
        ask.heard(questions, time.monotonic() + wait_s, ask.is_over)
    return [judged(folder, question, wait_s) for question in questions]


def judged(folder: Path, question: Question, wait_s: float) -> Answer:
    """The answer that a question ended with, also where that is none."""
    asked, final = question.asked, question.final
    if final is not None:
        return _answered(asked, question.verb, final)
    record = ended.record(folder, asked.known.identity, asked.n)
    leaves = question.verb in LEAVING
    if leaves and question.written and ended.went_well(record):
        return answer(asked, 0, "%s" % ended.sentence(record), reply=record, confirmed=True)
    if question.problem is not None:
        code, what = question.problem
        if code == answers.DIED or record is not None:
            what = "%s; %s" % (what, ended.sentence(record))
        return answer(asked, code, what)
    return _silent(folder, question, wait_s)


def _silent(folder: Path, question: Question, wait_s: float) -> Answer:
    asked = question.asked
    pid = asked.known.pid
    if question.accepted is not None:
        return answer(
            asked,
            answers.SILENT,
            "accepted; it leaves when the iteration ends",
            reply=question.accepted,
        )
    seen = _from_outside(asked, question.verb)
    if seen is not None:
        return seen
    what = "no answer in %g s: %s" % (wait_s, process.waits_for(pid))
    if not question.written:
        what += "; its pipe is full, nothing was written"
    elif question.verb not in outside.ASKING:
        what += "; the command waits there and is done as soon as it goes on"
    reply = None
    if question.verb == "peek":
        with contextlib.suppress(OSError):
            last = state.live(folder, pid)
            reply = None if last is None else {"state": last}
    return answer(asked, answers.SILENT, what, reply=reply)


def _from_outside(asked: Chosen, verb: str) -> Optional[Answer]:
    """What can be seen without its help: `stack` and `memory`."""
    if verb == "memory":
        return outside.memory(asked)
    if verb == "stack":
        return outside.stack(asked)
    return None


def _answered(asked: Chosen, verb: str, said: Dict[str, Any]) -> Answer:
    if said.get("ok") is True:
        return answer(asked, 0, _sentence(verb, said), reply=said, confirmed=True)
    error = said.get("error")
    what = error.get("what") if isinstance(error, dict) else None
    return answer(asked, answers.REFUSED, str(what or "it refused without a reason"), reply=said)


def _sentence(verb: str, said: Dict[str, Any]) -> str:  # noqa: PLR0911 - one line a verb
    at = said.get("iteration")
    if verb == "set":
        return "set %s = %s, from iteration %s on" % (said.get("key"), said.get("value"), at)
    if verb == "continue":
        return "left after iteration %s; the program goes on" % at
    if verb == "break":
        code = said.get("exit_code", 88)
        return "left after iteration %s, saved %s; the program ends with %s" % (at, said.get("saved"), code)
    if verb == "checkpoint":
        hook = said.get("hook")
        return "saved %s%s" % (said.get("saved"), "" if hook is None else "; its save hook said %s" % hook)
    if verb == "stack":
        threads = said.get("threads")
        return outside.threads_text(threads if isinstance(threads, list) else [])
    if verb == "memory":
        return outside.memory_text(said)
    return "iteration %s" % at
