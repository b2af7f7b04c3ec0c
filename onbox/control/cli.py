"""The command `runtimectl`: what 0.1.0 prints and how it ends, and behind new options what it has not."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from onbox.control import asking, lines, listener
from onbox.control.asking import DIED, REFUSED
from onbox.control.enqueue import enqueue
from onbox.control.lookup import Listening, archive, commands_in, status

_WRONG = 2  # the command line, or the folder
_INTERRUPTED = 130


def main(words: List[str]) -> int:
    """The exit status of `runtimectl WORDS`."""
    parser = _parser()
    try:
        said = parser.parse_args(words)
        if said.path is None and not said.archive:
            parser.print_help()
            return _WRONG
        kwargs = _kwargs(said.kwargs, parser)
        return _act(Path(said.queue_dir), said, kwargs)
    except SystemExit as ended:  # argparse speaks and leaves
        return ended.code if isinstance(ended.code, int) else _WRONG
    except Listening as found:
        return _say(str(found), REFUSED)
    except (OSError, ValueError) as error:
        return _say("cannot use %s: %s" % (said.queue_dir, error), _WRONG)


def _act(folder: Path, said: argparse.Namespace, kwargs: Optional[Dict[str, Any]]) -> int:
    if said.archive:
        for name in archive(folder):
            _say("moved aside: %s" % name, 0)
        if said.path is None:
            return 0
    replayed = 0 if (folder / "onbox").is_dir() else commands_in(folder)
    if replayed:
        _say("a real runtimectl will replay what lies here (%d) at its next start;" % replayed, 0)
        _say("runtimectl --archive, on the box, moves it aside while no program runs", 0)
    if said.path == "status" and not said.args and kwargs is None:
        _show(status(folder, said.last), indent=2)
        return 0
    other = "" if said.tag is None else listener.stranger(folder / "onbox", said.tag)
    if other:
        return _say("nothing was sent: %s" % other, REFUSED)
    args = [_value(word) for word in said.args]
    if said.wait is None:
        _show(enqueue(folder, said.path, args, kwargs, expires_s=said.expires))
        return 0
    return _wait(folder, said, args, kwargs)


def _wait(folder: Path, said: argparse.Namespace, args: List[Any], kwargs: Optional[Dict[str, Any]]) -> int:
    dead = asking.departed(folder)
    if dead is not None:
        return _say("nothing was sent: pid %d, which took the commands, is gone" % dead.who.pid, DIED)
    acknowledged = asking.Acknowledged(folder)
    expires_s = said.wait if said.expires is None else said.expires
    command = enqueue(folder, said.path, args, kwargs, expires_s=expires_s)
    try:
        _show(command)
        answer = asking.wait(folder, command["id"], acknowledged, said.wait, _show)
    except KeyboardInterrupt:
        return _say(asking.withdrawn(folder, command["id"]), _INTERRUPTED)
    return _say(answer.says, answer.code) if answer.says else answer.code


def _kwargs(raw: Optional[str], parser: argparse.ArgumentParser) -> Optional[Dict[str, Any]]:
    if raw is None:
        return None
    value = _value(raw)
    if value is None:
        return {}
    if not isinstance(value, dict):
        parser.error('--kwargs must be a JSON object (e.g. --kwargs \'{"label":"manual"}\')')
    return value


def _value(raw: str) -> Any:
    """JSON where it is some, else the text."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _seconds(raw: str) -> float:
    value = float(raw)
    if not math.isfinite(value) or value < 0:
        raise ValueError(raw)
    return value


def _tag(raw: str) -> str:
    if not raw:
        raise argparse.ArgumentTypeError("an empty tag is that of no run")
    return raw


_seconds.__name__ = "seconds"  # argparse names it where the text is none


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runtimectl", description="Runtime queue control CLI")
    parser.add_argument("-q", "--queue-dir", required=True, help="Queue directory")
    parser.add_argument("path", nargs="?", help="Registered control path, or 'status'")
    parser.add_argument("args", nargs="*", help="Positional args (JSON or raw strings)")
    parser.add_argument("--kwargs", default=None, help="Keyword args as JSON object")
    parser.add_argument("--last", type=int, default=10, help="For status: how many ack lines to show")
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="S",
        help="Wait S seconds for the acks of all ranks: 0 applied, 22 rejected or failed,"
        " 23 the program is gone, 124 no answer (the command is withdrawn)",
    )
    parser.add_argument(
        "--expires", type=_seconds, metavar="S", help="Not applied when taken later than S seconds"
    )
    parser.add_argument(
        "--tag",
        type=_tag,
        help="Only to a program whose BABYSIT_TAG is TAG, or TAG/...: else 22, and nothing is sent",
    )
    parser.add_argument(
        "--archive", action="store_true", help="First move both files aside; not while a program listens"
    )
    return parser


def _show(document: Any, indent: Optional[int] = None) -> None:
    text = lines.dumped(document, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=indent)
    print(text, flush=True)


def _say(text: str, code: int) -> int:
    print("runtimectl: %s" % text.encode("ascii", "backslashreplace").decode("ascii"), file=sys.stderr)
    return code
