"""What a run's log says: how far it is, that it only breathes, or that it crashed. Pure; text in, values out.

A heartbeat line proves a process and no progress (it is often printed by a thread of its own while the
training hangs), so it never counts as an advance. Nothing here decides: crash lines are evidence only.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from fleet.model.verdict import Progress

MAX_LINE_CHARS = 400
_MAX_VALUES = 4

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_INT = r"(\d{1,12})"
_NUMBER = r"([-+]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][-+]?\d{1,3})?|nan|[-+]?inf)(?![\w.])"

# Coarsest unit first: its count is what a person asks for; finer ones still count as an advance.
_STEPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("epoch", re.compile(rf"\bepoch\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?(?![\w.])", re.IGNORECASE)),
    (
        "step",
        re.compile(
            rf"\b(?:global[_ ])?step\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?(?![\w.])", re.IGNORECASE
        ),
    ),
    (
        "iter",
        re.compile(
            rf"\biter(?:ation)?\s*[:#=]?\s*\[?{_INT}(?:\s*(?:/|of)\s*{_INT})?(?![\w.])", re.IGNORECASE
        ),
    ),
    ("batch", re.compile(rf"\bbatch\s*[:#=]?\s*\[?{_INT}\s*(?:/|of)\s*{_INT}(?![\w.])", re.IGNORECASE)),
    ("it", re.compile(rf"\d{{1,3}}%\|[^|]{{0,300}}\|\s*{_INT}/{_INT}\s*\[")),
)
RANK = {unit: len(_STEPS) - place for place, (unit, _) in enumerate(_STEPS)}

_VALUE = re.compile(
    r"(?<![\w-])(train[_ ]loss|val(?:idation)?[_ ]loss|test[_ ]loss|loss|train|val(?:idation)?|test"
    r"|(?:train|val|test)[_ ]acc(?:uracy)?|acc(?:uracy)?"
    r"|lr|ppl|perplexity|f1|auc|map|miou|iou|mae|rmse|mse|bleu|reward)"
    rf"\s*[:=]\s*{_NUMBER}",
    re.IGNORECASE,
)

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
    r"|(?:\S{1,200}: ){1,4}No space left on device\s*$"
    r")"
)


# The chain's own lines come with an attempt or a marker, which are advances by themselves.
_CHAIN = re.compile(r"^== (?:attempt \d+|stage \S+, attempt \d+|skip \S+: attempt)")


class LogNews(Struct, frozen=True):
    """What new bytes of a log say.

    `lines` counts whole lines that are neither heartbeats nor the chain's own, `heartbeats` the
    heartbeats. `tail_bytes` is the length of the last line, still without its end; it is judged again
    when it has one. `progress` None: no step was recognised. `open_step`: a step stands in that
    unfinished line (a progress bar). `last_line` is the newest line that is no heartbeat: text of the box.
    """

    lines: int
    heartbeats: int
    tail_bytes: int
    open_step: bool
    progress: Progress | None
    last_line: str | None
    crash_lines: int


def read_news(content: bytes, heartbeat: Iterable[str] = (), *, skip_first: bool = False) -> LogNews:
    r"""What `content` says. `skip_first`: it begins in the middle of a line, which is not judged.

    >>> read_news(b"Epoch 3/90 - loss: 0.41\n[HEARTBEAT 10:00:01]\n").progress.index
    3
    """
    whole, _, tail = content.rpartition(b"\n")
    finished = whole.split(b"\n") if whole or content[:1] == b"\n" else []
    if skip_first and finished:
        finished = finished[1:]
    patterns = tuple(pattern for pattern in heartbeat if pattern)
    lines = heartbeats = crashes = 0
    last_line: str | None = None
    steps = _Steps()
    for raw in finished:
        line = clean(raw)
        if not line or _CHAIN.match(line):
            continue
        if is_heartbeat(line, patterns):
            heartbeats += 1
            continue
        lines += 1
        last_line = line
        crashes += bool(_CRASH.search(line))
        steps.see(line)
    before = steps.seen
    open_line = clean(tail)
    if open_line and not is_heartbeat(open_line, patterns) and not (skip_first and not finished):
        last_line = open_line
        steps.see(open_line)
    open_step = steps.seen > before
    return LogNews(lines, heartbeats, len(tail), open_step, steps.progress(), last_line, crashes)


class _Steps:
    """The newest step of the coarsest unit, and the newest values, over lines in order."""

    def __init__(self) -> None:
        self.seen = 0
        self._found: dict[str, tuple[int, int | None]] = {}
        self._values: tuple[tuple[str, str], ...] = ()

    def see(self, line: str) -> None:
        for unit, pattern in _STEPS:
            matches = pattern.findall(line)
            if matches:
                index, total = matches[-1]
                self._found[unit] = int(index), int(total) if total else None
                self.seen += 1
        values = tuple((name.lower().replace(" ", "_"), number) for name, number in _VALUE.findall(line))
        self._values = values[:_MAX_VALUES] or self._values

    def progress(self) -> Progress | None:
        for unit, _ in _STEPS:
            if unit in self._found:
                index, total = self._found[unit]
                return Progress(index=index, total=total, unit=unit, values=self._values)
        return Progress(values=self._values) if self._values else None


def clean(raw: bytes) -> str:
    r"""One line as text: the last frame of a progress bar (after `\r`), no ANSI, at most 400 characters.

    Other control characters stay: they are the box's text and are made harmless where they are shown.
    """
    frames = [frame for frame in raw[-65536:].split(b"\r") if frame.strip()]
    text = frames[-1].decode("utf-8", "replace") if frames else ""
    return _ANSI.sub("", text[: 4 * MAX_LINE_CHARS]).strip()[:MAX_LINE_CHARS]


def is_heartbeat(line: str, patterns: Iterable[str] = ()) -> bool:
    """Whether `line` proves a process and nothing more. `patterns` are plain pieces of text."""
    return bool(_HEARTBEAT.search(line)) or any(pattern in line for pattern in patterns)
