"""Questions that people and screens ask of the ledger: lists by keyset (all about one message: :mod:`kaifu.proxy.ledger_detail`).

Called by ``kaifu receipts`` and by screens, on a read-only connection. Read transactions are short, several for what takes longer, so nobody
who looks slows the relay down or keeps its log from being trimmed; a list is read page by page, each beginning after
the last row of the one before (:class:`Place`), so a page costs the same at the start and after millions of rows.

Rows are ordered by the time at which the message came through, newest first unless said otherwise. Fails with sqlite3's
errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from .ledger_entries import CELLS_PER_ENTRY, Entry, decode
from .ledger_filter import ATTESTED, Filter, Order, Place
from .ledger_keys import number_of
from .ledger_rows import Row
from .ledger_walk import PATIENCE, Counted, Page, count_on, walk

__all__ = [
    "ATTESTED", "Counted", "Filter", "Order", "Page", "Place", "Row", "count", "count_on", "entry_of", "messages_called",
    "page", "page_by_page", "rows", "walk",
]  # fmt: skip

_Listed = TypeVar("_Listed")


def page(
    db: sqlite3.Connection,
    wanted: Filter,
    *,
    after: Place | None = None,
    limit: int = 100,
    newest_first: bool = True,
    order: Order = Order.TIME,
) -> list[Row]:
    """The next rows of a list, at most ``limit``; all of them when it is negative."""
    found: list[Row] = []
    while True:
        left = limit - len(found) if limit >= 0 else limit
        some = walk(db, wanted, after=after, limit=left, newest_first=newest_first, order=order, patience=PATIENCE)
        found += some.rows
        if some.done or len(found) == limit:
            return found
        after = some.reached


def rows(db: sqlite3.Connection, wanted: Filter, *, newest_first: bool = True, at_once: int = 500) -> Iterator[Row]:
    """All rows, read page by page: memory does not grow, and what comes in meanwhile does not disturb."""

    def following(row: Row | None) -> list[Row]:
        after = None if row is None else row.place
        return page(db, wanted, after=after, limit=at_once, newest_first=newest_first)

    return page_by_page(following, at_once)


def page_by_page(following: Callable[[_Listed | None], list[_Listed]], at_once: int) -> Iterator[_Listed]:
    """Every row. ``following``: the page after a row, None for the first page, full when it has ``at_once`` rows."""
    last: _Listed | None = None
    while True:
        some = following(last)
        yield from some
        if len(some) < at_once:
            return
        last = some[-1]


def count(db: sqlite3.Connection, wanted: Filter, *, most: int) -> int:
    """How many rows there are, counted up to ``most``."""
    found = count_on(db, wanted, most=most, patience=PATIENCE)
    number = found.number
    while not found.done and number < most:
        found = count_on(db, wanted, after=found.reached, most=most - number, patience=PATIENCE)
        number += found.number
    return number


def entry_of(db: sqlite3.Connection, number: int) -> Entry | None:
    """One entry with those of its cells that exist; None when there is none with this number."""
    row = db.execute("SELECT body FROM entries WHERE id = ?", (number,)).fetchone()
    first = number * CELLS_PER_ENTRY
    query = "SELECT name, value FROM cells WHERE id >= ? AND id < ?"
    return None if row is None else decode(row[0], dict(db.execute(query, (first, first + CELLS_PER_ENTRY)).fetchall()))


def messages_called(db: sqlite3.Connection, name: str) -> list[int]:
    """The numbers of the messages that a person means by a number or a Message-ID (brackets do not matter), newest first."""
    text = name.strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        row = db.execute("SELECT id FROM messages WHERE id = ?", (int(text),)).fetchone()
        return [] if row is None else [row[0]]
    text = text.removeprefix("<").removesuffix(">").strip()
    query = "SELECT id FROM messages WHERE id_hash = ? AND message_id = ? ORDER BY id DESC"
    return [number for (number,) in db.execute(query, (number_of(text), text))]
