"""Is what this machine knows sound? Looks; rebuilds where it is told to, or where a tick meets damage."""

from collections.abc import Iterator

from msgspec import Struct

from babysit.acts import loose_ends
from babysit.acts.here import Here
from fleet import clock
from fleet.errors import BabysitError, LedgerDamaged, LedgerRepaired
from fleet.ledger import backup
from fleet.ledger import check as soundness
from fleet.ledger.check import Finding
from fleet.ledger.private import tighten
from fleet.ledger.repair import Repaired
from fleet.ledger.repair import repair as rebuild
from fleet.ledger.said import REPAIR
from fleet.text.say import plural
from patrol.history import History
from patrol.incidents import Incident
from sentinels.lease import alive

# What the ledger keeps for the patrol and does not understand.
_PATROLS = {("history", "content"): History, ("incidents", "content"): tuple[Incident, ...]}
_WORDS = {"run": "run", "box": "box", "pin": "host key", "target": "receiver", "outbox": "notice"}
_GONE_S = 86400.0
_OFTEN, _OFTEN_S = 3, 86400.0


class Checked(Struct, frozen=True):
    """All that is not as it should be, and what was repaired first; `repaired` None: no file was rebuilt."""

    findings: tuple[Finding, ...]
    repaired: Repaired | None
    exit_code: int


def check(place: Here, *, repair: bool = False) -> Checked:
    """Look at all of the ledger; with `repair`, rebuild what is damaged and close what is open to others.

    Raises Busy or LedgerError where a repair cannot be done.
    """
    now = clock.now()
    found = soundness.check(place.folder, now, _PATROLS)
    repaired = None
    if repair:
        for path in (each.open_to_others for each in found):
            if path is not None:
                tighten(path)
        strict = any(each.strange for each in found)
        repaired = mend(place, strict=strict) if strict or any(each.damaged for each in found) else None
        found = soundness.check(place.folder, now, _PATROLS)
    if not any(each.unusable or each.damaged or each.strange for each in found):
        found = (*found, *_loose_ends(place))
    code = 2 if any(each.unusable for each in found) else 10 if found else 0
    return Checked(found, repaired, code)


def _loose_ends(place: Here) -> Iterator[Finding]:
    with place.ledger(write=False) as ledger:
        for error in loose_ends.told(place, ledger, under_way=True):
            yield Finding(error.what, error.next[0])


def mend_unasked(place: Here, damage: LedgerDamaged) -> LedgerRepaired:
    """What a tick does with a damaged ledger when nobody is there, as one thing to be said.

    Raises `damage` again where that was done often today: a disk like that needs a person. Else as `mend`.
    """
    now = clock.now()
    today = [each for each in place.folder.glob("damaged-*") if now - each.stat().st_mtime < _OFTEN_S]
    if len(today) >= _OFTEN:
        damage.hint = f"it was moved aside {plural(len(today), 'time')} today already: is the disk sound?"
        raise damage
    done = mend(place)
    return LedgerRepaired(" ".join(lines(done)), where=str(done.aside), next=("babysit check",))


def mend(place: Here, *, strict: bool = False) -> Repaired:
    """Move a damaged ledger aside and go on with what can be read of it and of its backups.

    Raises Busy or LedgerError; nothing was changed then.
    """
    pages = (place.folder / "handbook").glob("*.md")
    told = [page.stem for page in pages if page.stem != "handbook"]
    return rebuild(place.folder, at=clock.now(), more=_PATROLS, told=told, strict=strict)


def lines(done: Repaired) -> Iterator[str]:
    """What a repair did and what it could not, a sentence each."""
    yield f"The ledger was damaged; it lies in {done.aside} as it was found."
    yield f"Read from it: {_counts(done.kept)}."
    if done.restored:
        where = f" from {done.backup}" if done.backup else ""
        yield f"Restored{where}: {_counts(done.restored)}."
    if done.restored.get("outbox"):
        yield "A notice that was sent since that backup may come a second time."
    if done.lost or done.lost_runs:
        lost = {**done.lost, "run": len(done.lost_runs)}
        named = f" ({', '.join(run.run_id for run in done.lost_runs)})" if done.lost_runs else ""
        yield f"Lost: {_counts({table: n for table, n in lost.items() if n})}{named}."
    if "run" in done.unread:
        yield "A run that was armed since the newest backup may be missing, too: take it back by"
        yield "`babysit resume RUN --at USER@HOST:PORT`."


def _counts(rows: dict[str, int]) -> str:
    """`3 runs, 2 notices`; rows that only we have a name for are left out."""
    return (
        ", ".join(plural(rows[table], word) for table, word in _WORDS.items() if rows.get(table)) or "nothing"
    )


def upkeep(place: Here) -> tuple[BabysitError, ...]:
    """After a tick: a backup once a day, old history out in bites. What fails is returned, not raised.

    Before a backup every page is looked at: damage that no tick has met is found within a day, and mended.
    """
    try:
        try:
            _kept_up(place, clock.now())
        except LedgerDamaged as damage:
            news = mend_unasked(place, damage)
            _kept_up(place, clock.now())
            return (news,)
    except BabysitError as error:
        return (error,)
    return ()


def _kept_up(place: Here, now: float) -> None:
    with place.ledger() as ledger:
        if backup.due(place.folder, now):
            wrong = ledger.upkeep.wrong_pages()
            if wrong:
                raise LedgerDamaged(f"the ledger's file is damaged: {wrong[0]}", next=(REPAIR,))
            backup.back_up(place.folder, ledger, now)
        ledger.upkeep.prune(now)
        for waiter in ledger.waiters.all():
            if waiter.deadline < now - _GONE_S and not alive(waiter.identity):
                ledger.waiters.drop(waiter.id)
