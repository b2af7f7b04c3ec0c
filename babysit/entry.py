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
    import click  # noqa: PLC0415 - after the guard

    from babysit.verbs import cli, speak  # noqa: PLC0415 - after the guard
    from fleet.errors import BabysitError, UsageError  # noqa: PLC0415 - after the guard

    wants_json = "--json" in sys.argv
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "babysit"
        wrong = UsageError(error.format_message(), next=(f"{command} --help",))
        code = speak.error(wrong, as_json=wants_json)
    except BabysitError as error:
        code = speak.error(error, as_json=wants_json)
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`babysit status | head -1`): say nothing more, anywhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code if isinstance(code, int) else 0)


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
