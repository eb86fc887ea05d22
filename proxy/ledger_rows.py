"""The rows of a list: one per recipient of a message, with its decision in a sentence and who answered.

Made by :mod:`kaifu.proxy.ledger_walk` within the transaction that found them. Fails with sqlite3's errors.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, replace
from typing import Any

from .ledger_answerers import Answer, answers_of, answers_of_nobody
from .ledger_apart import unmatched_of
from .ledger_bodies import REPORTS
from .ledger_entries import CELLS_PER_ENTRY
from .ledger_filter import Order, Place
from .ledger_keys import search_key
from .ledger_states import Standing, is_list

_COLUMNS = (
    "m.id, r.id, r.entry, r.at, m.sent_at, m.kind, m.message_id, m.sender, m.subject, r.address, r.direction, r.request,"
    " r.asked_by, r.report_asked_by, r.rule, r.outcome, r.state, r.transport, r.handling, r.grade, r.expanded,"
    " r.failed_at, r.delivered_at, r.displayed_at, r.replied_at, r.attested, r.confirm, r.answering"
)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One recipient of one message. Times are UTC microseconds since 1970, None when it has not happened.

    ``at``: when the message came through; ``sent_at``: its Date field, else the same. ``reason`` is None when it was erased.
    ``attested``: how many notes of people stand beside the evidence. ``confirm``: the grade that an answer must have, None: any.
    ``answering``: how many mailboxes have answered, ``answers``: which, and what else came that does not count. ``recipient_unknown``:
    answers of other addresses to the message of which nobody knows for which of its recipients they are; the same in each of its rows.
    ``unmatched``: how many pieces of evidence the message brought that match nothing.
    """

    message: int
    recipient: int
    entry: int
    at: int
    sent_at: int
    kind: str
    message_id: str | None
    sender: str | None
    subject: str | None
    address: str | None
    direction: str
    request: str
    asked_by: str
    report_asked_by: str
    rule: str | None
    outcome: str
    state: str
    standing: Standing
    attested: int
    confirm: str | None
    answering: int
    reason: str | None = None
    would: str | None = None
    answers: tuple[Answer, ...] = ()
    recipient_unknown: tuple[Answer, ...] = ()
    unmatched: int = 0

    @property
    def place(self) -> Place:
        """Where it stands in a list that is ordered by time."""
        return Place(self.at, self.recipient)

    def place_in(self, order: Order) -> Place:
        """Where it stands in a list."""
        return Place(self.at, self.recipient, self._group(order))

    def _group(self, order: Order) -> str | None:
        if order is Order.TO:
            return search_key(self.address) if self.address else None
        if order is Order.FROM:
            return search_key(self.sender) if self.sender else None
        return {Order.STATE: self.state, Order.RULE: self.rule}.get(order)

    @property
    def is_list(self) -> bool:
        return is_list(self.standing.expanded, self.answering)


def rows_of(db: sqlite3.Connection, recipients: list[int]) -> list[Row]:
    """The rows of these recipients, as they are named, without what :func:`completed` adds."""
    found: dict[int, Row] = {}
    for start in range(0, len(recipients), _AT_ONCE):
        some = recipients[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT {_COLUMNS} FROM recipients r CROSS JOIN messages m ON m.id = r.message WHERE r.id IN ({marks})"
        for values in db.execute(query, some):
            found[values[1]] = Row(*(*values[:17], Standing(*values[17:25]), *values[25:]))
    return [found[recipient] for recipient in recipients]


def completed(db: sqlite3.Connection, some: list[Row]) -> list[Row]:
    """The sentences, which stand in cells of the entry that decided; who answered; and what matches nothing."""
    answers = answers_of(db, [row.recipient for row in some])
    of_nobody = answers_of_nobody(db, list(dict.fromkeys(row.message for row in some)))
    reports = [row.message for row in some if row.kind in REPORTS]
    apart = unmatched_of(db, int(time.time()), reports)
    cells: dict[int, dict[str, Any]] = {}
    found = []
    for row in some:
        if row.entry not in cells:
            cells = {row.entry: _entry_cells(db, row.entry, "to.%")}
        personal = cells[row.entry].get(f"to.{row.recipient}")
        told: dict[str, Any] = (
            {} if personal is None else {"reason": personal["reason"], "would": personal.get("would")}
        )
        told |= {"answers": answers.get(row.recipient, ()), "recipient_unknown": of_nobody.get(row.message, ())}
        told["unmatched"] = apart.get(row.message, 0)
        found.append(replace(row, **told))
    return found


def _entry_cells(db: sqlite3.Connection, entry: int, like: str) -> dict[str, Any]:
    first = entry * CELLS_PER_ENTRY
    query = "SELECT name, value FROM cells WHERE id >= ? AND id < ? AND name LIKE ?"
    return {name: json.loads(value) for name, value in db.execute(query, (first, first + CELLS_PER_ENTRY, like))}
