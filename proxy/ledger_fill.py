"""Filling the index of subjects, block by block, and following what was erased. The writing half of :mod:`kaifu.proxy.ledger_subjects`.

Its caller holds the lock of the ledger's directory from before the ledger is read until the index is written, and a read transaction of the ledger.
Every function writes in one transaction of the index, so that it is at any moment what the table ``about`` says. Fails with sqlite3's
errors for the ledger, with :class:`~kaifu.proxy.ledger_blocks.IndexFaultError` for the index.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from .ledger_blocks import MOST_SIZE, IndexFaultError, at_index, packed, unpacked
from .ledger_holds import ranges_of
from .ledger_proof import ledger_id
from .subjectgrams import folded, grams

_VERSION = 1
_MOST_NUMBER = 2**62
_TABLES = """
CREATE TABLE about (
    one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, ledger BLOB NOT NULL, batch INTEGER NOT NULL, head BLOB,
    erased INTEGER NOT NULL, size INTEGER NOT NULL, filled INTEGER NOT NULL
);
CREATE TABLE blocks (block INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE grams (block INTEGER NOT NULL, gram TEXT NOT NULL, rows BLOB NOT NULL, PRIMARY KEY (block, gram)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Filling:
    """How far the index is filled: ``filled`` messages ``of`` those that it can have now. ``note``: what was or is wrong, if anything."""

    filled: int = 0
    of: int = 0
    note: str = ""

    @property
    def is_done(self) -> bool:
        """Nothing is left to be done now."""
        return self.filled >= self.of


class About(NamedTuple):
    """Up to where an index was filled: the last batch of the ledger then and its head, the last erasure that was followed, and how many blocks.

    ``size``: messages of a block.
    """

    batch: int
    head: bytes | None
    erased: int
    size: int
    filled: int

    @property
    def end(self) -> int:
        """The first message that it does not have."""
        return self.size * self.filled


def make_tables(index: sqlite3.Connection, ledger: sqlite3.Connection, size: int) -> About:
    """An index without blocks, of this ledger."""
    about, name = About(*_newest_batch(ledger), _last_erasure(ledger), size, 0), ledger_id(ledger)
    with _writing(index):
        for statement in _TABLES.split(";"):
            index.execute(statement)
        index.execute("INSERT INTO about VALUES (1,?,?,?,?,?,?,?)", (_VERSION, name, *about))
    return about


def about_of(index: sqlite3.Connection, ledger: sqlite3.Connection) -> About | None:
    """What an index says of itself; None when it does not belong to this ledger as it is."""
    with at_index():
        row = index.execute("SELECT version, ledger, batch, head, erased, size, filled FROM about").fetchone()
    if row is None or row[0] != _VERSION or row[1] != ledger_id(ledger):
        return None
    with at_index():
        about = _sensible(*row[2:])
    if about.batch:
        found = ledger.execute("SELECT head FROM batches WHERE id = ?", (about.batch,)).fetchone()
        if found is None or found[0] != about.head:
            return None
    return about


def _sensible(batch: Any, head: Any, erased: Any, size: Any, filled: Any) -> About:
    """TypeError or ValueError for what no index of ours says of itself."""
    if not (all(type(each) is int for each in (batch, erased, size, filled)) and (head is None or type(head) is bytes)):
        raise TypeError("it does not say how far it is filled")
    if not (0 < size <= MOST_SIZE and 0 <= filled <= _MOST_NUMBER // size and batch >= 0 and erased >= 0):
        raise ValueError("it says that it is filled as none can be")
    return About(batch, head, erased, size, filled)


def messages_to(ledger: sqlite3.Connection) -> int:
    """One more than the number of the newest message."""
    return int(ledger.execute("SELECT coalesce(max(id), -1) + 1 FROM messages").fetchone()[0])


def fill_next(index: sqlite3.Connection, ledger: sqlite3.Connection, about: About) -> Filling:
    """Fill the next block, if all its messages are there."""
    complete = messages_to(ledger) // about.size
    if about.filled >= complete:
        return Filling(about.end, complete * about.size)
    query = "SELECT id, at, subject FROM messages WHERE id >= ? AND id < ?"
    first = about.end
    rows: dict[str, list[int]] = defaultdict(list)
    times = []
    for number, at, subject in ledger.execute(query, (first, first + about.size)):
        times.append(at)
        if isinstance(subject, str):
            for gram in grams(folded(subject)):
                rows[gram].append(number - first)
    batch, head = _newest_batch(ledger)
    with _writing(index):
        some = ((about.filled, gram, packed(rows[gram])) for gram in sorted(rows))
        index.executemany("INSERT INTO grams VALUES (?,?,?)", some)
        index.execute("INSERT INTO blocks VALUES (?,?,?)", (about.filled, min(times, default=0), max(times, default=0)))
        index.execute("UPDATE about SET batch = ?, head = ?, filled = ?", (batch, head, about.filled + 1))
    return Filling(about.end + about.size, complete * about.size)


def follow(index: sqlite3.Connection, ledger: sqlite3.Connection, about: About) -> None:
    """Erase what the ledger has erased since."""
    last = _last_erasure(ledger)
    if last == about.erased:
        return
    gone = _erased_since(ledger, about)
    with _writing(index):
        for block, offsets in gone.items():
            _scrub(index, block, offsets)
        index.execute("UPDATE about SET erased = ?", (last,))


def _erased_since(ledger: sqlite3.Connection, about: About) -> dict[int, set[int]]:
    """Messages without a subject that later erasures concern: their places, by block."""
    query = "SELECT e.body FROM acts a JOIN entries e ON e.id = a.entry WHERE a.what = 'erasure' AND a.entry > ?"
    messages = (
        "SELECT DISTINCT m.id FROM entries e JOIN messages m ON m.id = e.message"
        " WHERE e.id >= ? AND e.id <= ? AND m.subject IS NULL AND m.id < ?"
    )
    found: dict[int, set[int]] = defaultdict(set)
    for (text,) in ledger.execute(query, (about.erased,)).fetchall():
        for first, last in _ranges(text):
            for (number,) in ledger.execute(messages, (first, last, about.end)):
                found[number // about.size].add(number % about.size)
    return found


def _ranges(text: str) -> list[Any]:
    try:
        return list(ranges_of(json.loads(text)["entries"]))
    except (ValueError, LookupError, TypeError) as error:
        raise IndexFaultError(f"an erasure cannot be followed ({error!r})") from error


def _scrub(index: sqlite3.Connection, block: int, gone: set[int]) -> None:
    """Take messages out of a block. What nothing is left of goes away, with its two characters."""
    for gram, octets in index.execute("SELECT gram, rows FROM grams WHERE block = ?", (block,)).fetchall():
        offsets = unpacked(octets)
        left = [offset for offset in offsets if offset not in gone]
        if not left:
            index.execute("DELETE FROM grams WHERE block = ? AND gram = ?", (block, gram))
        elif len(left) < len(offsets):
            index.execute("UPDATE grams SET rows = ? WHERE block = ? AND gram = ?", (packed(left), block, gram))


def _newest_batch(ledger: sqlite3.Connection) -> tuple[int, bytes | None]:
    row = ledger.execute("SELECT id, head FROM batches ORDER BY id DESC LIMIT 1").fetchone()
    return (0, None) if row is None else (int(row[0]), bytes(row[1]))


def _last_erasure(ledger: sqlite3.Connection) -> int:
    return int(ledger.execute("SELECT coalesce(max(entry), 0) FROM acts WHERE what = 'erasure'").fetchone()[0])


@contextmanager
def _writing(index: sqlite3.Connection) -> Iterator[None]:
    with at_index():
        index.execute("BEGIN IMMEDIATE")
        try:
            yield
            index.execute("COMMIT")
        except BaseException:
            if index.in_transaction:
                index.execute("ROLLBACK")
            raise
