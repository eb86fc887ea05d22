"""All about one message, as people ask for it: what was decided, what came back and how it stands, what people added.

Called by the desk (:mod:`kaifu.proxy.ledger_desk`), on a read-only connection. One short read transaction for each message. Fails with
sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .ledger_acts import LOOKS
from .ledger_apart import Unmatched, unmatched
from .ledger_entries import Entry
from .ledger_read import Filter, Row, entry_of, page


@dataclass(frozen=True, slots=True)
class Detail:
    """All about one message, with the cells that still exist.

    ``entries``: every entry about it, in order, except who looked at it. ``carried``: the evidence that it brought about other
    messages (it is a report or a reply); ``unmatched``: the evidence that it brought which matches nothing. ``revoked``: notes and
    pairings that were taken back, and by which entry. ``judged``: by its entry, how each piece of evidence stands now. ``pairs``:
    the entries of the pairings that concern it, wherever they were made. ``policies``: by the entry that decided, the version of the policy that was in force.
    """

    recipients: tuple[Row, ...]
    entries: tuple[Entry, ...]
    carried: tuple[Entry, ...]
    unmatched: tuple[Unmatched, ...]
    revoked: dict[int, int]
    judged: dict[int, Judged]
    pairs: tuple[Entry, ...]
    policies: dict[int, PolicyVersion]


class Judged(NamedTuple):
    """How a piece of evidence stands: whose it is, whether it counts, and by which pairing."""

    recipient: int | None
    counts: bool
    pair: int | None


class PolicyVersion(NamedTuple):
    """The entry that recorded a policy, when that was (UTC microseconds), and the policy's mode."""

    entry: int
    at: int
    mode: str


_ENTRIES_ABOUT = (
    "SELECT id FROM entries WHERE message = ? AND NOT EXISTS"
    f" (SELECT 1 FROM acts WHERE acts.entry = entries.id AND what IN ({','.join('?' * len(LOOKS))})) ORDER BY id"
)


def detail(db: sqlite3.Connection, message: int) -> Detail | None:
    """Everything about one message; None when the ledger has none with this number."""
    recipients = page(db, Filter(message=message), limit=-1, newest_first=False)
    if not recipients:
        return None
    db.execute("BEGIN")
    try:
        numbers = db.execute(_ENTRIES_ABOUT, (message, *LOOKS)).fetchall()
        about = [entry for (number,) in numbers if (entry := entry_of(db, number)) is not None]
        carried = tuple(_carried(db, about, message))
        return Detail(
            tuple(recipients),
            tuple(about),
            carried,
            tuple(unmatched(db, int(time.time()), carrier=message)),
            _revoked(db, message),
            _judged(db, (*about, *carried)),
            tuple(_pairs(db, message)),
            _policies(db, about),
        )
    finally:
        db.execute("ROLLBACK")


_OF_MESSAGE = "recipient IN (SELECT id FROM recipients WHERE message = :message)"
_PAIRS = (
    f"SELECT pair FROM evidence WHERE pair IS NOT NULL AND {_OF_MESSAGE}"
    " UNION SELECT entry FROM pairs WHERE entry IN (SELECT id FROM entries WHERE message = :message)"
)


def _revoked(db: sqlite3.Connection, message: int) -> dict[int, int]:
    query = (
        f"SELECT entry, revoked FROM evidence WHERE revoked IS NOT NULL AND {_OF_MESSAGE}"
        f" UNION SELECT entry, revoked FROM pairs WHERE revoked IS NOT NULL AND entry IN ({_PAIRS})"
    )
    return dict(db.execute(query, {"message": message}).fetchall())


def _judged(db: sqlite3.Connection, about: tuple[Entry, ...]) -> dict[int, Judged]:
    query = "SELECT recipient, counts, pair FROM evidence WHERE entry = ?"
    rows = {entry.number: db.execute(query, (entry.number,)).fetchone() for entry in about if entry.kind == "evidence"}
    return {number: Judged(row[0], bool(row[1]), row[2]) for number, row in rows.items() if row is not None}


def _pairs(db: sqlite3.Connection, message: int) -> Iterator[Entry]:
    for (number,) in db.execute(f"{_PAIRS} ORDER BY 1", {"message": message}).fetchall():
        if (entry := entry_of(db, number)) is not None:
            yield entry


def _policies(db: sqlite3.Connection, about: list[Entry]) -> dict[int, PolicyVersion]:
    # Hosts wait for no version to be on record: at times it is only just after the first message that it decided about.
    query = "SELECT entry, at, mode FROM policies WHERE digest = ? ORDER BY entry > ?, abs(entry - ?) LIMIT 1"
    found = [(entry.number, entry.body.get("policy")) for entry in about]
    rows = {number: db.execute(query, (digest, number, number)).fetchone() for number, digest in found}
    return {number: PolicyVersion(*row) for number, row in rows.items() if row is not None}


def _carried(db: sqlite3.Connection, about: list[Entry], message: int) -> Iterator[Entry]:
    """Evidence follows directly upon the entry of the message that brought it."""
    for entry in about:
        number = entry.number
        while entry.kind in ("message", "attempt"):
            number += 1
            follower = entry_of(db, number)
            if follower is None or follower.kind != "evidence" or follower.body.get("carrier") != message:
                break
            yield follower
