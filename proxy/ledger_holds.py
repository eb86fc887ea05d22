"""What holds, erasures and anchors do to the derived tables.

Called by :mod:`kaifu.proxy.ledger_derive` with entries just written and in a rebuild. An erasure nulls what was derived from the
cells that it names, whether they are there or not: in a rebuild they are gone when their entry is read, and what is
derived is the same. No state depends on a cell, so an erasure changes none.

Tables: ``holds`` (which messages must be kept, since which entry and until which), ``anchors`` (the batch that each place was told
last). Fails with sqlite3's errors, and with ValueError or TypeError for a body that makes no sense.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from .ledger_entries import Entry

Ranges = list[tuple[int, int]]


def add_hold(db: sqlite3.Connection, entry: Entry) -> None:
    """From here on these messages must be kept."""
    rows = [(message, entry.number) for message in sorted(set(entry.body["messages"]))]
    db.executemany("INSERT INTO holds VALUES (?,?,NULL)", rows)


def end_hold(db: sqlite3.Connection, entry: Entry) -> None:
    """A hold ends."""
    db.execute("UPDATE holds SET released = ? WHERE entry = ? AND released IS NULL", (entry.number, entry.body["hold"]))


def add_anchor(db: sqlite3.Connection, entry: Entry) -> None:
    """Some places were told the head of a batch."""
    rows = [(place, entry.body["batch"], entry.number) for place in entry.body["to"]]
    db.executemany("INSERT OR REPLACE INTO anchors VALUES (?,?,?)", rows)


def ranges_of(named: Iterable[Any]) -> Ranges:
    """The entries that an erasure names, each a number or ``[first, last]``, as ranges in order that do not touch."""
    given = sorted((each, each) if isinstance(each, int) else (int(each[0]), int(each[1])) for each in named)
    found: Ranges = []
    for first, last in given:
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        elif first <= last:
            found.append((first, last))
    return found


def bodies(db: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, str]]:
    """Numbers and bodies of these entries, a few at a time, so that nobody is held up for long."""
    while first <= last:
        query = "SELECT id, body FROM entries WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1000"
        some: list[tuple[int, str]] = db.execute(query, (first, last)).fetchall()
        yield from some
        if not some:
            return
        first = some[-1][0] + 1


def blank(db: sqlite3.Connection, source: sqlite3.Connection, entry: Entry) -> None:
    """The effect of an erasure. ``source``: where the entries are, which may be another database than that of the tables."""
    named = entry.body.get("names")
    for first, last in ranges_of(entry.body["entries"]):
        for number, text in bodies(source, first, min(last, entry.number - 1)):
            body = json.loads(text)
            for name in named if named is not None else body.get("cells", ()):
                if name in body.get("cells", ()):
                    _blank_cell(db, number, body, name)


def _blank_cell(db: sqlite3.Connection, number: int, body: dict[str, Any], name: str) -> None:
    effect = _EFFECTS.get((body["kind"], name))
    if effect is not None:
        effect(db, number, body)
    if name == "actor":
        db.execute("UPDATE acts SET actor = NULL WHERE entry = ?", (number,))
    elif name.startswith("to.") and body["kind"] in ("message", "attempt"):
        db.execute("UPDATE recipients SET address = NULL, address_key = NULL WHERE id = ?", (int(name[3:]),))


def _set(sql: str, db: sqlite3.Connection, number: int, _: dict[str, Any]) -> None:
    db.execute(sql, (number,))


def _of_message(changes: str, db: sqlite3.Connection, _: int, body: dict[str, Any]) -> None:
    db.execute(f"UPDATE messages SET {changes} WHERE id = ?", (body["message"],))


def _ids(db: sqlite3.Connection, number: int, body: dict[str, Any]) -> None:
    _of_message("message_id = NULL, id_hash = NULL, envid = NULL", db, number, body)
    # The row stays, without what would let a repetition find it: how many rows there are decides when old ones go.
    db.execute("UPDATE attempts SET key = x'' WHERE message = ?", (body["message"],))


_EFFECTS: dict[tuple[str, str], Callable[[sqlite3.Connection, int, dict[str, Any]], None]] = {
    ("message", "ids"): _ids,
    ("message", "sender"): partial(_of_message, "sender = NULL, sender_key = NULL"),
    ("message", "subject"): partial(_of_message, "subject = NULL"),
    ("evidence", "report"): partial(
        _set, "UPDATE evidence SET key = NULL, by_address = NULL, by_key = NULL WHERE entry = ?"
    ),
    ("paired", "asked"): partial(_set, "UPDATE pairs SET asked_key = NULL WHERE entry = ?"),
    ("paired", "other"): partial(_set, "UPDATE pairs SET other_key = NULL WHERE entry = ?"),
    ("consent", "person"): partial(_set, "DELETE FROM consent WHERE entry = ?"),
}
