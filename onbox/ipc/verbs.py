"""What each verb does to the loops that were chosen: ours answer, others are watched from outside."""

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from onbox.ipc import answers, clean, ended, foreign, known, ours, outside, process, together
from onbox.ipc.answers import Answer, Trouble
from onbox.ipc.known import Roll
from onbox.ipc.target import Chosen, Target, answer, chosen, numbers, target
from onbox.wire import card as cards

_WARNING = (
    "it is the foreground process of a terminal: its shell takes the terminal back now, and after a "
    "resume it runs in the background. Ctrl+Z there, then `fg`, is the safe way"
)


class Work(NamedTuple):
    """One command: where, what was typed, who runs, and which loops are meant."""

    folder: Path
    options: argparse.Namespace
    found: Roll
    loops: List[Chosen]


def meant(folder: Path, options: argparse.Namespace) -> Work:
    """The work for a verb with a target. Raises Trouble where it means no loop."""
    found = known.roll(folder)
    wanted = target(options.target)
    loops = [loop for loop in chosen(wanted, found.living) if _tagged(loop, options.tag)]
    if loops:
        work = Work(folder, options, found, loops)
        if options.only:
            only(work)
        return work
    what = _nobody(wanted, options.tag)
    process_of = [one for one in found.living if one.pid == wanted.pid]
    if process_of:
        running = ", ".join(map(str, numbers(process_of[0])))
        what = "PID %d runs no loop %s; its loops: %s." % (wanted.pid or 0, wanted.n, running)
    elif wanted.pid in found.gone:
        what += " PID %d: %s." % (wanted.pid or 0, found.gone[wanted.pid or 0].why)
    raise Trouble(answers.NO_LOOP, "no-loop", what, "ipc list")


def _nobody(wanted: Target, tag: Optional[str]) -> str:
    """That nothing is meant: for what loopmonitor's command takes too in its words, which programs read."""
    if tag is None:
        return "No alive processes matching '%s'." % wanted.text
    which = "No loop" if wanted.text == "all" else "No loop matching '%s'" % wanted.text
    return "%s of the run with the tag %s runs here." % (which, tag)


def past(folder: Path, options: argparse.Namespace) -> Optional[Answer]:
    """How the loop ended that was meant by its pid, by the newest record it left; None without one.

    A card that lies there still names a loop that left none: no older one speaks for it.
    """
    wanted = target(options.target)
    if wanted.pid is None or (wanted.n is None and cards.read(folder, wanted.pid) is not None):
        return None
    record = ended.newest(folder, wanted.pid, wanted.n)
    if record is None:
        return None
    code = answers.OK if ended.went_well(record) else answers.DIED
    label, tag, n = record.get("label"), record.get("tag"), record.get("n")
    if options.tag is not None and str(tag).split("/")[0] != options.tag:
        return None
    return Answer(
        pid=wanted.pid,
        label=label if isinstance(label, str) else "",
        kind=known.OURS,
        n=n if isinstance(n, int) else 1,
        exit_code=code,
        says=ended.sentence(record),
        tag=tag if isinstance(tag, str) else None,
        confirmed=True,
        reply=record,
    )


def _tagged(loop: Chosen, tag: Optional[str]) -> bool:
    """Whether it belongs to the run of that tag, in whichever stage; every loop does where none is given."""
    card = loop.known.card
    return tag is None or (card is not None and (card.tag or "").split("/")[0] == tag)


def only(work: Work) -> Chosen:
    """The one loop that is meant. Raises Trouble for several."""
    if len(work.loops) == 1:
        return work.loops[0]
    pids = " ".join("%d" % loop.known.pid for loop in work.loops[:8])
    what = "'%s' means %d loops, one is needed: %s" % (work.options.target, len(work.loops), pids)
    raise Trouble(answers.USAGE, "usage", what, "ipc list")


def done(work: Work) -> List[Answer]:
    """What came of the verb in each loop, in the order of the list."""
    act = _ACTS.get(work.options.verb, _asked)
    found = {(one.pid, one.n): one for one in act(work)}
    return [found[loop.known.pid, loop.n] for loop in work.loops]


def _asked(work: Work) -> List[Answer]:
    options = work.options
    arguments = {"set": getattr(options, "assignment", ""), "plot": str(getattr(options, "last", 0))}
    return _by_kind(work, work.loops, arguments.get(options.verb, ""))


def _by_kind(work: Work, loops: Sequence[Chosen], arguments: str = "") -> List[Answer]:
    """Ours and others, each side by side among themselves."""
    mine, others = _split(loops)
    verb, wait_s = work.options.verb, work.options.wait
    held = [loop for loop in mine if verb in outside.SEEN and outside.is_paused(loop)]
    found = [outside.paused(work.folder, loop, verb) for loop in held]
    mine = [loop for loop in mine if loop not in held]
    found += ours.asked(work.folder, mine, verb, arguments, wait_s) if mine else []
    if verb == "peek":
        return found + [outside.peeked(work.folder, loop) for loop in others]
    if verb == "plot":
        return found + [foreign.plotted(work.folder, loop, work.options.last) for loop in others]
    return found + (foreign.asked(work.folder, others, verb, arguments, wait_s) if others else [])


def _leaving(work: Work) -> List[Answer]:
    verb, wait_s = work.options.verb, work.options.wait
    if work.options.alone:
        return _by_kind(work, work.loops)
    parts = together.parted(verb, work.loops, work.found.living)
    found = list(parts.refused)
    if parts.groups:
        clean.forgotten(work.folder, work.found.living)  # a new vote is made now
    for group in parts.groups:
        found += together.left(work.folder, group, verb, wait_s)
    return found + (_by_kind(work, parts.single) if parts.single else [])


def _paused(work: Work) -> List[Answer]:
    deadline = time.monotonic() + work.options.wait
    return [_signalled(loop, signal.SIGSTOP, deadline) for loop in work.loops]


def _resumed(work: Work) -> List[Answer]:
    deadline = time.monotonic() + work.options.wait
    return [_signalled(loop, signal.SIGCONT, deadline) for loop in work.loops]


def _signalled(loop: Chosen, number: int, deadline: float) -> Answer:
    """Stopped or gone on, as the kernel shows it by then; only a process that is proven to be the loop's."""
    pid, stop = loop.known.pid, number == signal.SIGSTOP
    warning = stop and process.in_foreground(pid)
    watched = process.Watched(loop.known.identity)
    try:
        if process.owner(pid) != os.geteuid() or not watched.signalled(number):
            return answer(loop, answers.DIED, "is gone; nothing was signalled")
        while (process.state_letter(pid) in ("T", "t")) != stop and time.monotonic() < deadline:
            time.sleep(0.005)
    except PermissionError:
        return answer(loop, answers.REFUSED, "may not be signalled by us")
    finally:
        watched.close()
    letter = process.state_letter(pid)
    if (letter in ("T", "t")) != stop:
        return answer(loop, answers.SILENT, "was signalled, and is in state %s" % (letter or "gone"))
    says = "paused (SIGSTOP)." if stop else "resumed (SIGCONT)."
    reply = {"state_letter": letter, "warning": _WARNING if warning else None}
    return answer(loop, 0, says, reply=reply, confirmed=True)


def _split(loops: Sequence[Chosen]) -> "tuple[List[Chosen], List[Chosen]]":
    mine = [loop for loop in loops if loop.known.card is not None]
    return mine, [loop for loop in loops if loop.known.card is None]


_ACTS: Dict[str, Callable[[Work], List[Answer]]] = {
    "continue": _leaving,
    "break": _leaving,
    "pause": _paused,
    "resume": _resumed,
}
