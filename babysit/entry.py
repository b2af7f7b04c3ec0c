"""The console script: a guard, the verbs, and one place where an error becomes a message and an exit code."""

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import FrameType

SIBLINGS = ("fleet", "handbook", "onbox", "patrol", "sentinels")


def main() -> None:
    """Run one command and exit with its documented code."""
    _refuse_foreign_siblings()
    signal.signal(signal.SIGTERM, _terminated)
    from babysit.verbs import cli  # noqa: PLC0415 - after the guard

    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_gone()
    except SystemExit as left:
        # click answers a broken pipe by 1, which means a bug here; it marks stdout when it does.
        if not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        code = _reader_gone() if left.code == 1 else left.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - told apart there; what is not ours is raised again
        code = _said(error)
    sys.exit(code if isinstance(code, int) else 0)


def _reader_gone() -> int:
    """The code for output that nobody reads any more (`babysit status | head -1`); nothing more is said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def _said(error: Exception) -> int:
    """The exit code of what went wrong, after saying it. Imported late: most calls go well."""
    import click  # noqa: PLC0415 - as above

    from babysit.verbs import speak  # noqa: PLC0415 - as above
    from fleet.errors import BabysitError, UsageError  # noqa: PLC0415 - as above

    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        return 130
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "babysit"
        error = UsageError(error.format_message(), next=(f"{command} --help",))
    if not isinstance(error, BabysitError):
        raise error
    return speak.error(error, as_json="--json" in sys.argv)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _refuse_foreign_siblings() -> None:
    """Exit when a package of the same flat name would be imported instead of ours (docs/decisions/0001)."""
    home = Path(__file__).parents[1]
    for name in SIBLINGS:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).parents[1] != home:
            # sys.exit prints to stderr and exits 1: nothing of ours can be trusted to speak yet.
            sys.exit(
                f"babysit: the package {name!r} comes from {origin}, not from {home}\n"
                "next: install babysit in an environment of its own (uv tool install, pipx)"
            )
