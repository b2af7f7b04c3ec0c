"""The commands of the shipped file, `python onbox.pyz ACT ...`, as the usage below names them."""

import sys
from typing import Callable, Dict, List

from onbox import __version__

USAGE = 2
_USAGE = """usage: python onbox.pyz supervise RESULT_FILE -- CMD [ARG...]
       python onbox.pyz watched RESULT_FILE FOLDER STAGE ATTEMPT -- CMD [ARG...]
       python onbox.pyz exec [OPTION...] -- CMD [ARG...]
       python onbox.pyz ipc VERB ...
       python onbox.pyz runtimectl -q DIR PATH [ARG...]
       python onbox.pyz usage RUN_FOLDER|FILE [--json] ...
       python onbox.pyz version"""


def main() -> int:
    """The exit status of the act that the command line asks for; 2 for a command line that asks for none."""
    words = sys.argv[1:]
    act = _ACTS.get(words[0]) if words else None
    return _usage() if act is None else act(words[1:])


def _supervise(words: List[str]) -> int:
    if len(words) < 3 or words[1] != "--" or not words[0]:  # RESULT_FILE -- CMD
        return _usage()
    from pathlib import Path  # noqa: PLC0415 - every act brings its own and no more

    from onbox.chain.supervise import supervise  # noqa: PLC0415 - as above

    return supervise(Path(words[0]), words[2:])


def _watched(words: List[str]) -> int:
    if len(words) < 6 or words[4] != "--" or not all(words[:4]):  # RESULT_FILE FOLDER STAGE ATTEMPT -- CMD
        return _usage()
    if "/" in words[2] or not words[3].isdigit():
        return _usage()
    from pathlib import Path  # noqa: PLC0415 - as above

    from onbox.monitor.stage import watched  # noqa: PLC0415 - as above

    return watched(Path(words[0]), Path(words[1]), words[2], int(words[3]), words[5:])


def _exec(words: List[str]) -> int:
    from onbox.monitor.command import main as execute  # noqa: PLC0415 - as above

    return execute(words)


def _ipc(words: List[str]) -> int:
    from onbox.ipc.command import main as ipc  # noqa: PLC0415 - as above

    return ipc(words)


def _runtimectl(words: List[str]) -> int:
    from onbox.control.cli import main as runtimectl  # noqa: PLC0415 - as above

    return runtimectl(words)


def _usage_shown(words: List[str]) -> int:
    from onbox.usage.command import main as usage  # noqa: PLC0415 - as above

    return usage(words)


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
    "watched": _watched,
    "exec": _exec,
    "ipc": _ipc,
    "runtimectl": _runtimectl,
    "usage": _usage_shown,
    "version": _version,
}


if __name__ == "__main__":
    sys.exit(main())
