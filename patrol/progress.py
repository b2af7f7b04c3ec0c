"""What a run's log says: how far it is, that it only breathes, or that it crashed. Pure; text in, values out.

A heartbeat line proves a process and no progress (it is often printed by a thread of its own while the
training hangs), so it never counts as an advance. Nothing here decides: crash lines are evidence only.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import Struct

from fleet.model.probe import Loop
from fleet.model.verdict import Progress, Verdict
from patrol import bars

MAX_LINE_CHARS = 400
_MAX_VALUES = 4
_TRACKED_SHOWN = 2
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")
_ENDS = re.compile(rb"[\r\n]")

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_THOUSANDS = r"(?:,\d{3}){1,3}(?![\d.]|,\d)"
_INT = rf"(\d{{1,3}}{_THOUSANDS}|\d{{1,12}}(?!{_THOUSANDS}))"
_END = r"(?![\w.]|\s{0,3}%\|)"  # what a bar shows is its own, not the word's before it
# A comma within a number is a point to some and nothing to others: such a one is not read.
_NUMBER = r"([-+]?(?:\d{1,12}(?:\.\d{0,12}|(?!,\d))|\.\d{1,12})(?:[eE][-+]?\d{1,3})?|nan|[-+]?inf)" + _END

# Coarsest unit first: its count is what a person asks for; finer ones still count as an advance.
_STEPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("epoch", re.compile(rf"\bepoch\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?{_END}", re.IGNORECASE)),
    (
        "step",
        re.compile(
            rf"\b(?:global[_ ])?step\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?{_END}", re.IGNORECASE
        ),
    ),
    (
        "iter",
        re.compile(rf"\biter(?:ation)?\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?{_END}", re.IGNORECASE),
    ),
    ("batch", re.compile(rf"\bbatch\s*[:#=]?\s*\[?{_INT}\s*(?:/|of)\s*{_INT}{_END}", re.IGNORECASE)),
    ("it", re.compile(rf"\d{{1,3}}%\|[^|]{{0,300}}\|\s*{_INT}/{_INT}\s*\[")),
)
LOOP_UNIT = "iteration"  # of a loop that says itself where it is: no line of a log is as exact
RANK = {unit: len(_STEPS) - place for place, (unit, _) in enumerate(_STEPS)} | {LOOP_UNIT: len(_STEPS) + 1}

_VALUE = re.compile(
    r"(?<![\w-])(train[_ ]loss|val(?:idation)?[_ ]loss|test[_ ]loss|loss|train|val(?:idation)?|test"
    r"|(?:train|val|test)[_ ]acc(?:uracy)?|acc(?:uracy)?"
    r"|lr|ppl|perplexity|f1|auc|map|miou|iou|mae|rmse|mse|bleu|reward)"
    rf"\s*[:=]\s*{_NUMBER}",
    re.IGNORECASE,
)

_KNOWN_NAME = re.compile(_VALUE.pattern.partition(r"\s*[:=]")[0], re.IGNORECASE)

_HEARTBEAT = re.compile(
    r"^\W*(?:heart[ _-]?beat|keep[ _-]?alive)\b|\[\s*(?:heart[ _-]?beat|keep[ _-]?alive)\b"
    r"|\bstill\s+(?:running|alive|waiting|working|here)\b",
    re.IGNORECASE,
)

# Anchored at the line's start; a name must end in Error or Exception and be followed by words, so that
# "Mean Absolute Error: 0.3", "ValidationError: 0.12" and "Killed 3 bugs" are what they are: results.
_CRASH = re.compile(
    r"^(?:"
    r"(?:\[rank\d+\]:\s*)?Traceback \(most recent call last\):"
    r"|(?:\[rank\d+\]:\s*)?(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Z]\w{0,60}(?:Error|Exception)(?:\s*$|:\s*(?![-+\d.\s]|nan\b|inf\b)\S)"
    r"|(?:MemoryError|KeyboardInterrupt)\s*$"
    r"|Fatal Python error: "
    r"|(?:\S{1,200}: line \d+:\s+\d+ )?(?:Killed|Segmentation fault|Bus error|Aborted|Illegal instruction)"
    r"(?: +\(core dumped\))?(?:\s*$|\s{2,}\S)"
    r"|terminate called (?:after throwing|without an active exception)"
    r"|CUDA (?:error|out of memory)[:.]"
    r"|slurmstepd: error: "
    r"|(?:.{1,200}: )?No space left on device\s*$"
    r")"
)


# The chain's own lines come with an attempt or a marker, which are advances by themselves.
_CHAIN = re.compile(r"^== (?:attempt \d+|stage \S+, attempt \d+|skip \S+: attempt)")

LAST_LINES_KEPT = 5


class LogNews(Struct, frozen=True):
    """What new bytes of a log say.

    `lines` counts whole lines that are neither heartbeats nor bars nor the chain's own, `heartbeats` the
    heartbeats. `bar` is where the newest progress bar stands, or another step that the unfinished line
    names: a bar that is only drawn again proves nothing. `tail_bytes` is the length of that unfinished
    line, which is judged again when it has its end. `progress` None: no step was recognised.
    `last_line` is the newest line that is no heartbeat, `last_lines` the newest whole ones, oldest
    first: text of the box. `stood_s` is how long the newest heartbeat's counter had not moved then, where it
    says so.
    """

    lines: int
    heartbeats: int
    bar: str | None
    tail_bytes: int
    progress: Progress | None
    last_line: str | None
    last_lines: tuple[str, ...]
    crash_lines: int
    stood_s: float | None = None


def read_news(content: bytes, heartbeat: Iterable[str] = (), *, skip_first: bool = False) -> LogNews:
    r"""What `content` says. `skip_first`: it begins in the middle of a line, which is not judged.

    A carriage return ends a line too, as progress bars use it.

    >>> read_news(b"Epoch 3/90 - loss: 0.41\n[HEARTBEAT 10:00:01]\n").progress.index
    3
    """
    patterns = tuple(pattern for pattern in heartbeat if pattern)
    *finished, tail = _ENDS.split(content)
    if skip_first:
        finished, tail = (finished[1:], tail) if finished else ([], b"")
    seen = _Seen()
    heartbeats, stood_s = 0, None
    for raw in finished:
        line = clean(raw)
        if is_heartbeat(line, patterns):
            heartbeats += 1
            stood_s = bars.stood_s(line)
        elif line and not _CHAIN.match(line):
            seen.see(line)
    open_line = clean(tail)
    if open_line and not is_heartbeat(open_line, patterns):
        seen.see_open(open_line)
    return LogNews(
        seen.lines,
        heartbeats,
        seen.bar,
        len(tail),
        seen.progress(),
        seen.last_line,
        tuple(seen.last_lines),
        seen.crash_lines,
        stood_s,
    )


class _Seen:
    """What the lines said so far: the newest step of each unit, the newest values and bar."""

    def __init__(self) -> None:
        self.lines = 0
        self.crash_lines = 0
        self.bar: str | None = None
        self.last_line: str | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES_KEPT)
        self._steps: dict[str, tuple[int, int | None]] = {}
        self._values: tuple[tuple[str, str], ...] = ()
        self._etas: dict[str, float] = {}
        self._inside: dict[str, _Inside] = {}

    def see(self, line: str) -> None:
        """A whole line."""
        steps = self._read(line)
        if "it" in steps:
            self.bar = _place(steps)
        else:
            self.lines += 1
            self.last_lines.append(line)
            self.crash_lines += bool(_CRASH.search(line))

    def see_open(self, line: str) -> None:
        """The line that has no end yet."""
        steps = self._read(line)
        self.bar = _place(steps) if steps else self.bar

    def progress(self) -> Progress | None:
        """The newest step of the coarsest unit."""
        for unit, _ in _STEPS:
            if unit in self._steps:
                index, total = self._steps[unit]
                inside = self._inside.get(unit, _Inside())
                return Progress(
                    index=index,
                    total=total,
                    unit=unit,
                    values=self._values,
                    usual_step_s=inside.takes_s,
                    eta_s=self._etas.get(unit),
                    part=inside.part,
                )
        return Progress(values=self._values) if self._values else None

    def _read(self, line: str) -> dict[str, tuple[int, int | None]]:
        self.last_line = line
        found: dict[str, tuple[int, int | None]] = {}
        for unit, pattern in _STEPS:
            matches = pattern.findall(line)
            if matches:
                index, total = matches[-1]
                found[unit] = _count(index), _count(total) if total else None
        counted = bars.counted(line) if "it" in found else None
        if counted:
            found.setdefault(counted, found["it"])
        self._times(line, found)
        values = tuple((name.lower().replace(" ", "_"), number) for name, number in _VALUE.findall(line))
        self._steps |= found
        self._values = values[:_MAX_VALUES] or self._values
        return found

    def _times(self, line: str, found: Mapping[str, tuple[int, int | None]]) -> None:
        """What the line says of times, kept for the steps that it names and for no others.

        A time to go belongs to the finest of them: an epoch's bar does not know of the epochs behind it.
        """
        for unit in found:
            self._etas.pop(unit, None)
            self._inside.pop(unit, None)
        named = [unit for unit, _ in _STEPS if unit in found]
        if not named:
            return
        unit, finest = named[0], named[-1]
        bar, left_s = bars.times(line), bars.eta_s(line)
        if "it" in found and found[unit] != found["it"]:
            done, total = found["it"]
            self._inside[unit] = _Inside(done / total if total else None, sum(bar) if bar else None)
        elif bar:
            self._etas[unit] = bar[1]
        elif left_s is not None and not bars.within_epoch(line):
            self._etas[finest] = left_s


class _Inside(Struct, frozen=True):
    """What a bar inside of a step says: how much of the step is done, how long a whole one takes."""

    part: float | None = None
    takes_s: float | None = None


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _place(steps: Mapping[str, tuple[int, int | None]]) -> str:
    return " ".join(f"{unit} {index}/{total}" for unit, (index, total) in steps.items())


def loop_progress(loop: Loop) -> Progress:
    """How far `loop` is. Its values are those whose names a log's reader knows: never a word of the box."""
    named = ((name.lower(), number) for name, number in loop.tracked if _KNOWN_NAME.fullmatch(name))
    values = tuple((name, number if isinstance(number, str) else f"{number:.6g}") for name, number in named)
    return Progress(
        index=loop.iteration,
        total=loop.total,
        unit=LOOP_UNIT,
        values=values[:_MAX_VALUES],
        eta_s=loop.eta_s,
    )


def clean(raw: bytes) -> str:
    r"""One line as text, without ANSI colours and moves, at most 400 characters.

    Other control characters stay: they are the box's text and are made harmless where they are shown.
    """
    return _ANSI.sub("", raw[: 4 * MAX_LINE_CHARS].decode("utf-8", "replace")).strip()[:MAX_LINE_CHARS]


def is_heartbeat(line: str, patterns: Iterable[str] = ()) -> bool:
    """Whether `line` proves a process and nothing more. `patterns` are plain pieces of text."""
    return bool(_HEARTBEAT.search(line)) or any(pattern in line for pattern in patterns)


def tracked_words(verdict: Verdict) -> list[str]:
    """`"kl" 0.013`: scalars of the first loop whose names are its program's own, so in quotes."""
    shown = {name for name, _ in verdict.progress.values} if verdict.progress else set()
    first = verdict.loops[0].tracked if verdict.loops else ()
    others = [
        (name, number) for name, number in first if name.lower() not in shown and _IDENTIFIER.fullmatch(name)
    ]
    return [
        f'"{name}" {number if isinstance(number, str) else f"{number:.6g}"}'
        for name, number in others[:_TRACKED_SHOWN]
    ]
