"""What a row, a code or a word means: read from where it is defined, so that no second text can go stale."""

import inspect
from collections.abc import Iterator
from functools import cache

from msgspec import Struct

from fleet import errors
from fleet.errors import EXIT_CODES, BabysitError, NotFound
from fleet.model.probe import Cause, Unreachable
from fleet.model.run import Run
from fleet.model.spec import BoxSpec, RunSpec
from fleet.model.verdict import Health, Severity
from fleet.spec.decode import meant
from patrol.case import Case
from patrol.decide import filled
from patrol.history import History
from patrol.says import Words
from patrol.table import TABLE


class Meaning(Struct, frozen=True):
    """One id explained. `kind` is row, exit code, error, health or severity.

    `exit_code` is what it leads to, None where there is no one code. `facts` are pairs of a label and a
    value, `next` what to do; `see` are other ids that belong to it.
    """

    id: str
    kind: str
    says: str
    exit_code: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    next: tuple[str, ...] = ()
    see: tuple[str, ...] = ()


@cache
def meanings() -> dict[str, Meaning]:
    """Everything that can be explained, by id: rows in the table's order, then codes, errors and words."""
    every = (*_rows(), *_codes(), *_errors(), *_words())
    return {meaning.id: meaning for meaning in every}


def explain(word: str) -> Meaning:
    """What `word` means, in capitals or not. Raises NotFound, naming the nearest id."""
    known = {each.casefold(): each for each in meanings()}
    found = known.get(word.strip().casefold())
    if found is not None:
        return meanings()[found]
    close = meant(word.strip().casefold(), known)
    what = f"{word[:64]!r} is no row, exit code, error code, health or severity"
    hint = f"did you mean {known[close]}?" if close else ""
    nearest = (f"babysit explain {known[close]}",) if close else ()
    raise NotFound(what, where=word[:64], hint=hint, next=(*nearest, "babysit explain"))


def _rows() -> Iterator[Meaning]:
    # Commands for anything: the names of a run and a box stand for themselves, in capitals.
    job = RunSpec(name="RUN", stages=(), results=("FILE",))
    run = Run("RUN", job, BoxSpec(name="BOX", host="HOST", user="USER"), "", "", "", "", armed_at=0.0)
    words = Words(Case(run, Unreachable(Cause.CUT, "", transient=True, at=0.0, took_s=0.0), History(), 0.0))
    for row in TABLE:
        facts = (("health", row.health.value), ("severity", row.severity.value))
        yield Meaning(row.id, "row", row.because, row.exit_code, facts, tuple(filled(row.next, words)))


def _codes() -> Iterator[Meaning]:
    for code, says in EXIT_CODES.items():
        rows = tuple(row.id for row in TABLE if row.exit_code == code)
        failures = tuple(kind.code for kind in _kinds() if kind.exit_code == code)
        yield Meaning(str(code), "exit code", says, code, see=(*rows, *failures))


def _errors() -> Iterator[Meaning]:
    for kind in _kinds():
        again = "may work with nothing changed" if kind.transient else "fails until something is changed"
        facts = (("trying again", again),)
        yield Meaning(kind.code, "error", _doc(kind), kind.exit_code, facts, (kind.remedy,))


def _words() -> Iterator[Meaning]:
    for health in Health:
        rows = [row for row in TABLE if row.health is health]
        says = " Or: ".join(row.because for row in rows) or "No row of the table leads to it."
        yield Meaning(health.value, "health", says, see=tuple(row.id for row in rows))
    for severity in Severity:
        rows = [row for row in TABLE if row.severity is severity]
        yield Meaning(severity.value, "severity", _doc(Severity), see=tuple(row.id for row in rows))


def _kinds() -> tuple[type[BabysitError], ...]:
    every = (each for each in vars(errors).values() if isinstance(each, type))
    return tuple(each for each in every if issubclass(each, BabysitError))


def _doc(kind: type) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
