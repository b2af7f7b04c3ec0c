"""Answers as a person reads them: in the words of loopmonitor 0.1.x where it has some, else in sentences."""

import json
import sys
from typing import Any, Dict, List, Optional, Sequence

from onbox.ipc import answers
from onbox.ipc.answers import Answer, Trouble
from onbox.ipc.shown import WIDTH, harmless_state, shown, wrapped
from onbox.wire.words import peek_block

_SENT = ("continue", "break", "checkpoint")
_RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
_CHART_ROWS = 8


def outcome(verb: str, answer: Answer, *, several: bool) -> List[str]:
    """The lines for one loop that did what it was asked."""
    state = (answer.reply or {}).get("state")
    if verb == "peek":
        block = peek_lines(state) if isinstance(state, dict) else ["   (%s)" % answer.says]
        block += sentence(answer) if (answer.reply or {}).get("paused") else []
        return [heading(answer), *block, ""] if several else block
    if verb == "stack":
        return stack_lines(answer)
    if verb == "plot":
        return [heading(answer)] if several else []
    lines = []
    if verb in _SENT:
        lines.append("[loopmonitor] '%s' sent to %s." % (verb, name(answer)))
    return [*lines, *sentence(answer)]


def sentence(answer: Answer) -> List[str]:
    """What is said of one loop, at 80 columns."""
    return folded("[loopmonitor] %s %s" % (name(answer), answer.says))


def name(answer: Answer) -> str:
    """`PID 4711 (label)`, with the loop's number where it is an inner one."""
    words = "PID %d" % answer.pid + ("/%d" % answer.n if answer.n > 1 else "")
    return "%s (%s)" % (words, shown(answer.label, 40)) if answer.label else words


def heading(answer: Answer) -> str:
    """The line above a loop's block where there are several."""
    label = shown(answer.label, 40)
    bar = _RULE * max(0, 54 - len(label) - len(str(answer.pid)))
    return "%s %s  PID %d %s" % (_RULE * 2, label, answer.pid, bar)


def peek_lines(state: Dict[str, Any]) -> List[str]:
    """The peek block; what is tracked goes on the next line where it would be too wide."""
    clean = harmless_state(state)
    tracked = clean.get("tracked")
    lines = peek_block({**clean, "tracked": {}}).split("\n")
    pairs = ["%s=%s" % pair for pair in tracked.items()] if isinstance(tracked, dict) else []
    return lines + wrapped(pairs)


def stack_lines(answer: Answer) -> List[str]:
    """Each thread's frames, innermost last."""
    threads = (answer.reply or {}).get("threads")
    lines = ["[loopmonitor] Stack trace for PID %d:" % answer.pid]
    source = (answer.reply or {}).get("source")
    if source is not None:
        lines += folded("  (%s)" % answer.says)
    for thread in threads if isinstance(threads, list) else ():
        lines += _thread_lines(thread) if isinstance(thread, dict) else []
    return lines


def folded(words: str) -> List[str]:
    """One sentence as lines of at most 80 columns, unless a single word is longer."""
    import textwrap  # noqa: PLC0415 - a list or a peek folds nothing

    return textwrap.wrap(
        words, WIDTH, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
    ) or [""]


def speak(lines: Sequence[str], *, wrong: bool = False) -> None:
    """Nothing comes back: the lines are out, with other signs where the terminal's code lacks some."""
    stream = sys.stderr if wrong else sys.stdout
    code = stream.encoding or "ascii"
    for line in lines:
        stream.write(fitting(line, code) + "\n")
    stream.flush()


def document(verb: str, found: Sequence[Answer], trouble: Optional[Trouble] = None) -> None:
    """Nothing comes back: the outcome is out as one line of JSON."""
    sys.stdout.write(json.dumps(answers.document(verb, found, trouble)) + "\n")
    sys.stdout.flush()


def fitting(line: str, code: str) -> str:
    """`line` with nothing that `code` cannot write."""
    try:
        line.encode(code)
    except UnicodeEncodeError:
        simple = line.replace(_RULE, "-").replace("\N{EM DASH}", "-")
        return simple.encode(code, "backslashreplace").decode(code)
    return line


def chart(answer: Answer, width: int, *, ascii_only: bool) -> List[str]:
    """The loop's tracked values as a chart of text."""
    from onbox.draw import text_chart  # noqa: PLC0415 - one verb of many draws

    history = (answer.reply or {}).get("history")
    drawn = text_chart(
        history if isinstance(history, dict) else {}, width, _CHART_ROWS, ascii_only=ascii_only
    )
    return drawn.rstrip("\n").split("\n")


def _thread_lines(thread: Dict[str, Any]) -> List[str]:
    words = "  thread %s%s" % (shown(thread.get("name"), 60), " (main)" if thread.get("main") else "")
    if thread.get("state"):
        words += ", state %s" % shown(thread["state"], 4)
    if thread.get("waits_in"):
        words += ", waits in %s" % shown(thread["waits_in"], 40)
    lines = [words + ":" if thread.get("frames") else words]
    frames = thread.get("frames")
    for frame in frames if isinstance(frames, list) else ():
        if isinstance(frame, dict):
            where = 'File "%s"' % shown(frame.get("file"), 200)
            line = "" if frame.get("line") is None else ", line %s" % shown(frame["line"], 12)
            lines.append("    %s%s, in %s" % (where, line, shown(frame.get("function"), 80)))
            lines += ["      %s" % shown(frame["code"], 100)] if frame.get("code") else []
    return lines
