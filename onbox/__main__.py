"""The commands of the shipped file, `python onbox.pyz ACT ...`: supervise, ipc, runtimectl, version."""

import sys
from pathlib import Path
from typing import Callable, Dict, List

from onbox import __version__
from onbox.chain.supervise import supervise

USAGE = 2
_USAGE = """usage: python onbox.pyz supervise RESULT_FILE -- CMD [ARG...]
       python onbox.pyz ipc VERB ...
       python onbox.pyz runtimectl -q DIR PATH [ARG...]
       python onbox.pyz version"""


def main() -> int:
    """The exit status of the act that the command line asks for; 2 for a command line that asks for none."""
    words = sys.argv[1:]
    act = _ACTS.get(words[0]) if words else None
    return _usage() if act is None else act(words[1:])


def _supervise(words: List[str]) -> int:
    if len(words) < 3 or words[1] != "--" or not words[0]:  # RESULT_FILE -- CMD
        return _usage()
    return supervise(Path(words[0]), words[2:])


def _ipc(words: List[str]) -> int:
    from onbox.ipc.command import main as ipc  # noqa: PLC0415 - the chain's start must not pay for it

    return ipc(words)


def _runtimectl(words: List[str]) -> int:
    from onbox.control.cli import main as runtimectl  # noqa: PLC0415 - as above

    return runtimectl(words)


def _version(words: List[str]) -> int:
    if words:
        return _usage()
    print("onbox %s" % __version__)
    return 0


def _usage() -> int:
    print(_USAGE, file=sys.stderr)
    return USAGE


_ACTS: Dict[str, Callable[[List[str]], int]] = {
    "supervise": _supervise,
    "ipc": _ipc,
    "runtimectl": _runtimectl,
    "version": _version,
}


if __name__ == "__main__":
    sys.exit(main())
