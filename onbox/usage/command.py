"""`usage RUN_FOLDER|FILE`: what a watched command used, as a table and curves, or as one document."""

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

from onbox.ipc.around import open_streams
from onbox.ipc.shown import WIDTH, shown
from onbox.usage.files import MOST_POINTS, Nothing, Wanted
from onbox.usage.profile import SCHEMA, profile
from onbox.usage.remarks import remarks
from onbox.usage.says import charts, table

USAGE, NOTHING, UNWRITTEN, READER_GONE = 2, 3, 74, 141
_LONGEST_S = 366 * 86400.0


def main(words: List[str]) -> int:
    """The exit code of the command line `usage WORDS`: 0 shown, 3 there is nothing to show, 2 usage."""
    open_streams()
    try:
        options = _parser().parse_args(words)
    except SystemExit as ended:  # argparse has said what it wanted to say
        return ended.code if isinstance(ended.code, int) else USAGE
    place = Path(options.place)
    if options.place.startswith("~/"):  # typed by nobody's shell
        place = place.expanduser()
    wanted = Wanted(options.stage, options.attempt, options.points, options.last)
    try:
        document = profile(place, wanted)
    except Nothing as nothing:
        document = _nothing(nothing)
    except OSError as error:
        why = "not-there" if isinstance(error, FileNotFoundError) else "unreadable"
        document = _nothing(Nothing(why, (error.strerror or "it cannot be read").lower()))
    try:
        if options.json:
            print(json.dumps(document))
        else:
            _show(_harmless(document), str(place))
        sys.stdout.flush()
        return int(document["exit_code"])
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains once more at its end
        if isinstance(error, BrokenPipeError):
            return READER_GONE
        print("usage: the answer cannot be written: %s" % error.strerror, file=sys.stderr)
        return UNWRITTEN


def _nothing(why: Nothing) -> Dict[str, Any]:
    return {
        "schema": SCHEMA,
        "ok": False,
        "exit_code": NOTHING,
        "error": {"code": why.code, "what": why.what, "next": why.next},
    }


def _show(document: Dict[str, Any], place: str) -> None:
    if not document["ok"]:
        error = document["error"]
        print("usage: %s: %s" % (shown(place), error["what"]), file=sys.stderr)
        if error["next"]:
            print("next: %s" % error["next"], file=sys.stderr)
        return
    code = (sys.stdout.encoding or "ascii").lower()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for line in table(document, WIDTH):
        print(line)
    for says in remarks(document):
        print(textwrap.fill(says, WIDTH, subsequent_indent="  "))
    for line in charts(document, WIDTH, ascii_only=not code.startswith("utf")):
        print(line)


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {key: _harmless(one) for key, one in value.items()}
    return [_harmless(one) for one in value] if isinstance(value, list) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="usage",
        allow_abbrev=False,
        description="What a watched command used: processor, memory, GPU, disk, processes.",
        epilog="Exit codes: 0 shown, 2 command line, 3 there is nothing to show, 74 it cannot be written.",
    )
    parser.add_argument("place", metavar="RUN_FOLDER|FILE", help="a run's folder, or a file of samples")
    parser.add_argument("--stage", metavar="S", help="only this stage")
    parser.add_argument("--attempt", type=_between(1, 10**9), metavar="N", help="this attempt (the newest)")
    parser.add_argument("--points", type=_between(2, MOST_POINTS), default=MOST_POINTS, metavar="N")
    parser.add_argument("--last", type=_seconds, metavar="SECONDS", help="draw only the last of it")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser


def _between(least: int, most: int) -> Any:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError("%r is no number from %d to %d" % (text[:40], least, most))
        return int(text)

    return whole


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError("%r is no time in seconds" % text[:40])
    return seconds
