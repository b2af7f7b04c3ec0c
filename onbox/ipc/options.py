"""The command line of `ipc`: its verbs and their options."""

import argparse
import functools
import math
from typing import List, NoReturn

from onbox.ipc import answers
from onbox.ipc.answers import Trouble
from onbox.ipc.shown import WIDTH

_LONGEST_S = 30 * 86400.0
_VERBS = {
    "list": "the loops that are registered",
    "clean": "take away what dead loops left",
    "peek": "where it is, how long it takes, what it tracks",
    "plot": "its tracked values as a chart",
    "continue": "leave the loop where the iteration ends; the program goes on",
    "break": "leave it there, save, and end the program with 88",
    "checkpoint": "save without leaving",
    "stack": "where each of its threads is",
    "memory": "what it has in memory, now and at most",
    "pause": "stop the process (SIGSTOP)",
    "resume": "let it go on (SIGCONT)",
    "set": "give the loop a value, which it reads by step.get()",
    "tail": "a line at each interval, until it ends",
    "notify": "wait until a condition holds",
}
_EPILOG = """\
TARGET: a pid, `all`, a glob on the label, a parent's pid, or PID/N for an inner
loop. Exit codes: 0 done, 2 command line or folder, 3 no such loop, 22 refused,
23 it died while we waited, 124 no answer in time."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process, so that `--json` has an answer for a wrong command line too."""

    def error(self, message: str) -> NoReturn:
        raise Trouble(answers.USAGE, "usage", message, "%s --help" % self.prog)


def parser(only: str = "") -> argparse.ArgumentParser:
    """What reads the words behind `ipc`; it raises Trouble. With a verb it knows that one alone."""
    # A width said here: argparse would look for the terminal with a library of its own, at every option.
    form = functools.partial(argparse.RawDescriptionHelpFormatter, width=WIDTH - 2)
    everywhere = _Parser(add_help=False, allow_abbrev=False, formatter_class=form)
    everywhere.add_argument("--json", action="store_true", help="one JSON document on standard output")
    everywhere.add_argument(
        "--wait", type=_seconds, default=10.0, metavar="S", help="how long an answer may take (10)"
    )
    top = _Parser(
        prog="ipc",
        description="Ask and steer the loops that run here.",
        epilog=_EPILOG,
        formatter_class=form,
        allow_abbrev=False,
    )
    # `prog` said here: argparse would make a help text to find it.
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", prog="ipc")
    for name in [only] if only in _VERBS else _VERBS:
        about = _VERBS[name]
        one = verbs.add_parser(
            name,
            help=about,
            description=about,
            parents=[everywhere],
            formatter_class=form,
            allow_abbrev=False,
        )
        if name == "list":
            one.add_argument("--group", type=_whole, metavar="PPID", help="those of one parent only")
        elif name != "clean":
            _with_target(name, one)
    return top


def asks_for_json(words: List[str]) -> bool:
    """Whether `--json` stands before any `--`: known even where the rest cannot be read."""
    before = words[: words.index("--")] if "--" in words else words
    return "--json" in before


def _with_target(name: str, one: argparse.ArgumentParser) -> None:
    one.add_argument("target", metavar="TARGET", help="pid, all, glob, parent's pid, PID/N")
    one.add_argument(
        "--tag", type=_tag, metavar="TAG", help="only loops whose BABYSIT_TAG is TAG, or TAG/..."
    )
    one.add_argument("--only", action="store_true", help="refuse where TARGET means several loops")
    if name in ("continue", "break"):
        one.add_argument("--alone", action="store_true", help="also a part of a group: the others may hang")
    elif name == "set":
        one.add_argument("assignment", metavar="key=value", help="a Python literal: lr=0.001 tags=\"['a']\"")
    elif name == "plot":
        one.add_argument("--last", type=_whole, default=0, metavar="K", help="the last K points (0: all)")
        one.add_argument("--png", metavar="FILE", help="write a picture instead")
    elif name in ("tail", "notify"):
        usual = 2.0 if name == "tail" else 5.0
        one.add_argument(
            "--interval", type=_seconds, default=usual, metavar="S", help="between looks (%g)" % usual
        )
        one.add_argument("--until-eof", action="store_true", help="end when standard input does")
        one.add_argument("--for", dest="for_s", type=_seconds, metavar="S", help="give up after S seconds")
    if name == "notify":
        one.add_argument("condition", metavar="EXPR", help="such as: loss < 0.05 and iteration > 100")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.01 <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError("%r is no time from 0.01 s to 30 days" % text[:40])
    return seconds


def _tag(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty tag is that of no run")
    return text


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise argparse.ArgumentTypeError("%r is no whole number" % text[:40])
    return int(text)
