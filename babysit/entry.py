"""The console script: a guard, the verbs, and one place where an error becomes a message and an exit code."""

import contextlib
import importlib.util
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType

_AGAIN_S = 0.01  # by then the callback is over; if it is not, the next one comes after as long
SIBLINGS = ("fleet", "handbook", "onbox", "patrol", "sentinels")


def main() -> None:
    """Run one command and exit with its documented code."""
    try:
        _fill_closed_streams()
        _escape_what_cannot_be_said()
        _refuse_foreign_siblings()
        signal.signal(signal.SIGTERM, _terminated)
        _interrupts_come_again()
        from babysit.verbs import cli  # noqa: PLC0415 - after the guard

        code = cli.main(prog_name="babysit", standalone_mode=False)
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
    _give_up_on_output()
    sys.exit(code if isinstance(code, int) else 0)


def _fill_closed_streams() -> None:
    """A standard stream that our caller closed is /dev/null: no file of ours may get its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        name, mode = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[number]
        setattr(sys, name, os.fdopen(number, mode))
    os.close(number)


def _escape_what_cannot_be_said() -> None:
    """What our output has no letters for (a cron of LANG=en_US) is escaped, in results as in errors."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reader_gone() -> int:
    """The code for output that nobody reads any more (`babysit status | head -1`); nothing more is said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def _said(error: Exception) -> int:
    """The exit code of what went wrong, after saying it. Imported late: most calls go well."""
    import click  # noqa: PLC0415 - as above

    from babysit.verbs import VERBS, speak  # noqa: PLC0415 - as above
    from babysit.verbs.audited import code_of, machine_lacks  # noqa: PLC0415 - as above
    from fleet.errors import BabysitError, MachineShort, UsageError  # noqa: PLC0415 - as above

    if isinstance(error, click.Abort):
        speak.note("")  # a question was left by Ctrl-C or Ctrl-D: the shell's prompt gets a line of its own
    if isinstance(error, (click.exceptions.Exit, click.Abort)):
        return code_of(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        speak.note(error.format_message())
        return UsageError.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        # An option without its value comes without a context.
        typed = " ".join(word for word in sys.argv[1:2] if word in VERBS)
        command = context.command_path if context else f"babysit {typed}".rstrip()
        # click lists choices below each other; a message of ours is one sentence.
        error = UsageError(" ".join(error.format_message().split()), next=(f"{command} --help",))
    if not isinstance(error, BabysitError):
        lacks = machine_lacks(error)
        if lacks is None:
            raise error
        error = MachineShort(f"this machine could not do it: {lacks}", next=("ulimit -a; df -h",))
    end = sys.argv.index("--") if "--" in sys.argv else None  # what follows is somebody's own command
    for as_json in ("--json" in sys.argv[:end], False):  # a document that nobody can take is said in prose
        with contextlib.suppress(OSError):
            return speak.error(error, as_json=as_json)
    return error.exit_code


def _give_up_on_output() -> None:
    """What a full disk did not take is dropped: the interpreter would make an exit code of its own of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _interrupts_come_again() -> None:
    """An interrupt that meets a callback of the interpreter's own (an import lock's) is raised once more.

    There nothing can be raised: Python prints the exception as ignored and goes on, as if nobody had asked.
    """

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, (KeyboardInterrupt, SystemExit)):
            sys.__unraisablehook__(lost)
            return
        kind, args = type(lost.exc_value), lost.exc_value.args

        def raised(_signal: int, _frame: FrameType | None) -> None:
            raise kind(*args)

        signal.signal(signal.SIGALRM, raised)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    sys.unraisablehook = again


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


if __name__ == "__main__":
    main()  # `python -I -m babysit.entry`: how a patrol that repeats starts each of its ticks
