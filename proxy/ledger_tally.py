"""Figures for screens: what became of what was asked, by quarters of an hour, and what needs a person.

Called by :mod:`kaifu.proxy.ledger_desk`, on a read-only connection. Nothing here tells of persons. What is large is answered
from an index alone, and every statement is a short read transaction of its own: who wants a month asks day by day (:func:`tallies`), so
that a large ledger keeps nobody's log from being trimmed. Figures that are read while mail flows may be of slightly different moments.

Quarters of an hour, because every zone's midnight falls on one. Fails with sqlite3's errors.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from .ledger_entries import at_value
from .ledger_proof import newest_batch
from .ledger_states import GRADED, State

QUARTER = 900_000_000
"""Microseconds."""
UNPAIRED_MICROSECONDS = 30 * 86400 * 1_000_000
"""So long does an answer from another address wait for somebody who pairs it; later it is not pointed out any more."""


class Tally(NamedTuple):
    """How many recipients. ``at``: UTC microseconds, the start of the quarter of an hour in which the message came through.

    ``grade``: of the answer that makes the state (:data:`GRADED`), else None; a list of mailboxes is never in such a state.
    ``asked``: a request for a receipt went to them; without one somebody may have answered, or the message failed, all the same.
    """

    at: int
    state: str
    grade: str | None
    n: int
    asked: bool = True


class AnchorPlace(NamedTuple):
    """What a place was told last: the batch, its last entry, and when (UTC microseconds). ``since``: entries that it has not seen."""

    place: str
    batch: int
    entry: int
    at: int
    since: int


@dataclass(frozen=True, slots=True)
class Attention:
    """What may need a person. Times are UTC microseconds, None when there is none.

    ``unmatched``: pieces of evidence that match nothing and have not expired. ``unpaired``: answers to messages of ours from addresses
    that nobody asked or paired, of the last 30 days. ``last_sealed``: the newest batch and its last entry. ``oldest_unanchored_at``: when the
    oldest entry was written that no place has seen; entries about anchors do not count, here and in :attr:`AnchorPlace.since`.
    """

    unmatched: int
    unpaired: int
    entries: int
    last_entry_at: int | None
    last_sealed: tuple[int, int] | None
    anchors: tuple[AnchorPlace, ...]
    oldest_unanchored_at: int | None


_QUIET = (State.WAITING.value, State.NOT_ASKED.value)
"""States of which the state says whether anybody was asked, and which nobody's answer makes."""
# Word for word as in the indexes, or SQLite would not use them.
_TOLD = "state NOT IN ('waiting', 'not-asked')"
_UNPAIRED = (
    "verdict = 'other-address' AND kind IN ('mdn', 'reply') AND pair IS NULL AND by_key IS NOT NULL AND duplicate = 0"
)


def tallies(db: sqlite3.Connection, since: int, until: int) -> list[Tally]:
    """What became of the recipients of messages that came through from ``since`` until before ``until`` (UTC microseconds)."""
    found: list[Tally] = []
    for state in State:
        if state in _QUIET:
            query = "SELECT at / ?, NULL, ?, count(*) FROM recipients WHERE state = ? AND at >= ? AND at < ? GROUP BY 1"
            given: tuple[object, ...] = (QUARTER, state is State.WAITING, state.value, since, until)
        else:
            grade = "grade" if state in GRADED else "NULL"
            query = (
                f"SELECT at / ?, {grade}, request IN ('kept', 'added'), count(*) FROM recipients"
                f" WHERE {_TOLD} AND state = ? AND at >= ? AND at < ? GROUP BY 1, 2, 3"
            )
            given = (QUARTER, state.value, since, until)
        for quarter, grade, asked, n in db.execute(query, given):
            found.append(Tally(quarter * QUARTER, state.value, grade, n, bool(asked)))
    return found


def oldest(db: sqlite3.Connection) -> int | None:
    """When the first message came through that is in the ledger."""
    at: int | None = db.execute("SELECT min(at) FROM recipients").fetchone()[0]
    return at


def rule_hits(db: sqlite3.Connection, since: int) -> dict[str, int]:
    """How many recipients each rule decided since then; without those that it did not decide."""
    found: dict[str, int] = {}
    rule = ""
    while (row := db.execute("SELECT min(rule) FROM recipients WHERE rule > ?", (rule,)).fetchone())[0] is not None:
        rule = row[0]
        (n,) = db.execute("SELECT count(*) FROM recipients WHERE rule = ? AND at >= ?", (rule, since)).fetchone()
        if n:
            found[rule] = n
    return found


def attention(db: sqlite3.Connection, now: int) -> Attention:
    """What may need a person. ``now``: UTC microseconds."""
    (entries,) = db.execute("SELECT entry FROM head").fetchone()
    batch = newest_batch(db)
    places = _anchors(db, entries)
    (told,) = db.execute("SELECT max(b.last) FROM anchors a JOIN batches b ON b.id = a.batch").fetchone()
    return Attention(
        *_loose(db, now),
        entries,
        _written_at(db, "id = ?", entries),
        None if batch is None else (batch.id, batch.last),
        places,
        _written_at(db, "id > ? AND json_extract(body, '$.kind') <> 'anchored'", told or 0),
    )


def _loose(db: sqlite3.Connection, now: int) -> tuple[int, int]:
    (unmatched,) = db.execute("SELECT count(*) FROM unmatched WHERE expires > ?", (now // 1_000_000,)).fetchone()
    (unpaired,) = db.execute(
        f"SELECT count(*) FROM evidence WHERE {_UNPAIRED} AND at >= ?", (now - UNPAIRED_MICROSECONDS,)
    ).fetchone()
    return unmatched, unpaired


def _anchors(db: sqlite3.Connection, entries: int) -> tuple[AnchorPlace, ...]:
    """Each place. Those that were told are in entries of their own, which nobody need be told of."""
    rows = db.execute(
        "SELECT a.place, a.batch, b.last, c.at, (SELECT count(*) FROM acts WHERE what = 'anchor' AND entry > b.last)"
        " FROM anchors a JOIN batches b ON b.id = a.batch JOIN acts c ON c.entry = a.entry ORDER BY a.place"
    ).fetchall()
    return tuple(AnchorPlace(place, batch, last, at, entries - last - own) for place, batch, last, at, own in rows)


def _written_at(db: sqlite3.Connection, where: str, value: int) -> int | None:
    """When the first of these entries was written."""
    query = f"SELECT json_extract(body, '$.at') FROM entries WHERE {where} ORDER BY id LIMIT 1"
    row = db.execute(query, (value,)).fetchone()
    return None if row is None else at_value(row[0])
