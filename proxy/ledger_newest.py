"""What came in last: the newest evidence that counts, with whom it is about.

Called by :mod:`kaifu.proxy.ledger_desk` for the overview, on a read-only connection. One short read transaction over the last
:data:`WALK` pieces of evidence at most, so that it costs the same however large the ledger is. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

WALK = 1000
_QUERY = """
    SELECT e.at, e.kind, e.value, e.grade, coalesce(e.by_address, CASE WHEN e.answerer = 0 THEN r.address END), r.id, r.message, r.address, r.state, m.subject
    FROM (SELECT * FROM evidence ORDER BY entry DESC LIMIT ?) AS e
    JOIN recipients r ON r.id = e.recipient JOIN messages m ON m.id = r.message
    WHERE e.counts = 1 AND NOT EXISTS (
        SELECT 1 FROM evidence p WHERE p.recipient = e.recipient AND p.key = e.key AND p.entry < e.entry AND p.counts = 1
    )
    ORDER BY e.entry DESC LIMIT ?
"""


class Newest(NamedTuple):
    """One piece of evidence that counts. ``at``: when it says so, UTC microseconds; ``by``: who answered, of a delivery report
    for whom it is; None: erased.
    """

    at: int
    kind: str
    value: str
    grade: str | None
    by: str | None
    recipient: int
    message: int
    to: str | None
    state: str
    subject: str | None


def newest(db: sqlite3.Connection, limit: int) -> list[Newest]:
    """The last pieces of evidence that were recorded and count, newest first; of what came several times, the first that counts."""
    db.execute("BEGIN")
    try:
        return [Newest(*row) for row in db.execute(_QUERY, (WALK, limit))]
    finally:
        db.execute("ROLLBACK")
