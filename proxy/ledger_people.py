"""What people tell the ledger, outside the mail path: each in one transaction of its own beside a running relay.

Called by :mod:`kaifu.proxy.ledger_desk`, which knows who acts and whether he may. Fails with :class:`LedgerError`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .ledger_file import Store, explain
from .ledger_journal import Journal

CONFIRMED_BY = ("phone", "meeting", "letter", "chat")


@contextmanager
def writing(path: Path) -> Iterator[Journal]:
    """A journal within one transaction, committed at the end unless something is raised."""
    try:
        store = Store(path, write=True)
        try:
            journal = Journal(store.db)
            journal.start()
            try:
                yield journal
                journal.commit()
            except BaseException:
                journal.rollback()
                raise
        finally:
            store.close()
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def record(path: Path, kind: str, body: dict[str, Any], cells: dict[str, Any], message: int | None = None) -> int:
    """Record an act that changes nothing else, on disk when it returns. Returns the entry's number."""
    with writing(path) as journal:
        return journal.act(kind, body, cells, message)
