"""Are the derived tables what the entries give? Recomputed beside the ledger, then compared row by row. And is the schema what this
version makes, and does SQLite find in each index what is in its table: what asks by an index would not see the rest.

Called by :mod:`kaifu.proxy.ledger_verify`. The tables are filled in a database of their own, which SQLite keeps in memory and, as it
grows, in an unlinked temporary file (``SQLITE_TMPDIR``, else ``TMPDIR``, else /var/tmp); it may take half the size of the ledger. The
ledger itself is only read: entries as they come, the derived tables once, in order of their keys.

What is said names rows by number, never by what is in them. Fails with sqlite3's errors.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from . import migrations
from .ledger import LedgerError
from .ledger_check import Finding
from .ledger_entries import Entry
from .ledger_rebuild import Rebuilding, make_tables

SOURCES = ("entries", "cells", "batches", "identity")
_SCHEMA = "SELECT type, tbl_name, sql, name FROM sqlite_master"
_OTHERS = re.compile(r'CREATE (?:TABLE|(?:UNIQUE )?INDEX) "?(?:(?:idx_)?_sqlite_migrations|sqlite_stat[14])')
"""What SQLite and sqlite-utils make for themselves. By the statement, as SQLite goes by nothing else: the rest of a row may lie."""
_MOST = 20


class Beside:
    """The derived tables, recomputed. Also keeps what a check must remember in tables of its own (:attr:`db`)."""

    def __init__(self, ledger: sqlite3.Connection) -> None:
        self._ledger = ledger
        self.db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536"):
            self.db.execute(f"PRAGMA {pragma}")
        derived = [(kind, table, sql) for kind, table, sql, _ in _schema() if table in migrations.DERIVED and sql]
        self.db.execute("BEGIN")
        make_tables(self.db, derived)
        self.db.execute("DELETE FROM head")
        self._rebuilding = Rebuilding(self.db, ledger)
        self.failed: Finding | None = None

    def add(self, entry: Entry) -> None:
        """The next entry. The first that cannot be applied ends it: :attr:`failed`."""
        if self.failed is not None:
            return
        try:
            self._rebuilding.add(entry)
        except (LedgerError, sqlite3.Error, OverflowError, RecursionError) as error:
            text = f"from entry {entry.number} on nothing can be derived: {error}"
            self.failed = Finding(entry.number, "changed", text)

    def stop(self, entry: int) -> None:
        """There is an entry that cannot be read: what would be derived from the others means nothing."""
        if self.failed is None:
            self.failed = Finding(entry, "changed", f"from entry {entry} on nothing can be derived")

    def findings(self) -> Iterator[Finding]:
        """What differs, in the ledger's open transaction: the schema, then the tables; of each table the first rows."""
        if self.failed is not None:
            yield self.failed
            return
        self._rebuilding.finish()
        differing = schema_differences(self._ledger)
        yield from map(schema_finding, differing)
        if any(row[1] in migrations.DERIVED and row[0] == "table" for row in differing):
            return
        for (text,) in self._ledger.execute(f"PRAGMA integrity_check({_MOST})").fetchall():
            if text != "ok":
                yield Finding(None, "index", f"SQLite finds the file or an index wrong: {text}")
        for table in migrations.DERIVED:
            yield from islice(self._differences(table), _MOST)

    def _differences(self, table: str) -> Iterator[Finding]:
        columns = self.db.execute(f"PRAGMA table_info({table})").fetchall()
        names = [column[1] for column in columns]
        keys = sorted((column[5], place) for place, column in enumerate(columns) if column[5])
        places = [place for _, place in keys]
        query = f"SELECT * FROM {table} ORDER BY {', '.join(names[place] for place in places)}"
        here, there = self._ledger.execute(query), self.db.execute(query)
        mine, right = here.fetchone(), there.fetchone()
        while mine is not None or right is not None:
            if mine == right:
                mine, right = here.fetchone(), there.fetchone()
                continue
            order = _compare(mine, right, places)
            row = right if order > 0 else mine
            assert row is not None
            wrong = "should not be there" if order < 0 else "is missing"
            if order == 0:
                changed = [name for name, one, other in zip(names, mine, right, strict=True) if one != other]
                wrong = f"has another {' and '.join(changed)} than the entries give"
            yield Finding(_entry(names, row), "derived", f"{_called(table, names, row, places)} {wrong}")
            mine = here.fetchone() if order <= 0 else mine
            right = there.fetchone() if order >= 0 else right

    def close(self) -> None:
        """Forget everything."""
        self.db.close()


SchemaRow = tuple[str, str, str | None, str]


@lru_cache(maxsize=1)
def _schema() -> list[SchemaRow]:
    """What this version makes."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrations.migrate(db)
        return _things(db)
    finally:
        db.close()


def _things(db: sqlite3.Connection) -> list[SchemaRow]:
    """Everything in the schema that is kaifu's to make."""
    return [row for row in db.execute(_SCHEMA) if not (isinstance(row[2], str) and _OTHERS.match(row[2]))]


def schema_differences(db: sqlite3.Connection) -> list[SchemaRow]:
    """What a ledger has that this version does not make, and the other way round."""
    return sorted(set(_things(db)) ^ set(_schema()), key=str)


def schema_finding(row: SchemaRow) -> Finding:
    """What is said of a difference."""
    return Finding(None, "schema", f"the {row[0]} {row[3]!r} of the database is not as this version makes it")


def _compare(mine: tuple[Any, ...] | None, right: tuple[Any, ...] | None, places: list[int]) -> int:
    """-1 when the ledger has a row that is not in the other, 1 the other way round, 0 for two rows with one key."""
    if mine is None or right is None:
        return 1 if mine is None else -1
    one, other = ([_ordered(row[place]) for place in places] for row in (mine, right))
    return (one > other) - (one < other)


def _ordered(value: object) -> tuple[int, Any]:
    """A value as SQLite orders it: numbers, then text by octets, then octets."""
    if isinstance(value, str):
        return 1, value.encode("utf-8", "surrogateescape")
    return (2, value) if isinstance(value, bytes) else (0, value)


def _entry(names: list[str], row: tuple[Any, ...]) -> int | None:
    value = row[names.index("entry")] if "entry" in names else None
    return value if isinstance(value, int) else None


def _called(table: str, names: list[str], row: tuple[Any, ...], places: list[int]) -> str:
    """Which row it is; and of which message and by which entry, as lists and screens number them."""
    key = [row[place] for place in places]
    if not all(isinstance(value, int) for value in key):
        return f"the row of entry {_entry(names, row)} in the derived table {table}"
    beside = [place for place, name in enumerate(names) if name in ("message", "entry") and place not in places]
    known = ", ".join(f"{names[place]} {row[place]}" for place in beside if isinstance(row[place], int))
    return f"the row {', '.join(map(str, key))} of the derived table {table}" + (known and f" ({known})")
