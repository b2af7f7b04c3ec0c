"""The tables, as the ordered scripts that made them. A released script is never edited: append one."""

import sqlite3

# `content` holds the JSON of a frozen value; columns beside it are what we look things up by.
# Times are host time, epoch seconds.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE run (
        run_id TEXT PRIMARY KEY, name TEXT NOT NULL, box TEXT NOT NULL, armed_at REAL NOT NULL,
        superseded_by TEXT, content BLOB NOT NULL);
    CREATE INDEX run_by_name ON run (name, armed_at);
    CREATE TABLE intent (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
        at REAL NOT NULL, outcome TEXT, done_at REAL);
    CREATE TABLE box (name TEXT PRIMARY KEY, content BLOB NOT NULL);
    CREATE TABLE pin (
        box TEXT PRIMARY KEY, key_type TEXT NOT NULL, key_b64 TEXT NOT NULL, at REAL NOT NULL,
        source TEXT NOT NULL);
    CREATE TABLE pin_history (
        id INTEGER PRIMARY KEY AUTOINCREMENT, box TEXT NOT NULL, key_type TEXT NOT NULL,
        key_b64 TEXT NOT NULL, at REAL NOT NULL, source TEXT NOT NULL, replaced_at REAL NOT NULL);
    CREATE TABLE tick (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, took_s REAL NOT NULL, origin TEXT NOT NULL,
        exit_code INTEGER NOT NULL);
    CREATE INDEX tick_by_origin ON tick (origin, id);
    CREATE TABLE verdict (
        run_id TEXT PRIMARY KEY, tick INTEGER NOT NULL REFERENCES tick (id), content BLOB NOT NULL);
    CREATE TABLE history (run_id TEXT PRIMARY KEY, content BLOB NOT NULL);
    CREATE TABLE incidents (id INTEGER PRIMARY KEY CHECK (id = 1), content BLOB NOT NULL);
    CREATE TABLE event (
        event_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL,
        at REAL NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL, verdict BLOB);
    CREATE TABLE outbox (
        event_id TEXT NOT NULL REFERENCES event (event_id), target TEXT NOT NULL, reference TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'sent', 'dead')), due_at REAL NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0, leased_until REAL NOT NULL DEFAULT 0, error TEXT, ended_at REAL,
        PRIMARY KEY (event_id, target));
    CREATE INDEX outbox_by_state ON outbox (state, due_at);
    CREATE TABLE waiter (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, identity TEXT NOT NULL,
        deadline REAL NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE target (name TEXT PRIMARY KEY, content BLOB NOT NULL);
    """,
    """
    ALTER TABLE run ADD COLUMN disarmed_at REAL;
    ALTER TABLE pin ADD COLUMN address TEXT;
    ALTER TABLE pin_history ADD COLUMN address TEXT;
    CREATE TABLE away (
        box TEXT PRIMARY KEY, failures INTEGER NOT NULL, cause TEXT NOT NULL, at REAL NOT NULL,
        not_before REAL NOT NULL);
    CREATE TABLE patroller (
        id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL, every_s REAL NOT NULL, at REAL NOT NULL,
        next_at REAL NOT NULL, skipped INTEGER NOT NULL DEFAULT 0);
    """,
)
VERSION = len(MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """The number of scripts that this file has behind it; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, scripts: tuple[str, ...] = MIGRATIONS) -> None:
    """Run the scripts that are missing, each wholly or not at all. The connection must be in autocommit."""
    for number in range(version(connection) + 1, len(scripts) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in scripts[number - 1].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
