"""How much is in the ledger: the numbers of ``kaifu ledger stats``, all from one moment.

Called by ``kaifu ledger``. Counts whole tables, so it takes seconds on a large ledger, and holds no writer up. Fails with
sqlite3's errors.
"""

from __future__ import annotations

import time
from typing import Any

from . import migrations
from .ledger_file import Database
from .ledger_shown import utc
from .ledger_states import GRADED


def figures(db: Database) -> dict[str, Any]:
    """Name to number, text, or mapping of word to number."""
    db.execute("BEGIN")
    try:
        size = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()[0]
        first, last = db.execute("SELECT min(at), max(at) FROM recipients").fetchone()
        return {
            "size_octets": size,
            "migrations": ", ".join(migrations.applied(db)),
            "entries": entries(db),
            "cells": _number(db, "cells"),
            "messages": _number(db, "messages"),
            "recipients": _number(db, "recipients"),
            "first_message_at": utc(first),
            "last_message_at": utc(last),
            "states": _grouped(db, "SELECT state, count(*) FROM recipients GROUP BY state"),
            "grades": _grouped(
                db,
                "SELECT state || ' ' || grade, count(*) FROM recipients WHERE grade IS NOT NULL"
                f" AND state IN ({','.join(repr(state.value) for state in GRADED)}) GROUP BY 1 ORDER BY 1",
            ),
            "evidence": _grouped(
                db, "SELECT kind || ' ' || verdict, count(*) FROM evidence WHERE duplicate = 0 GROUP BY 1 ORDER BY 1"
            ),
            "unmatched": db.execute("SELECT count(*) FROM unmatched WHERE expires > ?", (int(time.time()),)).fetchone()[
                0
            ],
            "without_record": _grouped(
                db, "SELECT direction || ' ' || kind, sum(n) FROM counts GROUP BY direction, kind ORDER BY 1"
            ),
        }
    finally:
        db.execute("ROLLBACK")


def entries(db: Database) -> int:
    """The number of entries."""
    return _number(db, "entries")


def _number(db: Database, name: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0])


def _grouped(db: Database, query: str) -> dict[str, int]:
    return dict(db.execute(query).fetchall())
