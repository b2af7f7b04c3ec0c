"""What acts leaves its lines in the audit log: one when it begins, one when it ends, however it ends."""

import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from babysit.verbs import speak
from fleet import clock
from fleet.errors import BabysitError, LedgerError, UsageError
from fleet.ledger import audit
from fleet.ledger.paths import state_folder
from fleet.spec.decode import is_name


def audited(
    command: click.Command, only_with: tuple[str, ...], not_with: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """The command's callback between its two lines; where none of the options `only_with` is given, bare.

    So it is where one of `not_with` is.
    A log that cannot be written hinders nobody from stopping a run; it is said.
    """
    callback = command.callback
    assert callback is not None  # noqa: S101 - every verb is a function
    wanted, harmless = (
        {option.name for option in command.params if set(option.opts) & set(options)}
        for options in (only_with, not_with)
    )

    @wraps(callback)
    def call(**given: Any) -> Any:
        bare = only_with and not any(given.get(str(name)) for name in wanted)
        if bare or any(given.get(str(name)) for name in harmless):
            return callback(**given)
        action, verb = secrets.token_hex(6), command.name or ""
        _write(action, "begin", verb, given, None)
        code: object = 1
        try:
            code = callback(**given)
        except BaseException as error:
            code = code_of(error)
            raise
        finally:
            _write(action, "end", verb, given, code if isinstance(code, int) else 0)
        return code

    return call


def code_of(error: BaseException) -> int:
    """The exit code with which `error` ends a command; 1 for what is a bug."""
    match error:
        case BabysitError() | click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        case click.ClickException():
            return UsageError.exit_code
        case KeyboardInterrupt() | click.Abort():
            return 130
    return 141 if isinstance(error, BrokenPipeError) else 1


def _write(action: str, event: str, verb: str, given: dict[str, Any], code: int | None) -> None:
    names = {key: given[key] for key in ("box", "run") if isinstance(given.get(key), str)}
    entry = audit.Entry(
        at=datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds"),
        action=action,
        event=event,
        verb=verb,
        user=audit.user(),
        by=audit.hand(os.environ, terminal=sys.stdin is not None and sys.stdin.isatty()),
        host=os.uname().nodename,
        pid=os.getpid(),
        exit_code=code,
        **{key: name for key, name in names.items() if is_name(name)},
    )
    try:
        audit.append(state_folder(), entry)
    except LedgerError as error:
        speak.note(f"babysit: no line in the audit log: {error.what}")
