"""The ranks of a group leave at one iteration, or not at all: agreed by `hold` and one vote."""

import contextlib
import math
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from onbox.ipc import answers, ask, ended, ours
from onbox.ipc.answers import Answer
from onbox.ipc.ask import Question
from onbox.ipc.known import Known
from onbox.ipc.shown import shown
from onbox.ipc.target import Chosen, answer, chosen, target
from onbox.wire import card

_ROUNDS = 5
_AS = {"continue": "continued", "break": "broken"}
_MARGIN_S = 0.5  # of iterations between asking and leaving, doubled each round
_ACCEPT_S = 4.0  # under the 5 s after which a waiting rank gives up
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


class Parted(NamedTuple):
    """What was chosen: whole groups, loops of no group, and loops that are a part only, with the reason."""

    groups: List[List[Chosen]]
    single: List[Chosen]
    refused: List[Answer]


def parted(verb: str, loops: Sequence[Chosen], living: Sequence[Known]) -> Parted:
    """`loops` by the groups they belong to, as the living cards tell."""
    groups: List[List[Chosen]] = []
    single: List[Chosen] = []
    refused: List[Answer] = []
    names = list(dict.fromkeys(_group(loop.known) for loop in loops))
    for name in names:
        part = [loop for loop in loops if _group(loop.known) == name]
        if name is None:
            single += part
            continue
        whole = [Chosen(known, known.n) for known in living if _group(known) == name]
        why = _incomplete(verb, part, whole, living)
        if why is None:
            groups.append(part)
        else:
            refused += [answer(loop, answers.REFUSED, why) for loop in part]
    return Parted(groups, single, refused)


def aim(states: Sequence[Dict[str, Any]], attempt: int) -> int:
    """The iteration at which all can leave: beyond the furthest by what the fastest does in a while."""
    furthest = max(_count(state) for state in states)
    totals = [total for total in (state.get("total") for state in states) if isinstance(total, int)]
    rates = [_count(state) / max(_seconds(state), 0.1) for state in states]
    beyond = furthest + (1 << attempt) + math.ceil(max(rates) * _MARGIN_S * ((1 << attempt) - 0.5))
    return min([beyond, *totals])  # where the loop ends, nobody gets further


def left(folder: Path, ranks: Sequence[Chosen], verb: str, wait_s: float) -> List[Answer]:
    """What came of `verb` in every rank: all left at one iteration, or none did."""
    deadline = time.monotonic() + wait_s
    last: List[Answer] = []
    for attempt in range(_ROUNDS):
        looked = ours.asked(folder, ranks, "peek", "", max(0.1, deadline - time.monotonic()))
        states = [found for found in (_state(one) for one in looked) if found is not None]
        if len(states) < len(ranks):
            return _held_back(ranks, looked)
        at = aim(states, attempt)
        agreed, found = _round(folder, ranks, verb, at, deadline)
        if agreed:
            return found
        last = found
        codes = {one.exit_code for one in found}
        if time.monotonic() > deadline or codes - {answers.OK, answers.REFUSED}:
            break  # who did not answer will not answer better to the next iteration
    return _held_back(ranks, last)


def _round(
    folder: Path, ranks: Sequence[Chosen], verb: str, at: int, deadline: float
) -> "tuple[bool, List[Answer]]":
    """Whether all agreed, and how each left; else who did not (nobody, where a rank's patience was over)."""
    from onbox.loop.ranks import GO, VOID, cast  # noqa: PLC0415 - brings the whole loop; only groups pay for it

    ballot = os.urandom(8).hex()
    questions = [Question(folder, rank, "hold", "%d %s %s" % (at, ballot, verb)) for rank in ranks]
    word = ""
    try:
        with contextlib.ExitStack() as stack:
            ask.opened(stack, questions)
            accept_by = min(deadline, time.monotonic() + _ACCEPT_S)
            ask.heard(questions, accept_by, lambda question: question.accepted is not None)
            if not all(_agreed(question) for question in questions):
                return False, [_disagreed(folder, question) for question in questions]
            word = cast(folder, ballot, GO)
            if word != GO:
                return False, []
            _wait_to_leave(folder, questions, deadline)
            return True, [_how_it_left(folder, question, verb, at) for question in questions]
    finally:
        if not word:
            cast(folder, ballot, VOID)


def _wait_to_leave(folder: Path, questions: Sequence[Question], deadline: float) -> None:
    while True:
        waiting = [question for question in questions if not _has_left(folder, question)]
        if not waiting or time.monotonic() > deadline:
            return
        ask.heard(waiting, min(deadline, time.monotonic() + 0.05), ask.is_over)
        if all(question.over for question in waiting):
            time.sleep(0.02)  # nobody has more to say; their records are still to come


def _has_left(folder: Path, question: Question) -> bool:
    if question.final is not None and question.final.get("stage") == "done":
        return True
    if not question.alive():
        return True
    return ended.record(folder, question.asked.known.identity, question.asked.n) is not None


def _how_it_left(folder: Path, question: Question, verb: str, at: int) -> Answer:
    asked, final = question.asked, question.final
    if final is not None and final.get("stage") == "done":
        return answer(
            asked,
            0,
            _left_text(verb, final.get("iteration"), final),
            reply=final,
            confirmed=True,
        )
    record = ended.record(folder, asked.known.identity, asked.n)
    if record is not None:
        if record.get("ended") == _AS[verb]:
            return answer(
                asked,
                0,
                _left_text(verb, ended.iteration(record), record),
                reply=record,
                confirmed=True,
            )
        code = 0 if ended.went_well(record) else answers.DIED
        return answer(asked, code, ended.sentence(record), reply=record, confirmed=True)
    if not question.alive():
        return answer(asked, answers.DIED, "the process died; %s" % ended.sentence(None))
    what = "accepted; all of its group leave when iteration %d ends" % at
    return answer(asked, answers.SILENT, what, reply=question.accepted or final)


def _left_text(verb: str, iteration: Any, said: Dict[str, Any]) -> str:
    goes, saved = "the program goes on", said.get("saved")
    if verb == "break":
        code = shown(said.get("exit_code", 88), 20)
        goes = "saved %s; the program ends with %s" % (shown(saved) if saved else "nothing", code)
    return "left after iteration %s with all of its group; %s" % (shown(iteration, 20), goes)


def _agreed(question: Question) -> bool:
    return question.accepted is not None or (question.final is not None and question.final.get("ok") is True)


def _disagreed(folder: Path, question: Question) -> Answer:
    if _agreed(question):
        return answer(question.asked, 0, "agreed")
    return ours.judged(folder, question, _ACCEPT_S)


def _held_back(ranks: Sequence[Chosen], found: Sequence[Answer]) -> List[Answer]:
    """The answers of a group that stays: who was asked and agreed is told which other kept it."""
    by_pid = {one.pid: one for one in found}
    culprit = next((one for one in found if one.exit_code), None)
    if culprit is None:
        why = "the ranks found no iteration that all could still reach; none has left"
        return [answer(rank, answers.REFUSED, why) for rank in ranks]
    why = "nobody leaves: PID %d did not agree" % culprit.pid
    grave = answers.SILENT if culprit.exit_code == answers.SILENT else answers.REFUSED
    return [
        by_pid[rank.known.pid] if by_pid[rank.known.pid].exit_code else answer(rank, grave, why)
        for rank in ranks
    ]


def _group(known: Known) -> Optional[str]:
    """The group of a loop that has fellows; None for one that stands alone."""
    held: Optional[card.Card] = known.card
    return held.group if held is not None and held.group is not None and (held.world or 1) > 1 else None


def _incomplete(
    verb: str, part: Sequence[Chosen], whole: Sequence[Chosen], living: Sequence[Known]
) -> Optional[str]:
    """Why `part` is not the whole group; None when it is."""
    world = part[0].known.card.world if part[0].known.card else None
    if set(part) == set(whole) and world == len(whole):
        return None
    if world != len(whole):
        return "it is one of %s ranks, and %d run here: the others would wait for it. --alone does it" % (
            world,
            len(whole),
        )
    all_of = _target_of(whole, living)
    return "it is one of %d ranks, which leave together or not at all: ipc %s %s (or --alone)" % (
        len(whole),
        verb,
        all_of,
    )


def _target_of(whole: Sequence[Chosen], living: Sequence[Known]) -> str:
    """One target that means exactly these loops, `all` where no shorter one does."""
    words = [
        str(whole[0].known.ppid),
        whole[0].known.label,
    ]
    for word in words:
        if set(chosen(target(word), living)) == set(whole):
            if _PLAIN.fullmatch(word):
                return word
            if "'" not in word and word.isprintable():
                return "'%s'" % word
    return "all"


def _state(one: Answer) -> Optional[Dict[str, Any]]:
    state = one.reply.get("state") if one.reply and one.exit_code == 0 else None
    return state if isinstance(state, dict) else None


def _count(state: Dict[str, Any]) -> int:
    count = state.get("iteration")
    return count if type(count) is int and count >= 0 else 0


def _seconds(state: Dict[str, Any]) -> float:
    seconds = state.get("elapsed_sec")
    return float(seconds) if isinstance(seconds, (int, float)) and math.isfinite(seconds) else 0.0
