"""Where a command was called: the spec that holds here, the state folder, boxes and runs by name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from fleet.errors import LedgerDamaged, LedgerError, LedgerNewer, NotFound, SpecError, UsageError
from fleet.ledger.ledger import Ledger
from fleet.ledger.paths import config_file, state_folder
from fleet.ledger.private import private_folder
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec, Spec
from fleet.spec import decode, find
from fleet.text.say import plural


class Here(Struct, frozen=True):
    """What every act starts from. `broken` is why babysit.toml could not be used, None when it could."""

    folder: Path
    spec: Spec
    broken: SpecError | None = None

    def ledger(self, *, write: bool = True) -> Ledger:
        """The ledger, to be used as a context manager."""
        return Ledger.open(self.folder, write=write)

    @contextmanager
    def ledger_to_look(self) -> Iterator[tuple[Ledger, LedgerError | None]]:
        """The ledger to write; where the disk takes nothing, the same to read and why: an answer there is."""
        why = None
        try:
            ledger = self.ledger()
        except (LedgerDamaged, LedgerNewer):
            raise
        except LedgerError as error:
            why = error
            try:
                private_folder(self.folder)  # what others could have written is not read instead
                ledger = self.ledger(write=False)
            except LedgerError:
                raise why from None
        with ledger:
            yield ledger, why


def here(spec_file: str | None = None) -> Here:
    """The place of this call. Raises SpecError when the spec has mistakes."""
    if spec_file is None:
        return Here(state_folder(), find.load(Path.cwd(), config_file()))
    named = Path(spec_file).absolute()
    if not named.is_file():
        raise NotFound(f"no file {named}", where=str(named))
    return Here(state_folder(), find.read(named))


def here_anyway(spec_file: str | None = None) -> Here:
    """As `here`, but a broken spec is kept as data: what is already armed is watched all the same."""
    try:
        return here(spec_file)
    except (SpecError, NotFound) as error:
        broken = error if isinstance(error, SpecError) else SpecError(error.what, where=error.where)
        return Here(state_folder(), Spec(), broken)


def box_named(place: Here, ledger: Ledger, name: str) -> BoxSpec:
    """The box of that name: from the spec, from the ledger, else an alias of the user's ssh_config.

    Raises UsageError when `name` is no name.
    """
    if not decode.is_name(name):
        raise UsageError(f"{name!r} is no box name: {decode.NAME_RULE}", where=name[:64])
    return place.spec.boxes.get(name) or ledger.boxes.find(name) or decode.bare_box(name)


def job_named(place: Here, name: str, box: str, command: tuple[str, ...]) -> RunSpec:
    """The job to arm: `-- CMD` when it was given, else the spec's run of that name.

    Raises UsageError or NotFound, naming the nearest run that exists.
    """
    if not decode.is_name(name):
        raise UsageError(f"{name!r} is no run name: {decode.NAME_RULE}", where=name[:64])
    known = place.spec.runs.get(name)
    if command:
        if known is not None:
            raise UsageError(
                f"run {name!r} has stages in {place.spec.path}; a command after -- would replace them",
                where=name,
                next=(f"babysit arm {box} {name}",),
            )
        return decode.bare_run(name, box, _as_typed(command))
    if known is None:
        raise _no_run(place, name, f"babysit arm {box} {{}}", hint=f"babysit arm {box} {name} -- COMMAND")
    if known.box not in (None, box):
        raise UsageError(
            f"run {name!r} belongs to box {known.box!r} in {place.spec.path}",
            where=name,
            next=(f"babysit arm {known.box} {name}",),
        )
    return known


def run_named(ledger: Ledger, name: str, box: str | None = None) -> Run:
    """The armed run of that name or id, on that box where one is said.

    Raises NotFound, naming what is armed, and UsageError where runs of that name are on many boxes.
    """
    run = ledger.runs.find(name, box)
    if run is not None:
        boxes = {run.box.name} | {each.box.name for each in ledger.runs.all() if each.name == name}
        if box is None and run.run_id != name and len(boxes) > 1:
            raise UsageError(
                f"{name} is armed on {plural(len(boxes), 'box')}: {', '.join(sorted(boxes))}",
                where=name,
                hint=f"say which: BOX {name}",
                next=("babysit status",),
            )
        return run
    armed = sorted({run.name for run in ledger.runs.all()})
    close = decode.meant(name, dict.fromkeys(armed))
    on = f" on {box}" if box else ""
    what = f"no run {name!r}{on} was armed from here"
    hint = f"armed: {', '.join(armed)}" if armed else "nothing is armed; see babysit arm --help"
    if close:
        hint += f" (did you mean {close}?)"
    elif name in {run.box.name for run in ledger.runs.all()}:
        hint = f"{name} is a box: BOX RUN; {hint}"
    raise NotFound(what, where=name, hint=hint, next=("babysit status",))


def _as_typed(command: tuple[str, ...]) -> str:
    # One word is a shell line as its author quoted it; several are words, and stay these words.
    if len(command) == 1:
        return command[0]
    from fleet.text.quote import sh  # noqa: PLC0415 - only for this form

    return " ".join(sh(word) for word in command)


def _no_run(place: Here, name: str, command: str, *, hint: str) -> NotFound:
    close = decode.meant(name, place.spec.runs)
    if place.spec.path is None:
        return NotFound(f"no run {name!r}: there is no babysit.toml here", where=name, next=(hint,))
    file = os.path.relpath(place.spec.path)
    if close is None:
        return NotFound(f"no run {name!r} in {file}", where=name, next=(hint,))
    line = place.spec.lines.get(f"run.{close}")
    says = f"no run {name!r} in {file} (line {line} has {close!r})"
    return NotFound(says, where=name, next=(command.format(close),))
