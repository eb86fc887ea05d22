"""Erasing cells, and holding messages back from it.

Called by what works off retention and by who answers a person's request, within a transaction of the journal. An erasure is an
entry that names entries, never the person; the cells that it names are deleted in the same transaction, and what was derived
from them is nulled. Afterwards, when nothing else reads, :func:`clear_log` takes the last copies out of SQLite's log and out of the index
of subjects; pages of the file are overwritten at once (``secure_delete``).

What may be erased on the ground ``retention``, and when, stands in the entries: ``retain_days`` of the recipient, else of the
entry, counted from the time of the entry that the cell belongs to. What belongs to several recipients is kept as long as the
longest of them. Any other ground is a person's decision, and ``kaifu ledger verify`` lists it. What is on hold is erased on no ground.

Fails with :class:`LedgerError` for what may not be erased, before anything is, and with sqlite3's errors.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable
from typing import Any

from .ledger import LedgerError
from .ledger_entries import CELLS_PER_ENTRY, at_text, at_value
from .ledger_file import BUSY_SECONDS
from .ledger_holds import Ranges, bodies, ranges_of
from .ledger_journal import now
from .ledger_people import PeopleJournal
from .ledger_rebuild import DECIDING
from .ledger_subjects import follow_erasures

RETENTION = "retention"
GROUNDS = (RETENTION, "request", "other")
DAY = 86400 * 1_000_000
_PAUSE_SECONDS = 0.01


class Retention:
    """When a cell may be erased because its time is over. Reads what later entries depend on, and remembers the last of it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._message: int | None = None
        self._days: dict[int, int | None] = {}

    def due(self, body: dict[str, Any], cell: str) -> int | None:
        """The time, in UTC microseconds; None when no retention is recorded. What an entry raises that is none that was written."""
        days = self._kept_days(body, cell)
        if days is not None and not isinstance(days, int):
            raise TypeError("a retention is a number of days")
        return None if days is None else at_value(body["at"]) + days * DAY

    def _kept_days(self, body: dict[str, Any], cell: str) -> int | None:
        whole: int | None = body.get("retain_days")
        each: dict[int, int | None]
        if body["kind"] in DECIDING:
            each = {decided["id"]: decided.get("retain_days", whole) for decided in body["to"]}
        elif body.get("message") is not None:
            each = self._of_message(body["message"])
        else:
            return whole
        recipient = int(cell[3:]) if cell.startswith("to.") else body.get("recipient")
        if recipient in each:
            return each[recipient]
        known = [days for days in each.values() if days is not None]
        return max(known) if known and len(known) == len(each) else whole

    def _of_message(self, message: int) -> dict[int, int | None]:
        """Days by recipient, as the last of the message's entries that decided says."""
        if self._message != message:
            self._message, self._days = message, {}
            for (text,) in self._db.execute("SELECT body FROM entries WHERE message = ? ORDER BY id", (message,)):
                body = json.loads(text)
                for decided in body["to"] if body["kind"] in DECIDING else ():
                    self._days[decided["id"]] = decided.get("retain_days", body.get("retain_days"))
        return self._days


def erase(
    journal: PeopleJournal,
    entries: Iterable[int | tuple[int, int]],
    *,
    ground: str,
    actor: str,
    text: str = "",
    cells: Collection[str] | None = None,
) -> int:
    """Delete the cells of these entries (numbers, or first and last), all or those with these names. Returns the entry's number."""
    db, ranges = journal.database(), ranges_of(entries)
    if ground not in GROUNDS:
        raise LedgerError(f'"{ground}" is no ground to erase on; there are {", ".join(GROUNDS)}')
    names = None if cells is None else sorted(set(cells))
    _check_held(db, ranges)
    if ground == RETENTION:
        _check_due(db, ranges, names)
    gone = sum(_delete(db, first, last, names) for first, last in ranges)
    if not gone:
        raise LedgerError("there is nothing to erase: these entries have no such cells any more")
    body: dict[str, Any] = {"entries": [first if first == last else [first, last] for first, last in ranges]}
    if names is not None:
        body["names"] = names
    personal = {"actor": actor, "text": text} if text else {"actor": actor}
    return journal.act("erasure", body | {"ground": ground}, personal)


def _check_held(db: sqlite3.Connection, ranges: Ranges) -> None:
    query = (
        "SELECT e.id, h.message, h.entry FROM entries e JOIN holds h ON h.message = e.message AND h.released IS NULL"
        " WHERE e.id >= ? AND e.id <= ? LIMIT 1"
    )
    for first, last in ranges:
        row = db.execute(query, (first, last)).fetchone()
        if row is not None:
            raise LedgerError(f"entry {row[0]} is about message {row[1]}, which is on hold since entry {row[2]}")


def _check_due(db: sqlite3.Connection, ranges: Ranges, names: list[str] | None) -> None:
    retention, moment = Retention(db), now()
    for first, last in ranges:
        for number, text in bodies(db, first, last):
            body = json.loads(text)
            for name in body.get("cells", ()):
                if names is None or name in names:
                    due = retention.due(body, name)
                    if due is None or due > moment:
                        when = "no retention is recorded for it" if due is None else f"that is due at {at_text(due)}"
                        raise LedgerError(f"the cell {name} of entry {number} cannot be erased for its age: {when}")


def _delete(db: sqlite3.Connection, first: int, last: int, names: list[str] | None) -> int:
    sql, values = "DELETE FROM cells WHERE id >= ? AND id < ?", [first * CELLS_PER_ENTRY, (last + 1) * CELLS_PER_ENTRY]
    if names is None:
        return db.execute(sql, values).rowcount
    return sum(db.execute(f"{sql} AND name = ?", (*values, name)).rowcount for name in names)


def hold(journal: PeopleJournal, messages: Iterable[int], *, actor: str, reason: str) -> int:
    """Nothing of these messages may be erased from here on. Returns the entry's number."""
    db, wanted = journal.database(), sorted(set(messages))
    for message in wanted:
        if db.execute("SELECT 1 FROM messages WHERE id = ?", (message,)).fetchone() is None:
            raise LedgerError(f"the ledger has no message {message}")
    if not wanted:
        raise LedgerError("a hold needs a message")
    return journal.act("hold", {"messages": wanted}, {"actor": actor, "reason": reason})


def release(journal: PeopleJournal, held: int, *, actor: str) -> int:
    """End the hold that this entry began. Returns the entry's number."""
    row = journal.database().execute("SELECT released FROM holds WHERE entry = ? LIMIT 1", (held,)).fetchone()
    if row is None:
        raise LedgerError(f"entry {held} is no hold")
    if row[0] is not None:
        raise LedgerError(f"the hold of entry {held} was released already, by entry {row[0]}")
    return journal.act("released", {"hold": held}, {"actor": actor})


def clear_log(db: sqlite3.Connection) -> bool:
    """Empty SQLite's log, which may still hold what was deleted, when nobody reads; and take it out of the index of subjects.

    False when somebody read all the time, or when the index can be neither cleared nor deleted.
    """
    followed = follow_erasures(db)
    deadline = time.monotonic() + BUSY_SECONDS
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return followed
