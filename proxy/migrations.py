"""The ledger's schema, as migrations by sqlite-utils: each and the record of it in one transaction.

Called when a ledger is opened for writing and by ``kaifu ledger migrate``. A migration that has been released is never
changed; what is new is a new function at the end of :data:`STEPS`. Not on the hot path: sqlite-utils is imported
only when there is something to migrate.

Source tables hold what cannot be recomputed: ``entries`` and ``cells`` (append-only facts, see
:mod:`kaifu.proxy.ledger_entries`), ``batches`` (their seals, :mod:`kaifu.proxy.ledger_seal`), ``identity`` (the ledger's random
id), ``counts`` (figures about mail that leaves no row), ``served`` (partial successes,
kept for days), ``unmatched``, ``traces`` and ``secrets`` (:mod:`kaifu.proxy.ledger_apart`). Derived tables are recomputed from the entries by ``kaifu ledger rebuild``.

Fails with :class:`LedgerError` when a ledger was written by a newer version, and passes sqlite3's errors on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from .ledger import LedgerError

if TYPE_CHECKING:
    from sqlite_utils import Database

SET = "kaifu-ledger"

_FIRST = """
CREATE TABLE entries (id INTEGER PRIMARY KEY, message INTEGER, body TEXT NOT NULL);
CREATE INDEX entries_message ON entries (message) WHERE message IS NOT NULL;
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, salt BLOB NOT NULL, value NOT NULL,
    entry INTEGER GENERATED ALWAYS AS (id >> 20) VIRTUAL
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL,
    root BLOB NOT NULL, head BLOB NOT NULL, marks BLOB NOT NULL
);
CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), ledger BLOB NOT NULL);
INSERT INTO identity VALUES (1, randomblob(16));
CREATE TABLE counts (
    hour INTEGER NOT NULL, direction TEXT NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (hour, direction, kind)
) WITHOUT ROWID;
CREATE TABLE served (
    retry_key BLOB NOT NULL, body_digest BLOB NOT NULL, recipients BLOB NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (retry_key, body_digest)
) WITHOUT ROWID;
CREATE TABLE unmatched (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, verdict TEXT NOT NULL, value TEXT NOT NULL,
    cited TEXT, by TEXT NOT NULL, about TEXT NOT NULL, message_id TEXT, carrier INTEGER, expires INTEGER NOT NULL,
    key INTEGER NOT NULL
);
CREATE UNIQUE INDEX unmatched_key ON unmatched (key);
CREATE INDEX unmatched_expires ON unmatched (expires);
CREATE INDEX unmatched_carrier ON unmatched (carrier) WHERE carrier IS NOT NULL;
CREATE TABLE traces (digest BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX traces_expires ON traces (expires);
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO secrets VALUES ('traces', randomblob(32)), ('attempts', randomblob(32));

CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), entry INTEGER NOT NULL, message INTEGER NOT NULL, recipient INTEGER NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, 0);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, sent_at INTEGER NOT NULL, kind TEXT NOT NULL,
    message_id TEXT, id_hash INTEGER, sender TEXT, sender_key TEXT, subject TEXT, envid TEXT
);
CREATE INDEX messages_id_hash ON messages (id_hash) WHERE id_hash IS NOT NULL;
CREATE INDEX messages_sender ON messages (sender_key, at) WHERE sender_key IS NOT NULL;
CREATE INDEX messages_envid ON messages (envid) WHERE envid IS NOT NULL;
CREATE TABLE recipients (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, entry INTEGER NOT NULL, at INTEGER NOT NULL,
    address TEXT, address_key TEXT, direction TEXT NOT NULL, request TEXT NOT NULL, asked_by TEXT NOT NULL,
    report_asked_by TEXT NOT NULL, rule TEXT, outcome TEXT NOT NULL, state TEXT NOT NULL,
    transport TEXT NOT NULL DEFAULT 'unknown', handling TEXT NOT NULL DEFAULT 'none', failed_at INTEGER,
    delivered_at INTEGER, displayed_at INTEGER, replied_at INTEGER, attested INTEGER NOT NULL DEFAULT 0,
    confirm TEXT, grade TEXT, expanded INTEGER NOT NULL DEFAULT 0, answering INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX recipients_message ON recipients (message);
CREATE INDEX recipients_at ON recipients (at);
CREATE INDEX recipients_state ON recipients (state, at);
CREATE INDEX recipients_address ON recipients (address_key, at) WHERE address_key IS NOT NULL;
CREATE INDEX recipients_rule ON recipients (rule, at) WHERE rule IS NOT NULL;
CREATE INDEX recipients_grade ON recipients (grade, at) WHERE grade IS NOT NULL;
CREATE INDEX recipients_attested ON recipients (at) WHERE attested > 0;
CREATE INDEX recipients_told ON recipients (state, at, request, grade) WHERE state NOT IN ('waiting', 'not-asked');
CREATE TABLE attempts (message INTEGER PRIMARY KEY, key BLOB NOT NULL, at INTEGER NOT NULL);
CREATE INDEX attempts_key ON attempts (key);
CREATE TABLE evidence (
    entry INTEGER PRIMARY KEY, recipient INTEGER, at INTEGER NOT NULL, kind TEXT NOT NULL, verdict TEXT NOT NULL,
    value TEXT NOT NULL, duplicate INTEGER NOT NULL, key INTEGER, revoked INTEGER, grade TEXT, by_address TEXT, by_key TEXT,
    answerer INTEGER NOT NULL, pair INTEGER, counts INTEGER NOT NULL
);
CREATE INDEX evidence_recipient ON evidence (recipient, key);
CREATE INDEX evidence_by ON evidence (by_key, recipient) WHERE by_key IS NOT NULL;
CREATE INDEX evidence_counting ON evidence (recipient, answerer) WHERE counts = 1;
CREATE INDEX evidence_pair ON evidence (pair) WHERE pair IS NOT NULL;
CREATE INDEX evidence_unpaired ON evidence (at)
    WHERE verdict = 'other-address' AND kind IN ('mdn', 'reply') AND pair IS NULL AND by_key IS NOT NULL AND duplicate = 0;
CREATE TABLE pairs (entry INTEGER PRIMARY KEY, asked_key TEXT, other_key TEXT, revoked INTEGER);
CREATE INDEX pairs_other ON pairs (other_key, asked_key) WHERE revoked IS NULL;
CREATE TABLE consent (entry INTEGER PRIMARY KEY, address TEXT NOT NULL, value TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX consent_address ON consent (address, entry);
CREATE TABLE holds (
    message INTEGER NOT NULL, entry INTEGER NOT NULL, released INTEGER, PRIMARY KEY (message, entry)
) WITHOUT ROWID;
CREATE TABLE anchors (place TEXT PRIMARY KEY, batch INTEGER NOT NULL, entry INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE acts (entry INTEGER PRIMARY KEY, at INTEGER NOT NULL, what TEXT NOT NULL, actor TEXT, message INTEGER);
CREATE INDEX acts_at ON acts (at);
CREATE INDEX acts_what ON acts (what, at);
CREATE INDEX acts_actor ON acts (actor, at) WHERE actor IS NOT NULL;
CREATE INDEX acts_message ON acts (message, at) WHERE message IS NOT NULL;
CREATE TABLE policies (entry INTEGER PRIMARY KEY, at INTEGER NOT NULL, digest TEXT NOT NULL, mode TEXT NOT NULL);
CREATE INDEX policies_digest ON policies (digest, entry)
"""


def first_tables(db: Database) -> None:
    """Entries, cells and everything derived from them."""
    for statement in _FIRST.split(";"):
        db.execute(statement)


STEPS: tuple[Callable[[Database], None], ...] = (first_tables,)
DERIVED = (
    "head",
    "messages",
    "recipients",
    "attempts",
    "evidence",
    "pairs",
    "consent",
    "holds",
    "anchors",
    "acts",
    "policies",
)


def applied(db: sqlite3.Connection) -> list[str]:
    """Names of the migrations that a ledger has seen, in order; empty for a new file."""
    known = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'").fetchone()
    if known is None:
        return []
    rows = db.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY id", (SET,))
    return [name for (name,) in rows]


def pending(db: sqlite3.Connection) -> list[str]:
    """Names of the migrations that are still to run. LedgerError when the ledger knows some that we do not."""
    names = [step.__name__ for step in STEPS]
    done = applied(db)
    newer = [name for name in done if name not in names]
    if newer:
        raise LedgerError(
            f"the ledger was written by a newer kaifu (it has {', '.join(newer)}, which this version does not know); "
            "install that version, or restore a backup"
        )
    if not done and db.execute("SELECT 1 FROM sqlite_master WHERE name NOT LIKE 'sqlite%' LIMIT 1").fetchone():
        foreign = db.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_sqlite%' ESCAPE '\\' LIMIT 1")
        if (row := foreign.fetchone()) is not None:
            raise LedgerError(f"this SQLite database is no ledger of kaifu's: it holds a table of others ({row[0]})")
    return [name for name in names if name not in done]


def migrate(db: sqlite3.Connection) -> list[str]:
    """Run what is pending and return the names. The caller makes sure that only one process does so at a time."""
    names = pending(db)
    if names:
        from sqlite_utils import Database
        from sqlite_utils.migrations import Migrations

        steps = Migrations(SET)
        for step in STEPS:
            steps()(step)
        steps.apply(Database(db, execute_plugins=False))
    return names
