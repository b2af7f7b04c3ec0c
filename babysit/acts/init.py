"""A first babysit.toml: from one template, read back by our own reader, written only where none is."""

import os
import re
from pathlib import Path

from msgspec import Struct

from babysit.acts.doctor.doctor import at_box
from babysit.acts.doctor.ground import Ground, with_ledger
from babysit.acts.doctor.lines import Examined, Level
from babysit.acts.doctor.ssh import config_files, settings_in
from babysit.acts.here import Here, job_named
from fleet import clock
from fleet.errors import HostKeyUnknown, UsageError
from fleet.ledger.paths import state_folder
from fleet.model.spec import BoxSpec, Spec
from fleet.spec import decode
from fleet.spec.find import FILE_NAME
from fleet.text.fill import fill_toml
from fleet.text.untrusted import render_untrusted

_MODE = 0o644  # nobody but its owner may write it (S41 holds for any umask); it holds no secret
_MANY = 200


class Wish(Struct, frozen=True):
    """What stands in the new file. `box.name` is its name here; `run` None: only an example in comments."""

    box: BoxSpec
    run: str | None = None
    command: tuple[str, ...] = ()


def wish(
    *,
    box: str | None,
    host: str | None,
    user: str | None = None,
    port: int | None = None,
    identity: str | None = None,
    run: str | None = None,
    command: tuple[str, ...] = (),
) -> Wish:
    """These words as a wish: a box without a host is an alias of ssh_config, a host is its own name.

    Raises UsageError for what cannot be a name, or half a run.
    """
    name = box or host or ""
    if not decode.is_name(name):
        where = "--host" if host and not box else "--box"
        says = (
            f"{render_untrusted(name, 80)!r} is no box name: {decode.NAME_RULE}"
            if name
            else "which box? give --box"
        )
        raise UsageError(says, where=where, next=("babysit init --box gpu1 --host ADDRESS",))
    if (run is None) != (not command):
        says = "a run needs its command after --" if run else "a command after -- needs --run NAME"
        raise UsageError(says, where="--run", next=(f"babysit init --box {name} --run train -- COMMAND",))
    if run is not None and not decode.is_name(run):
        raise UsageError(f"{render_untrusted(run, 80)!r} is no run name: {decode.NAME_RULE}", where="--run")
    kept = identity if identity is None or identity.startswith("~/") else str(Path(identity).absolute())
    return Wish(BoxSpec(name=name, host=host or name, user=user, port=port, identity=kept), run, command)


def draft(wished: Wish, path: Path) -> tuple[str, Spec]:
    """The text of the new file, and what our own reader makes of it.

    Raises SpecError when that reader would refuse it, UsageError for text that TOML cannot hold.
    """
    run = None
    if wished.run is not None:
        job = job_named(Here(state_folder(), Spec()), wished.run, wished.box.name, wished.command)
        run = {"name": wished.run, "command": job.stages[0].command}
    try:
        text = fill_toml("spec/babysit.toml", box=wished.box, run=run)
    except UnicodeEncodeError:
        raise UsageError("what was typed is no UTF-8; babysit.toml cannot hold it", where=str(path)) from None
    return text, decode.decode(text, str(path))


def write(path: Path, text: str) -> None:
    """Put `text` into a new file. Raises UsageError when there is one already, or none can be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        raise there_already(path) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - the descriptor made it exclusive
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"cannot write {path}: {error.strerror}", where=str(path)) from None
        raise


def there_already(path: Path, *, shown: bool = False) -> UsageError:
    """The refusal to replace a file; `shown`: what it would have been stands above."""
    hint = "above stands what it would have been" if shown else "with --box it is shown what it would be"
    says = f"{path} is there already; nothing was written"
    return UsageError(says, where=str(path), hint=hint, next=("babysit doctor",))


def target() -> Path:
    """Where the new file goes: the current folder."""
    return Path.cwd() / FILE_NAME


def covers(path: Path) -> Path | None:
    """The file of a folder above that the new one takes the place of here; None when there is none."""
    above = (folder / FILE_NAME for folder in path.parent.parents)
    return next((file for file in above if file.is_file()), None)


def aliases() -> tuple[str, ...]:
    """The names that the user's own ssh_config gives to hosts, in its order; patterns are none."""
    found: dict[str, None] = {}
    for path in config_files((Path.home() / ".ssh" / "config",)):
        for word, value in settings_in(path):
            if word == "host":
                names = (name.strip('"') for name in re.split(r"\s+", value))
                found |= {name: None for name in names if decode.is_name(name)}
    return tuple(found)[:_MANY]


class Tested(Struct, frozen=True):
    """What the new box showed. `stranger` is set when it was not asked further: nobody knows its key."""

    found: Examined
    stranger: HostKeyUnknown | None = None

    @property
    def fixes(self) -> tuple[str, ...]:
        """The first command against each thing that failed."""
        failed = (line.found for line in self.found.lines if line.found.level is Level.FAIL)
        return tuple(dict.fromkeys(found.fix[0] for found in failed if found.fix))


def try_box(place: Here, box: BoxSpec, program: Path) -> Tested:
    """Doctor's checks of `box`, nothing else. Pins nothing."""
    found, seen = at_box(with_ledger(Ground(place, program, clock.now(), box=box)))
    trouble = seen.trouble if seen is not None else None
    return Tested(found, trouble if isinstance(trouble, HostKeyUnknown) else None)
