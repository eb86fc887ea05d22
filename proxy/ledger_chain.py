"""Where entries stand in the chain of seals, and whether they are still what was sealed: what screens show of proof and integrity.

Called by the desk (:mod:`kaifu.proxy.ledger_desk`), on a read-only connection; one short read transaction each. What is said here of a few entries is
what :mod:`kaifu.proxy.ledger_verify` says of all: each is recomputed up to the newest head. It says nothing of a ledger that was written anew as
a whole; only an anchor that was kept elsewhere does. Fails with sqlite3's errors, and with :class:`LedgerError` where a batch is missing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .ledger_check import check_entry, leaf_of
from .ledger_entries import CELLS_PER_ENTRY, at_value
from .ledger_holds import ranges_of
from .ledger_proof import batch_at, head_at, ledger_id, newest_batch
from .ledger_seal import Batch, genesis, head_of, root_of, skip, way

MOST_ENTRIES = 500
"""Entries that one question is about."""
MOST_ERASURES = 100


class Erasure(NamedTuple):
    """An erasure: its entry, when (UTC microseconds), on which ground, and of how many entries it erased cells."""

    entry: int
    at: int
    ground: str
    entries: int


class ChainState(NamedTuple):
    """The whole chain. ``ledger``: its id; ``newest``: the last batch, None for an empty ledger; ``erasures``: the newest ones."""

    ledger: bytes
    newest: Batch | None
    erasures: tuple[Erasure, ...]


class SealedEntry(NamedTuple):
    """One entry. ``at``: UTC microseconds; ``missing``: cells that were erased; ``wrong``: what is not as it was sealed, None: nothing."""

    entry: int
    kind: str
    at: int
    batch: int
    missing: tuple[str, ...]
    wrong: str | None


class SentAnchor(NamedTuple):
    """The newest anchor that a place has: of which batch, up to which entry, sent when (UTC microseconds)."""

    place: str
    batch: int
    last: int
    at: int


class Seals(NamedTuple):
    """Some entries, up to the newest head. ``anchors``: what was sent where; those of a batch that is not older cover an entry."""

    ledger: bytes
    newest: Batch
    entries: tuple[SealedEntry, ...]
    anchors: tuple[SentAnchor, ...]


def chain_state(db: sqlite3.Connection) -> ChainState:
    """The chain as it stands."""
    db.execute("BEGIN")
    try:
        query = (
            "SELECT e.id, e.body FROM acts a JOIN entries e ON e.id = a.entry WHERE a.what = 'erasure'"
            " ORDER BY a.at DESC LIMIT ?"
        )
        erasures = [_erasure(*row) for row in db.execute(query, (MOST_ERASURES,))]
        return ChainState(ledger_id(db), newest_batch(db), tuple(erasures))
    finally:
        db.execute("ROLLBACK")


def _erasure(number: int, text: str) -> Erasure:
    body = json.loads(text)
    entries = sum(last - first + 1 for first, last in ranges_of(body["entries"]))
    return Erasure(number, at_value(body["at"]), str(body["ground"]), entries)


def seals(db: sqlite3.Connection, numbers: Iterable[int]) -> Seals:
    """How some entries are sealed, in order, at most :data:`MOST_ENTRIES`. LedgerError when the ledger is empty or lacks one of them."""
    db.execute("BEGIN")
    try:
        found, batches = list[SealedEntry](), dict[int, str | None]()
        for number in sorted(set(numbers))[:MOST_ENTRIES]:
            batch = batch_at(db, number)
            if batch.id not in batches:
                batches[batch.id] = _wrong_with(db, batch)
            found.append(_sealed(db, number, batch.id, batches[batch.id]))
        newest = newest_batch(db) or batch_at(db, 1)
        return Seals(ledger_id(db), newest, tuple(found), tuple(_anchors(db)))
    finally:
        db.execute("ROLLBACK")


def _sealed(db: sqlite3.Connection, number: int, batch: int, wrong: str | None) -> SealedEntry:
    message, text = db.execute("SELECT message, body FROM entries WHERE id = ?", (number,)).fetchone()
    first = number * CELLS_PER_ENTRY
    query = "SELECT id, name, salt, value FROM cells WHERE id >= ? AND id < ? ORDER BY id"
    checked = check_entry(number, message, text, db.execute(query, (first, first + CELLS_PER_ENTRY)).fetchall())
    if checked.findings:
        wrong = checked.findings[0].text
    if checked.entry is None:
        return SealedEntry(number, "", 0, batch, (), wrong or f"entry {number} cannot be read")
    return SealedEntry(number, checked.entry.kind, checked.entry.at, batch, tuple(checked.missing), wrong)


def _wrong_with(db: sqlite3.Connection, batch: Batch) -> str | None:
    """Is a batch what its entries make, and does the newest head lead down to it?"""
    query = "SELECT body FROM entries WHERE id >= ? AND id <= ? ORDER BY id"
    leaves = [leaf_of(text) for (text,) in db.execute(query, (batch.first, batch.last))]
    if len(leaves) != batch.last - batch.first + 1 or root_of(leaves) != batch.root:
        return f"the entries of batch {batch.id} are not those that were sealed"
    newest = newest_batch(db)
    for step in way(newest.id, batch.id) if newest is not None else ():
        if not _is_chained(db, step):
            return f"the chain of seals is broken at batch {step}"
    return None


def _is_chained(db: sqlite3.Connection, number: int) -> bool:
    row = db.execute("SELECT first, last, root, head FROM batches WHERE id = ?", (number,)).fetchone()
    if row is None:
        return False
    first, last, root, head = row
    return bool(head_of(number, first, last, root, _head(db, number - 1), _head(db, skip(number))) == head)


def _head(db: sqlite3.Connection, number: int) -> bytes:
    return genesis(ledger_id(db)) if number == 0 else head_at(db, number)


def _anchors(db: sqlite3.Connection) -> Sequence[SentAnchor]:
    query = (
        "SELECT a.place, a.batch, b.last, c.at FROM anchors a JOIN batches b ON b.id = a.batch JOIN acts c ON c.entry = a.entry"
        " ORDER BY a.place"
    )
    return [SentAnchor(*row) for row in db.execute(query)]
