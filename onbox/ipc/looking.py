"""`tail` and `notify` as a person reads them: a line at each look, and how it ended."""

import argparse
from pathlib import Path

from onbox.ipc import answers, says, watch
from onbox.ipc.answers import Answer, Trouble
from onbox.ipc.condition import condition
from onbox.ipc.shown import shown
from onbox.ipc.target import Chosen
from onbox.ipc.verbs import Work, meant, only, past
from onbox.wire import folder as place


def looked(folder: Path, options: argparse.Namespace) -> int:
    """The exit code of the one loop that is meant, living or over. Raises Trouble, ReaderGone."""
    try:
        work = meant(folder, options)
    except Trouble:
        last = past(folder, options)
        if last is None:
            raise
        return _ended(options, last)
    if any(loop.known.card is not None for loop in work.loops):
        place.ours(folder)
    return (_tailed if options.verb == "tail" else _notified)(work, only(work))


def _tailed(work: Work, one: Chosen) -> int:
    options = work.options
    looking = watch.Watch(work.folder, one, options.interval, options.until_eof)

    def emit(look: Answer) -> None:
        if options.json:
            says.document("tail", [look])
        else:
            says.speak(["[loopmonitor] PID %d  %s" % (look.pid, look.says)])

    if not options.json:
        about = "[loopmonitor] Tailing PID %d every %ss \N{EM DASH} Ctrl+C to stop."
        says.speak([about % (one.known.pid, options.interval)])
    last = watch.tailed(looking, emit, options.for_s)
    if options.json:
        says.document("tail", [last])
    else:
        says.speak(says.sentence(last))
    return last.exit_code


def _ended(options: argparse.Namespace, last: Answer) -> int:
    """A loop that is over already: how it went. A condition can come true no more."""
    if options.verb == "notify":
        last = watch.met_at_its_end(last, condition(options.condition))
    if options.json:
        says.document(options.verb, [last])
    else:
        says.speak(says.sentence(last), wrong=last.exit_code != answers.OK)
    return last.exit_code


def _notified(work: Work, one: Chosen) -> int:
    options = work.options
    wanted = condition(options.condition)
    looking = watch.Watch(work.folder, one, options.interval, options.until_eof)
    if not options.json:
        about = "[loopmonitor] Watching PID %d for: %s  (every %ss \N{EM DASH} Ctrl+C to stop)"
        says.speak([about % (one.known.pid, shown(repr(wanted.text), 520), options.interval)])

    def grumble(why_not: str) -> None:
        says.speak(says.folded("[loopmonitor] not met yet: %s" % shown(why_not)), wrong=True)

    last = watch.notified(looking, wanted, options.for_s, grumble)
    if options.json:
        says.document("notify", [last])
    else:
        says.speak(says.sentence(last), wrong=last.exit_code != answers.OK)
    if last.exit_code == answers.OK:
        watch.alert("%s: %s" % (says.name(last), last.says))
    return last.exit_code
