"""Recompute the derived tables from the entries.

Called by ``kaifu ledger rebuild`` and by tests that show that a rebuild changes nothing. Everything happens in one
transaction: when it fails nothing has changed, and until it is done readers see the old tables. Writers wait for it, so a
relay defers mail that needs the ledger for as long as it takes. The index of subjects is begun anew afterwards.

Fails with sqlite3's errors, and with :class:`LedgerError` for an entry that cannot be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from .ledger import LedgerError
from .ledger_derive import Derived
from .ledger_entries import Entry, decode
from .ledger_file import begin_writing
from .ledger_subjects import without_subjects
from .migrations import DERIVED

_EVERY = 2000
DECIDING = ("message", "attempt")


def entries(db: sqlite3.Connection) -> Iterator[Entry]:
    """All entries in order, with those of their cells that exist; without raw reports, which nothing is derived from."""
    rows = db.execute(
        "SELECT e.id, e.body, c.name, c.value FROM entries e LEFT JOIN cells c"
        " ON c.id >= e.id << 20 AND c.id < (e.id + 1) << 20 AND c.name <> 'raw' ORDER BY e.id, c.id"
    )
    number, body, cells = 0, "", dict[str, str | bytes]()
    for number_now, body_now, name, value in rows:
        if number_now != number:
            if number:
                yield _entry(number, body, cells)
            number, body, cells = number_now, body_now, {}
        if name is not None:
            cells[name] = value
    if number:
        yield _entry(number, body, cells)


def _entry(number: int, body: str, cells: dict[str, str | bytes]) -> Entry:
    try:
        entry = decode(body, cells)
        if entry.number != number:
            raise ValueError(f"it says that it is entry {entry.number}")
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"entry {number} of the ledger cannot be read: {error}") from error
    return entry


def rebuild(db: sqlite3.Connection, progress: Callable[[int], None] = lambda _: None) -> int:
    """Recompute everything derived; returns the number of entries. ``progress`` is told how many are done."""
    begin_writing(db)
    try:
        late = _empty(db)
        done = _apply(db, progress)
        for statement in late:
            db.execute(statement)
        with without_subjects(db):
            db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return done


def _empty(db: sqlite3.Connection) -> list[str]:
    """Drop and remake the derived tables; returns the statements that make the indexes that can wait until they are full."""
    marks = ",".join("?" * len(DERIVED))
    made = db.execute(
        f"SELECT type, tbl_name, sql FROM sqlite_master WHERE tbl_name IN ({marks}) AND sql IS NOT NULL", DERIVED
    ).fetchall()
    for table in DERIVED:
        db.execute(f"DROP TABLE {table}")
    return make_tables(db, made)


def make_tables(db: sqlite3.Connection, made: list[tuple[str, str, str]]) -> list[str]:
    """Make derived tables (type, table and statement of each thing in the schema) and what filling them needs.

    Returns the statements that make the indexes that can wait until they are full.
    """
    late = []
    for kind, table, sql in sorted(made, key=lambda row: row[0] != "table"):
        if kind == "table" or table == "evidence":
            db.execute(sql)
        else:
            late.append(sql)
    return late


class Rebuilding:
    """Fills empty derived tables from one entry after another. ``source``: where the entries are, if not in ``db``."""

    def __init__(self, db: sqlite3.Connection, source: sqlite3.Connection | None = None) -> None:
        self._db = db
        self._derived = Derived(db, source)
        self._number = self._message = self._recipient = 0
        self.done = 0

    def add(self, entry: Entry) -> None:
        """The next entry. LedgerError when it cannot be read."""
        try:
            self._derived.apply(entry)
            for decided in entry.body["to"] if entry.kind in DECIDING else ():
                self._recipient = max(self._recipient, decided["id"])
            self._number, self._message = entry.number, max(entry.message or 0, self._message)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerError(f"entry {entry.number} of the ledger cannot be read: {error!r}") from error
        self.done += 1
        if self.done % _EVERY == 0:
            self._derived.flush()

    def finish(self) -> None:
        """Write the rest."""
        self._derived.flush()
        self._db.execute("INSERT INTO head VALUES (1, ?, ?, ?)", (self._number, self._message, self._recipient))


def _apply(db: sqlite3.Connection, progress: Callable[[int], None]) -> int:
    rebuilding = Rebuilding(db)
    for entry in entries(db):
        rebuilding.add(entry)
        if rebuilding.done % _EVERY == 0:
            progress(rebuilding.done)
    rebuilding.finish()
    progress(rebuilding.done)
    return rebuilding.done
