"""Questions to loops of ours: an answer FIFO made first, one line written, lines read until the last."""

import contextlib
import os
import select
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from onbox.ipc import answers, known, process
from onbox.ipc.channel import Channel, Nobody, Refused
from onbox.ipc.target import Chosen
from onbox.wire import folder as place
from onbox.wire import text

MAX_ANSWER = 1 << 20
_LOOK_MS = 100  # between two looks at process and card where nothing is heard
_CARD_EVERY_S = 0.3
_PIECE = 1 << 16


class Problem(NamedTuple):
    """Why no answer will come: an exit code of `answers`, and a sentence."""

    exit_code: int
    what: str


class Question:
    """One question to one loop; what came back stands in `accepted`, `final` or `problem`."""

    def __init__(self, folder: Path, asked: Chosen, verb: str, arguments: str = "") -> None:
        self.asked, self.verb, self._folder = asked, verb, folder
        self.id = os.urandom(8).hex()
        self._line = ("@%s/%d %s %s" % (self.id, asked.n, verb, arguments)).rstrip()
        self.accepted: Optional[Dict[str, Any]] = None
        self.final: Optional[Dict[str, Any]] = None
        self.problem: Optional[Problem] = None
        self.written = False
        self._path = place.answer(folder, self.id)
        self._ends: List[int] = []
        self._heard = b""
        self._length = 0
        self._card_at = 0.0
        self._loop_gone = False
        self._process = process.Watched(asked.known.identity)

    def open(self) -> None:
        """Nothing comes back: the answer FIFO stands. Raises OSError."""
        os.mkfifo(str(self._path), 0o600)
        flags = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        self._ends.append(os.open(str(self._path), os.O_RDONLY | flags))
        # A writing end of our own: else every pause reads as an end.
        self._ends.append(os.open(str(self._path), os.O_WRONLY | flags))

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.final is not None or self.problem is not None

    @property
    def descriptor(self) -> int:
        """Where its answers come in."""
        return self._ends[0]

    def alive(self) -> bool:
        """Whether the process that was asked lives."""
        return self._process.alive()

    def go_on(self) -> None:
        """Nothing comes back: what can be done without waiting is done."""
        if self.over:
            return
        alive = self._process.alive()
        if alive and not self.written:
            self._write()
        self._read()
        if self.final is not None or self.problem is not None:
            return
        if not alive:
            self.problem = Problem(answers.DIED, "the process died before it answered")
        elif self.written:
            self._look_at_card()

    def _write(self) -> None:
        try:
            channel = Channel(place.fifo(self._folder, self.asked.known.pid))
            try:
                self.written = self._process.alive() and channel.put(self._line)
            finally:
                channel.close()
        except Nobody as nobody:
            card = self.asked.known.card
            if card is not None and card.why:  # it lives, and let nobody in
                self.problem = Problem(answers.REFUSED, "it cannot be asked: %s" % card.why)
            else:
                self.problem = Problem(answers.NO_LOOP, str(nobody))
        except Refused as refused:
            self.problem = Problem(answers.REFUSED, str(refused))

    def _read(self) -> None:
        while self.final is None:
            try:
                piece = os.read(self.descriptor, _PIECE)
            except BlockingIOError:
                return
            if not piece:
                return
            self._length += len(piece)
            if self._length > MAX_ANSWER + _PIECE:
                self.problem = Problem(answers.REFUSED, "its answer is longer than 1 MiB")
                return
            *lines, self._heard = (self._heard + piece).split(b"\n")
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            said = text.loaded(line)
        except ValueError:
            return  # not from a loop of ours; the real answer may follow
        if said.get("id") != self.id or self.final is not None:
            return
        if said.get("final") is True:
            self.final = said
        else:
            self.accepted = said

    def _look_at_card(self) -> None:
        """A loop that has ended answers nobody: looked at twice, so that a last answer has its time."""
        if time.monotonic() < self._card_at:
            return
        self._card_at = time.monotonic() + _CARD_EVERY_S
        with contextlib.suppress(OSError):
            runs = known.still(self._folder, self.asked.known, self.asked.n)
            if not runs and self._loop_gone:
                self.problem = Problem(answers.NO_LOOP, "the loop ended before it answered")
            self._loop_gone = not runs

    def close(self) -> None:
        """Nothing comes back: the answer FIFO is gone."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        while self._ends:
            os.close(self._ends.pop())
        self._process.close()


def heard(questions: Sequence[Question], deadline: float, enough: Callable[[Question], bool]) -> None:
    """Nothing comes back: each question is `enough`, or over, or `deadline` (monotonic) is there."""
    while True:
        for question in questions:
            question.go_on()
        left = deadline - time.monotonic()
        waiting = [question for question in questions if not (question.over or enough(question))]
        if not waiting or left <= 0:
            return
        poll = select.poll()
        for question in waiting:
            poll.register(question.descriptor, select.POLLIN)
        # A full pipe is tried again sooner: its reader may be about to take it.
        pause = _LOOK_MS if all(question.written for question in waiting) else 10
        poll.poll(min(pause, max(1, int(left * 1000))))


def is_over(question: Question) -> bool:
    """Whether nothing more will come: the usual `enough`."""
    return question.over


def opened(stack: contextlib.ExitStack, questions: Sequence[Question]) -> None:
    """Nothing comes back: each question can be answered, and `stack` removes all of it, whatever happens."""
    for question in questions:
        stack.callback(question.close)  # first: a signal after the opening would leave a FIFO behind
        question.open()
