"""What ticks leave behind: one commit each, and what the next tick starts from."""

from collections.abc import Iterable

import msgspec

from fleet.ledger.rows import ASKED, GONE, Event, TickRecord, TickRow
from fleet.ledger.store import Store, encode
from fleet.model.spec import TargetSpec
from fleet.model.verdict import Verdict


class Ticks:
    """Ticks, with the newest verdict and history of each run and the incidents that are open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def commit(self, tick: TickRecord) -> int:
        """Keep the whole tick or none of it; returns its cursor.

        An event that is there already is neither kept nor queued again. Raises LedgerError.
        """
        contents = {verdict.run_id: encode(verdict) for verdict in tick.verdicts}
        with self._store.transaction():
            cursor = self._store.change(
                "INSERT INTO tick (at, took_s, origin, exit_code) VALUES (?, ?, ?, ?)",
                tick.at,
                tick.took_s,
                tick.origin,
                tick.exit_code,
            )
            for run_id, content in contents.items():
                self._store.change(
                    "INSERT OR REPLACE INTO verdict (run_id, tick, content) VALUES (?, ?, ?)",
                    run_id,
                    cursor,
                    content,
                )
            for run_id, content in tick.histories.items():
                self._store.change(
                    "INSERT OR REPLACE INTO history (run_id, content) VALUES (?, ?)", run_id, content
                )
            self._store.change("INSERT OR REPLACE INTO incidents (id, content) VALUES (1, ?)", tick.incidents)
            targets = self._targets(tick.targets)
            for event in tick.events:
                self._queue(event, contents.get(event.run_id), targets)
        return cursor

    def _targets(self, told: tuple[TargetSpec, ...] | None) -> tuple[TargetSpec, ...]:
        """The targets that hold: those just told, which are remembered, else the remembered ones."""
        kept = self._store.rows("SELECT content FROM target ORDER BY name")
        known = tuple(self._store.decode(content, TargetSpec) for (content,) in kept)
        if told is None or set(told) == set(known):
            return known
        self._store.change("DELETE FROM target")
        for target in told:
            self._store.change(
                "INSERT INTO target (name, content) VALUES (?, ?)", target.name, encode(target)
            )
        return told

    def _queue(self, event: Event, verdict: bytes | None, targets: Iterable[TargetSpec]) -> None:
        self._store.change(
            "INSERT INTO event (event_id, run_id, kind, severity, at, title, body, verdict)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            event.event_id,
            event.run_id,
            event.kind,
            event.severity,
            event.at,
            event.title,
            event.body,
            verdict,
        )
        for target in targets:
            if event.severity in target.on:
                self._store.change(
                    "INSERT INTO outbox (event_id, target, reference, due_at) VALUES (?1, ?2, ?3, max(?4,"
                    " coalesce((SELECT max(due_at) FROM outbox WHERE target = ?2 AND reference = ?3"
                    " AND state = 'due' AND (error GLOB ?5 OR error GLOB ?6)), ?4))) ON CONFLICT DO NOTHING",
                    event.event_id,
                    target.name,
                    target.url,
                    event.at,
                    f"{ASKED}*",
                    f"{GONE}*",
                )

    def note(self, event: Event) -> None:
        """Keep an event that no tick found, beside those that ticks did. Nobody is told of it."""
        self._queue(event, None, ())

    def tell(self, event: Event, told: tuple[TargetSpec, ...] | None) -> int:
        """Keep an event that a person asked to be told of, for every target; returns how many there are.

        `told` is as in TickRecord.targets.
        """
        with self._store.transaction():
            targets = self._targets(told)
            every = (msgspec.structs.replace(target, on=("page", "note")) for target in targets)
            self._queue(event, None, every)
        return len(targets)

    def events(
        self, run_id: str | None = None, limit: int = 20, *, kind: str | None = None, on: str | None = None
    ) -> tuple[Event, ...]:
        """What was told or noted, newest first; of one run, or of all, and of one kind, or of any.

        `on` adds what was said to loops of no run on the box of that name.
        """
        found = self._store.rows(
            "SELECT event_id, run_id, kind, severity, at, title, body FROM event"
            " WHERE (?1 IS NULL OR run_id = ?1 OR (run_id = '-' AND substr(title, -length(?4)) = ?4))"
            " AND (?3 IS NULL OR kind = ?3) ORDER BY at DESC, rowid DESC LIMIT ?2",
            run_id,
            limit,
            kind,
            None if on is None else f" on {on}",
        )
        return tuple(Event(*values) for values in found)

    def verdicts(self, run_id: str | None = None) -> dict[str, Verdict]:
        """The newest verdict of one run or of each, by run id; a run that no tick has judged is not in it."""
        found = self._store.rows(
            "SELECT run_id, content FROM verdict WHERE ?1 IS NULL OR run_id = ?1", run_id
        )
        return {run_id: self._store.decode(content, Verdict) for run_id, content in found}

    def histories(self) -> dict[str, bytes]:
        """The newest history of each run, by run id, as it was given."""
        return dict(self._store.rows("SELECT run_id, content FROM history"))

    def incidents(self) -> bytes | None:
        """The incidents as the newest tick gave them; None before the first."""
        found = self._store.rows("SELECT content FROM incidents")
        return found[0][0] if found else None

    def seen(self, origin: str | None = None, limit: int = 20) -> tuple[TickRow, ...]:
        """Ticks that fired, newest first; of one origin, or of all. They prove that a timer is armed."""
        found = self._store.rows(
            "SELECT id, at, took_s, origin, exit_code FROM tick WHERE ?1 IS NULL OR origin = ?1"
            " ORDER BY id DESC LIMIT ?2",
            origin,
            limit,
        )
        return tuple(TickRow(*row) for row in found)
