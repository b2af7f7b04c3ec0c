"""`ipc VERB ...`: from words to an exit code, and out again without a trace, also when interrupted.

A verb brings only what it needs: what is asked most must not wait for the rest.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from onbox.ipc import answers, around, known, says
from onbox.ipc.answers import Answer, Trouble
from onbox.ipc.options import asks_for_json, parser
from onbox.ipc.shown import WIDTH, quoted, shown
from onbox.ipc.target import numbers
from onbox.wire import folder as place
from onbox.wire.registry import Entry
from onbox.wire.words import list_rows

if TYPE_CHECKING:
    from onbox.ipc.verbs import Work

_PIPE_GONE = 141  # as a shell says of a program that SIGPIPE ended


def main(words: List[str]) -> int:
    """The exit code of the command line `ipc WORDS`."""
    as_json = asks_for_json(words)
    verb = next((word for word in words if not word.startswith("-")), "")
    before: Dict[int, Any] = {}
    hook = sys.unraisablehook
    around.open_streams()
    try:
        around.listen_to_signals(before)
        try:
            options = parser(words[0] if words else "").parse_args(words)
            verb = options.verb
            return _run(options)
        except Trouble as trouble:
            return _troubled(verb, trouble, as_json=as_json)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            what = str(error) if error.filename is None else "%s: %s" % (error.filename, error.strerror)
            return _troubled(verb, Trouble(answers.USAGE, "folder", what, _next()), as_json=as_json)
    except SystemExit as ended:  # argparse has printed its help
        return ended.code if isinstance(ended.code, int) else answers.USAGE
    except around.Ended as ended:
        return 128 + ended.number
    except (BrokenPipeError, around.ReaderGone):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains once more at its end
        return _PIPE_GONE
    finally:
        for number, listener in before.items():
            signal.signal(number, listener)
        sys.unraisablehook = hook


def _next() -> str:
    """The command that shows the folder, or names one where there is none."""
    try:
        return "ls -la %s" % quoted(str(place.directory()))
    except OSError:
        return "export LOOPCTL_DIR=/tmp/ipc-%d" % os.getuid()


def _run(options: argparse.Namespace) -> int:
    folder = place.opened()
    if options.verb == "list":
        return _listed(folder, options)
    if options.verb == "clean":
        return _cleaned(folder, options)
    _checked(options)
    if options.verb in ("tail", "notify"):
        from onbox.ipc.looking import looked  # noqa: PLC0415 - as the first lines say

        return looked(folder, options)
    return _asked(folder, options)


def _asked(folder: Path, options: argparse.Namespace) -> int:
    from onbox.ipc import verbs  # noqa: PLC0415 - as the first lines say

    work: Work = verbs.meant(folder, options)
    if options.verb == "plot" and options.png:
        verbs.only(work)
    found = verbs.done(work)
    written = _pictured(options, found) if options.verb == "plot" and options.png else None
    if options.json:
        says.document(options.verb, found)
    else:
        _print(options, found, written)
    return answers.exit_code(found)


def _checked(options: argparse.Namespace) -> None:
    """Nothing comes back. Raises Trouble for what no loop could be asked."""
    what = _wrong_line(options.assignment) if options.verb == "set" else None
    if options.verb == "notify":
        from onbox.ipc.condition import BadCondition, condition  # noqa: PLC0415 - as the first lines say

        try:
            condition(options.condition)
        except BadCondition as bad:
            what = str(bad)
    if what is not None:
        raise Trouble(answers.USAGE, "usage", "%s: %s" % (options.verb, what), "ipc --help")


def _wrong_line(assignment: str) -> Optional[str]:
    """Why that cannot be set, None when a loop can be asked."""
    from onbox.ipc.channel import Refused, encoded  # noqa: PLC0415 - as the first lines say

    try:
        encoded("@%s/1 set %s" % ("0" * 16, assignment))
    except Refused as refused:
        return str(refused)
    return None if "=" in assignment else "KEY=VALUE is wanted, such as lr=0.001"


def _print(options: argparse.Namespace, found: List[Answer], written: Optional[str]) -> None:
    several = len(found) > 1
    for one in found:
        if one.exit_code == answers.OK:
            says.speak(says.outcome(options.verb, one, several=several))
            warning = (one.reply or {}).get("warning") if options.verb == "pause" else None
            if warning:
                says.speak(says.folded("[loopmonitor] Warning: PID %d: %s" % (one.pid, warning)), wrong=True)
            if options.verb == "plot" and written is None:
                width = _columns()
                plain = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
                says.speak(says.chart(one, width, ascii_only=plain))
        else:
            state = (one.reply or {}).get("state")
            if options.verb == "peek" and isinstance(state, dict):
                says.speak(says.peek_lines(state))
            says.speak(says.sentence(one), wrong=True)
    if written is not None:
        says.speak(["written: %s" % shown(written)])


def _columns() -> int:
    """How wide a chart may be: the terminal's width, at most 200; 80 where there is none."""
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns, 200) or WIDTH
    except (OSError, ValueError):
        return WIDTH


def _pictured(options: argparse.Namespace, found: List[Answer]) -> Optional[str]:
    """Where the picture of the one loop was written, None without an answer. Raises Trouble."""
    from onbox.draw import png_chart  # noqa: PLC0415 - one verb of many draws
    from onbox.fs import write_durably  # noqa: PLC0415 - as above

    history = (found[0].reply or {}).get("history")
    if found[0].exit_code != answers.OK:
        return None
    path = Path(options.png)
    try:
        write_durably(path, png_chart(history if isinstance(history, dict) else {}))
    except OSError as error:
        what = "the picture cannot be written: %s" % (error.strerror or error)
        raise Trouble(answers.USAGE, "picture", "%s: %s" % (path, what)) from None
    return str(path)


def _listed(folder: Path, options: argparse.Namespace) -> int:
    found = known.roll(folder)
    living = {one.pid: one for one in found.living}
    entries = list(found.entries)
    entries += [_entry_of(one) for one in found.living if one.entry is None]
    if options.group is not None:
        entries = [entry for entry in entries if entry.ppid == options.group]
    if options.json:
        says.document("list", [_row(entry, living.get(entry.pid), found) for entry in entries])
        return answers.OK
    pairs = [
        (
            entry._replace(label=shown(entry.label, 30), start_time=shown(entry.start_time, 40)),
            entry.pid in living,
        )
        for entry in entries
    ]
    says.speak(list_rows(pairs, options.group))
    return answers.OK


def _row(entry: Entry, one: Optional[known.Known], found: known.Roll) -> Answer:
    kind = one.kind if one is not None else known.R if entry.language == "R" else known.FOREIGN
    card = one.card if one is not None else None
    reply: Dict[str, Any] = {**entry._asdict(), "alive": one is not None}
    reply["why"] = None if one is not None or entry.pid not in found.gone else found.gone[entry.pid].why
    reply["loops"] = [loop._asdict() for loop in card.loops] if card else []
    for key in ("group", "rank", "world", "host", "cwd"):
        reply[key] = getattr(card, key) if card else None
    return Answer(
        pid=entry.pid,
        label=entry.label,
        kind=kind,
        n=numbers(one)[0] if one is not None else 1,
        exit_code=answers.OK,
        says="runs" if one is not None else "does not run: %s" % reply["why"],
        tag=card.tag if card else None,
        confirmed=True,
        reply=reply,
    )


def _entry_of(one: known.Known) -> Entry:
    """What the registry would say of a loop that only has a card."""
    card = one.card
    script, since = (card.script, card.started_at) if card else ("", 0.0)
    return Entry(one.pid, one.label, script, "python", known.iso(since), one.ppid)


def _cleaned(folder: Path, options: argparse.Namespace) -> int:
    from onbox.ipc import clean  # noqa: PLC0415 - as the first lines say

    removed = clean.cleaned(folder)
    if options.json:
        gone = [Answer(pid, "", known.FOREIGN, 1, answers.OK, "removed", confirmed=True) for pid in removed]
        says.document("clean", gone)
    else:
        says.speak(["Removed stale entries: %s" % removed if removed else "Registry is clean."])
    return answers.OK


def _troubled(verb: str, trouble: Trouble, *, as_json: bool) -> int:
    if as_json:
        says.document(verb, [], trouble)
    lines = says.folded("[loopmonitor] %s" % shown(trouble.what))
    says.speak([*lines, "next: %s" % shown(trouble.next_step)], wrong=True)
    return trouble.exit_code
