"""Events on their way to their targets. A row is claimed, tried and marked; a crash between repeats it."""

from random import Random
from typing import Any

from msgspec import Struct

from fleet.errors import LedgerError
from fleet.ledger.rows import ASKED, GONE, Event, OutboxRow
from fleet.ledger.store import Store
from fleet.model.verdict import Severity

# How long a receiver that failed is left alone, by the number of the try; the last one repeats.
BACK_OFF_S = (30, 60, 120, 300, 900, 3600)
GIVE_UP_AFTER_S = 72 * 3600
# A receiver that says when to come again is asked then; from this try on never sooner than we would.
ASKED_LEAST_S = 1.0
_ASKED_TRIES = 3
GONE_EVERY_S = 3600.0
_JITTER = 0.25  # of the back-off, on top of it: receivers that fell together are not asked together
# Nothing waits longer. What is due or leased later than that was written by a clock that was set back since.
_WAITS_MOST_S = BACK_OFF_S[-1] * (1 + _JITTER)

_COLUMNS = (
    "event_id, run_id, kind, severity, at, title, body, target, reference, state, due_at, tries, error"
    " FROM outbox JOIN event USING (event_id)"
)


class Told(Struct, frozen=True):
    """What a receiver said of itself: leave it alone for `wait_s` seconds, or that it is `gone` for good."""

    wait_s: float | None = None
    gone: bool = False


class Outbox:
    """The `outbox` table: at least once a target, at most one copy at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def event(self, event_id: str) -> Event | None:
        """The event with this id; None: there is none."""
        found = self._store.rows(
            "SELECT event_id, run_id, kind, severity, at, title, body FROM event WHERE event_id = ?", event_id
        )
        return _event(found[0]) if found else None

    def undelivered(self) -> tuple[OutboxRow, ...]:
        """What has not reached its target: `due` will be tried again, `dead` was given up. Oldest first."""
        found = self._store.rows(f"SELECT {_COLUMNS} WHERE state <> 'sent' ORDER BY at, event_id, target")
        return tuple(_row(values) for values in found)

    def next_due(self, now: float) -> float | None:
        """When the next row may be claimed; None: nothing is waiting."""
        found = self._store.rows(
            "SELECT min(max(CASE WHEN due_at > ?2 THEN ?1 ELSE due_at END,"
            " CASE WHEN leased_until > ?2 THEN ?1 ELSE leased_until END)) FROM outbox WHERE state = 'due'",
            now,
            now + _WAITS_MOST_S,
        )
        due_at: float | None = found[0][0]
        return due_at

    def claim_due(self, now: float, lease_s: float) -> OutboxRow | None:
        """One row that is due, ours alone for `lease_s` seconds, its try counted; None: nothing is due.

        The least tried go first, so that one row no receiver takes cannot hold up the others.
        """
        with self._store.transaction():
            found = self._store.rows(
                f"SELECT {_COLUMNS} WHERE state = 'due' AND (due_at <= ?1 OR due_at > ?2)"
                " AND (leased_until <= ?1 OR leased_until > ?2)"
                " ORDER BY tries, due_at, at, event_id, target LIMIT 1",
                now,
                now + _WAITS_MOST_S,
            )
            if not found:
                return None
            row = _row(found[0])
            self._store.change(
                "UPDATE outbox SET tries = tries + 1, leased_until = ? WHERE event_id = ? AND target = ?",
                now + lease_s,
                row.event.event_id,
                row.target,
            )
        return OutboxRow(
            row.event, row.target, row.reference, row.state, row.due_at, row.tries + 1, row.error
        )

    def overtaken(self, row: OutboxRow) -> bool:
        """Whether its target has had newer news of the same run already."""
        return bool(
            self._store.rows(
                "SELECT 1 FROM outbox JOIN event USING (event_id)"
                " WHERE target = ? AND run_id = ? AND state = 'sent' AND at > ? LIMIT 1",
                row.target,
                row.event.run_id,
                row.event.at,
            )
        )

    def mark_sent(self, row: OutboxRow, at: float) -> None:
        """The receiver took it: true whoever claimed the row since. Was it gone, its other rows are due."""
        with self._store.transaction():
            self._store.change(
                "UPDATE outbox SET state = 'sent', ended_at = ?, error = NULL"
                " WHERE event_id = ? AND target = ?",
                at,
                row.event.event_id,
                row.target,
            )
            if row.gone:
                self._store.change(
                    "UPDATE outbox SET due_at = min(due_at, ?)"
                    " WHERE reference = ? AND target = ? AND state = 'due'",
                    at,
                    row.reference,
                    row.target,
                )

    def mark_failed(
        self, row: OutboxRow, error: str, at: float, jitter: Random, told: Told | None = None
    ) -> str:
        """The receiver did not take it; returns the row's new state: `due` again, or `dead` after 72 h.

        Other rows for the same receiver wait for the first back-off: it is asked once, not once a row. Where
        it `told` us when to come again, or that it is gone, they wait as long as this one.
        A claim that is no longer ours changes nothing.
        """
        told = told or Told()
        wait_s = _wait_s(row.tries, told, jitter)
        others_s = BACK_OFF_S[0] if told == Told() else wait_s
        error = f"{GONE}: {error}" if told.gone else f"{ASKED}: {error}" if told != Told() else error
        # Old age alone is no reason: this machine may have slept for days and not have tried.
        over = row.tries >= len(BACK_OFF_S) and at - row.event.at >= GIVE_UP_AFTER_S
        state = "dead" if over else "due"
        with self._store.transaction():
            self._store.change(
                "UPDATE outbox SET state = ?, due_at = ?, leased_until = 0, error = ?, ended_at = ?"
                " WHERE event_id = ? AND target = ? AND tries = ? AND state = 'due'",
                state,
                at + wait_s,
                error,
                at if state == "dead" else None,
                row.event.event_id,
                row.target,
                row.tries,
            )
            self._store.change(
                "UPDATE outbox SET due_at = max(due_at, ?)"
                " WHERE reference = ? AND target = ? AND state = 'due'",
                at + others_s,
                row.reference,
                row.target,
            )
        return state


def _wait_s(tries: int, told: Told, jitter: Random) -> float:
    back_off_s = BACK_OFF_S[min(tries, len(BACK_OFF_S)) - 1] * (1 + jitter.random() * _JITTER)
    if told.gone:
        return GONE_EVERY_S
    if told.wait_s is None:
        return back_off_s
    return max(told.wait_s, ASKED_LEAST_S if tries <= _ASKED_TRIES else back_off_s)


def _row(values: tuple[Any, ...]) -> OutboxRow:
    return OutboxRow(_event(values[:7]), *values[7:])


def _event(values: tuple[Any, ...]) -> Event:
    event_id, run_id, kind, severity, at, title, body = values
    if severity not in set(Severity):
        says = f"event {event_id} has a severity that is none of ours: {severity!r}"
        raise LedgerError(says, hint="a newer babysit may have written it", next=("babysit check",))
    return Event(event_id, run_id, kind, Severity(severity), at, title, body)
