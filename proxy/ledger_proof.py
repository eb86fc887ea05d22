"""Reading from a ledger what a proof of one entry is made of.

Called by who hands records out, on any connection. What a proof is, and how it is checked: :mod:`kaifu.proxy.ledger_seal`.
An entry that is there but not as it was sealed gives a proof that does not hold; the caller checks before handing out.

Fails with sqlite3's errors, and with :class:`LedgerError` for an entry that does not exist or an anchor that is none of this
ledger's batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from .ledger import LedgerError
from .ledger_entries import CELLS_PER_ENTRY
from .ledger_seal import Batch, Proof, genesis, leaf, path_of, proof, shown_hop, skip, way

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
    db: sqlite3.Connection, entry: int, batch: int | None = None, cells: Collection[str] | None = None
) -> Proof:
    """The proof of an entry from the anchor of ``batch`` (None: the newest).

    ``cells``: the names of those to show, as far as they still exist; None for all. LedgerError when the anchor is older than
    the entry.
    """
    start, of = _batch(db, batch) if batch is not None else newest_batch(db), batch_at(db, entry)
    if start is None or start.id < of.id:
        raise LedgerError(f"entry {entry} is of batch {of.id}, after batch {start.id if start else 0} of the anchor")
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
    hops = [_hop(db, each) for each in way(start.id, of.id)]
    return proof(ledger_id(db), entry, bodies[entry], shown, (of.id, path), hops)


def hop_at(db: sqlite3.Connection, batch: int) -> dict[str, Any]:
    """A batch as the hops of a proof have it."""
    return shown_hop(*_hop(db, batch))


def _hop(db: sqlite3.Connection, batch: int) -> tuple[Batch, bytes, bytes]:
    return _batch(db, batch), _head(db, batch - 1), _head(db, skip(batch))


def _batch(db: sqlite3.Connection, batch: int) -> Batch:
    row = db.execute(f"{_BATCH} WHERE id = ?", (batch,)).fetchone()
    if row is None:
        raise LedgerError(f"the ledger has no batch {batch}")
    return Batch(*row)


def _head(db: sqlite3.Connection, batch: int) -> bytes:
    return genesis(ledger_id(db)) if batch == 0 else _batch(db, batch).head
