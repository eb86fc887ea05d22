"""Reading from a ledger what a proof of some of its entries is made of.

Called by who hands records out, on any connection. What a proof is, and how it is checked: :mod:`kaifu.proxy.ledger_seal`.
An entry that is there, but not as it was sealed, gives a proof that does not hold; the caller checks before handing out.

Fails with sqlite3's errors, and with :class:`LedgerError` for an entry that does not exist or an anchor that is none of this
ledger's batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from .ledger import LedgerError
from .ledger_entries import CELLS_PER_ENTRY
from .ledger_seal import Batch, Proof, genesis, leaf, path_of, proof, shown_batch, shown_entry, skip, way

_BATCH = "SELECT id, first, last, root, head, marks FROM batches"


def ledger_id(db: sqlite3.Connection) -> bytes:
    """The random octets that were made with this ledger."""
    return bytes(db.execute("SELECT ledger FROM identity").fetchone()[0])


def newest_batch(db: sqlite3.Connection) -> Batch | None:
    """The last batch; None when nothing was written yet."""
    row = db.execute(f"{_BATCH} ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else Batch(*row)


def batch_at(db: sqlite3.Connection, entry: int) -> Batch:
    """The batch that an entry is in. LedgerError when there is none."""
    low, high = 1, db.execute("SELECT coalesce(max(id), 0) FROM batches").fetchone()[0]
    while low <= high:
        batch = _batch(db, (low + high) // 2)
        if batch.first <= entry <= batch.last:
            return batch
        low, high = (low, batch.id - 1) if entry < batch.first else (batch.id + 1, high)
    raise LedgerError(f"the ledger has no sealed entry {entry}")


def head_at(db: sqlite3.Connection, batch: int) -> bytes:
    """The head of a batch. LedgerError when there is none with this number."""
    return _batch(db, batch).head


def proof_of(
    db: sqlite3.Connection, entries: Mapping[int, Collection[str] | None], anchors: Collection[int] = ()
) -> Proof:
    """The proof of these entries from the anchors of these batches (without any: of the newest).

    ``entries``: by number, the names of the cells to show, as far as they still exist; None for all. LedgerError when there is
    no such entry, no such batch, or all anchors are older than the entry.
    """
    newest = newest_batch(db)
    starts = sorted(set(anchors)) or [newest.id if newest else 0]
    last = _batch(db, starts[-1])
    steps = {step for start in starts for step in way(last.id, start)}
    shown = []
    for entry in sorted(entries):
        batch = batch_at(db, entry)
        if last.id < batch.id:
            raise LedgerError(f"entry {entry} is of batch {batch.id}, after batch {last.id} of the anchor")
        shown.append(_entry(db, entry, batch, entries[entry]))
        steps.update(step for start in starts if start >= batch.id for step in way(start, batch.id))
    batches = [shown_batch(_batch(db, step), _head(db, step - 1), _head(db, skip(step))) for step in sorted(steps)]
    return proof(ledger_id(db), last.head, starts, batches, shown)


def _entry(db: sqlite3.Connection, entry: int, of: Batch, cells: Collection[str] | None) -> dict[str, Any]:
    """An entry as a proof shows it."""
    bodies: dict[int, str] = dict(
        db.execute("SELECT id, body FROM entries WHERE id >= ? AND id <= ? ORDER BY id", (of.first, of.last)).fetchall()
    )
    if entry not in bodies:
        raise LedgerError(f"the ledger has no entry {entry}")
    path = path_of([leaf(body.encode()) for body in bodies.values()], entry - of.first)
    rows = db.execute(
        "SELECT name, salt, value FROM cells WHERE id >= ? AND id < ? ORDER BY id",
        (entry * CELLS_PER_ENTRY, (entry + 1) * CELLS_PER_ENTRY),
    )
    shown = {name: (salt, value) for name, salt, value in rows if cells is None or name in cells}
    return shown_entry(entry, bodies[entry], shown, of.id, path)


def _batch(db: sqlite3.Connection, batch: int) -> Batch:
    row = db.execute(f"{_BATCH} WHERE id = ?", (batch,)).fetchone()
    if row is None:
        raise LedgerError(f"the ledger has no batch {batch}")
    return Batch(*row)


def _head(db: sqlite3.Connection, batch: int) -> bytes:
    return genesis(ledger_id(db)) if batch == 0 else _batch(db, batch).head
