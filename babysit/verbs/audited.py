"""What acts leaves its lines in the audit log: one when it begins, one when it ends, however it ends."""

import errno
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from string import Formatter
from typing import Any

import click

from babysit.verbs import speak
from fleet import clock
from fleet.errors import BabysitError, LedgerError, MachineShort, UsageError
from fleet.ledger import audit
from fleet.ledger.paths import state_folder
from fleet.ledger.room import room_to_act
from fleet.spec.decode import is_name
from fleet.text.quote import sh
from fleet.text.untrusted import render_untrusted

_SHORT = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
    )
)


def audited(
    command: click.Command,
    only_with: tuple[str, ...],
    not_with: tuple[str, ...] = (),
    looks: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """The command's callback between its two lines; where none of the options `only_with` is given, bare.

    So it is where one of `not_with` is, and for a verb of its own that is one of `looks`. Where the disk
    takes nothing the command is refused before it begins.
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
        own = given.get("verb", given.get("path"))
        if bare or any(given.get(str(name)) for name in harmless) or own in looks:
            return callback(**given)
        room_to_act(state_folder())
        action = secrets.token_hex(6)
        verb = f"{command.name} {given['verb']}" if "verb" in given else command.name or ""
        _write(action, "begin", verb, given, None)
        code: object = 1
        try:
            code = callback(**given)
        except BaseException as error:
            code = code_of(error)
            if isinstance(error, KeyboardInterrupt):
                _cut(command.name or "", given)
            raise
        finally:
            _write(action, "end", verb, given, code if isinstance(code, int) else 0)
        return code

    return call


# What shows how far a command came that Ctrl-C ended; each is safe to type.
_AFTER = {
    "arm": "babysit arm {box} {run}",
    "resume": "babysit resume {run}",
    "stop": "babysit resume {run}",
    "disarm": "babysit status {run}",
    "gc": "babysit gc {box}",
    "ipc": "babysit ipc {box} list",
    "ctl": "babysit ctl {box} {queue} status",
}


def _cut(verb: str, given: dict[str, Any]) -> None:
    """Say that nobody knows how far the command came, and what shows it."""
    if verb in _AFTER and all(given.get(key) is not None for key in _named(_AFTER[verb])):
        speak.trouble(f"babysit: {verb} was interrupted; what it began by then may have happened")
        words = {key: sh(str(given[key])) for key in _named(_AFTER[verb])}
        if "box" not in words and given.get("box"):  # said as `[BOX] RUN`
            words["run"] = f"{sh(given['box'])} {words['run']}"
        # An arming that did not get far is known nowhere: it goes on by the very command.
        job = " ".join(["", "--", *(sh(word) for word in given["command"])]) if given.get("command") else ""
        speak.note(f"next: {render_untrusted(_AFTER[verb].format(**words) + job)}")


def _named(command: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(command) if name]


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
    if isinstance(error, BrokenPipeError):
        return 141
    return 1 if machine_lacks(error) is None else MachineShort.exit_code


def machine_lacks(error: BaseException) -> str | None:
    """What this machine has too little of, in its own words; None for what is a bug of ours."""
    if isinstance(error, OSError) and error.errno in _SHORT:
        return error.strerror
    return str(error) if isinstance(error, RuntimeError) and "start new thread" in str(error) else None


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
