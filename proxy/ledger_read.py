"""Questions that people and screens ask of the ledger: lists by keyset (all about one message: :mod:`kaifu.proxy.ledger_detail`).

Called by ``kaifu receipts`` and by screens, on a read-only connection. Every function is one short read transaction, so nobody
who looks slows the relay down or keeps its log from being trimmed; a list is read page by page, each beginning after
the last row of the one before (:class:`Place`), so a page costs the same at the start and after millions of rows.

Rows are ordered by the time at which the message came through, newest first unless said otherwise. Fails with sqlite3's
errors.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from .ledger import EvidenceKind
from .ledger_answerers import Answer, answers_of
from .ledger_apart import unmatched_of
from .ledger_bodies import REPORTS
from .ledger_entries import CELLS_PER_ENTRY, Entry, decode
from .ledger_keys import number_of, search_key
from .ledger_states import Standing, is_list
from .subjectgrams import folded, holds

_SMALL = 10_000
_Listed = TypeVar("_Listed")


class Order(StrEnum):
    """What a list is ordered by. Within one recipient, sender, state or rule the newest come first."""

    TIME = "time"
    TO = "to"
    FROM = "from"
    STATE = "state"
    RULE = "rule"


class Place(NamedTuple):
    """Where in a list a row stands."""

    at: int
    recipient: int


@dataclass(frozen=True, slots=True)
class Row:
    """One recipient of one message. Times are UTC microseconds since 1970, None when it has not happened.

    ``at``: when the message came through; ``sent_at``: its Date field, else the same. ``reason`` is None when it was erased.
    ``attested``: how many notes of people stand beside the evidence. ``confirm``: the grade that an answer must have, None: any.
    ``answering``: how many mailboxes have answered, ``answers``: which, and what else came that does not count. ``unmatched``: how many
    pieces of evidence the message brought that match nothing.
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
    unmatched: int = 0

    @property
    def place(self) -> Place:
        return Place(self.at, self.recipient)

    @property
    def is_list(self) -> bool:
        return is_list(self.standing.expanded, self.answering)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows. Everything given must hold; of several values of one key, any.

    ``since`` is included, ``until`` is not. ``person`` is sender or recipient. ``person``, ``sender`` and ``to`` are addresses,
    ``@domain``, ``@.domain`` with subdomains, or any part of an address. ``grades``: of the confirmation, which a list has none of; :data:`ATTESTED`: of what
    a person noted beside it. ``subject``: parts of the subject, all of which it has (see :mod:`kaifu.proxy.subjectgrams`).
    """

    since: int | None = None
    until: int | None = None
    person: str | None = None
    sender: str | None = None
    to: str | None = None
    states: tuple[str, ...] = ()
    rule: str | None = None
    directions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    message: int | None = None
    message_id: str | None = None
    subject: tuple[str, ...] = ()


ATTESTED = EvidenceKind.ATTESTED.value
_COLUMNS = (
    "m.id, r.id, r.entry, r.at, m.sent_at, m.kind, m.message_id, m.sender, m.subject, r.address, r.direction, r.request,"
    " r.asked_by, r.report_asked_by, r.rule, r.outcome, r.state, r.transport, r.handling, r.grade, r.expanded,"
    " r.failed_at, r.delivered_at, r.displayed_at, r.replied_at, r.attested, r.confirm, r.answering"
)
_FROM = "FROM recipients r JOIN messages m ON m.id = r.message"


def page(
    db: sqlite3.Connection, wanted: Filter, *, after: Place | None = None, limit: int = 100, newest_first: bool = True
) -> list[Row]:
    """The next rows of a list, at most ``limit``; all of them when it is negative."""
    found: dict[int, Row] = {}
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    db.execute("BEGIN")
    try:
        for question in _questions(db, wanted):
            if after is not None:
                question.add(f"{question.time} {beyond}= ?", after.at)
                question.add(f"(r.at, r.id) {beyond} (?, ?)", *after)
            sql = f"SELECT {_COLUMNS} {_FROM} {question.where()} ORDER BY {question.time} {order}, r.id {order} LIMIT ?"
            for values in db.execute(sql, (*question.values, limit)):
                found[values[1]] = Row(*(*values[:17], Standing(*values[17:25]), *values[25:]))
        ordered = sorted(found.values(), key=lambda row: row.place, reverse=newest_first)
        return _completed(db, ordered if limit < 0 else ordered[:limit])
    finally:
        db.execute("ROLLBACK")


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
    """How many rows there are, counted up to ``most``. Of a person, who is both sender and recipient counts twice."""
    found = 0
    for question in _questions(db, wanted):
        sql = f"SELECT count(*) FROM (SELECT 1 {_FROM} {question.where()} LIMIT ?)"
        found += int(db.execute(sql, (*question.values, most)).fetchone()[0])
    return min(found, most)


def _questions(db: sqlite3.Connection, wanted: Filter) -> list[_Question]:
    """A filter as questions that SQLite can each answer in order by an index; the answers are merged.

    A person is sender or recipient, and each state has its own stretch of the index.
    """
    if wanted.person is None:
        roles = [wanted]
    else:
        roles = [replace(wanted, person=None, to=wanted.person), replace(wanted, person=None, sender=wanted.person)]
    also = [(wanted.to, "r.address_key"), (wanted.sender, "m.sender_key")] if wanted.person is not None else []
    states: list[tuple[str, ...]] = [(state,) for state in wanted.states] or [()]
    grades: list[tuple[str, ...]] = [(grade,) for grade in wanted.grades] or [()]
    return [
        _Question(db, replace(role, states=state, grades=grade), also)
        for role in roles
        for state in states
        for grade in grades
    ]


class _Question:
    """The WHERE of a filter. ``time``: the column that gives rows in order: r.at and m.at are always the same."""

    def __init__(self, db: sqlite3.Connection, wanted: Filter, also: list[tuple[str | None, str]]) -> None:
        self._db = db
        self._conditions: list[str] = []
        self.values: list[Any] = []
        self.time = "r.at"
        if wanted.to is not None:
            self._address("recipients", "r.address_key", wanted.to)
        if wanted.sender is not None:
            self._address("messages", "m.sender_key", wanted.sender)
        for address, column in also:
            if address is not None:
                self._address("", column, address)
        self._times(wanted)
        self._exact(wanted)
        self._one_of("r.state", wanted.states)
        self._one_of("+r.direction", wanted.directions)
        self._one_of("m.kind", wanted.kinds)
        self._one_of("r.outcome", wanted.outcomes)
        self._one_of("r.request", wanted.requests)
        if wanted.grades == (ATTESTED,):
            self.add("r.attested > 0")
        elif wanted.grades:
            self._one_of("r.grade", wanted.grades)
            self.add("r.expanded = 0 AND r.answering < 2")

    def add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition)
        self.values += values

    def where(self) -> str:
        return "WHERE " + " AND ".join(self._conditions) if self._conditions else ""

    def _times(self, wanted: Filter) -> None:
        if wanted.since is not None:
            self.add(f"{self.time} >= ?", wanted.since)
        if wanted.until is not None:
            self.add(f"{self.time} < ?", wanted.until)

    def _exact(self, wanted: Filter) -> None:
        if wanted.message is not None:
            self.add("r.message = ?", wanted.message)
        if wanted.message_id is not None:
            self.add("m.id_hash = ? AND m.message_id = ?", number_of(wanted.message_id), wanted.message_id)
        if wanted.rule is not None:
            self.add("r.rule = ?", wanted.rule)
        if wanted.subject:
            words = tuple(map(folded, wanted.subject))
            self._db.create_function("has_words", 1, lambda subject: holds(subject, words), deterministic=True)
            self.add("has_words(m.subject)")

    def _one_of(self, column: str, values: Sequence[str]) -> None:
        if values:
            self.add(f"{column} IN ({','.join('?' * len(values))})", *values)

    def _address(self, table: str, column: str, wanted: str) -> None:
        """``table``: where the column is; empty when another condition is to find the rows."""
        ranges = key_ranges(wanted)
        if ranges is None:
            self.add(f"instr({column.removesuffix('_key')}, ?) > 0", wanted)
        elif len(ranges) == 1 and ranges[0][1] is None:
            self.add(f"{column if table else '+' + column} = ?", ranges[0][0])
            if table == "messages":
                self.time = "m.at"
        else:
            plus = "" if table and self._is_small(table, column, ranges) else "+"
            either = " OR ".join(f"({plus}{column} >= ? AND {plus}{column} < ?)" for _ in ranges)
            self.add(f"({either})", *(bound for both in ranges for bound in both))

    def _is_small(self, table: str, column: str, ranges: list[tuple[str, str | None]]) -> bool:
        """Few rows are sorted; of many, as many as a page needs are met sooner by walking in order of time."""
        name = column.partition(".")[2]
        left = _SMALL
        for low, high in ranges:
            sql = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {name} >= ? AND {name} < ? LIMIT ?)"
            left -= self._db.execute(sql, (low, high, left)).fetchone()[0]
            if left <= 0:
                return False
        return True


def key_ranges(wanted: str) -> list[tuple[str, str | None]] | None:
    """An address, ``@domain`` or ``@.domain`` as ranges of search keys, [from, to) or (exactly, None); None for anything else."""
    if not wanted.startswith("@"):
        return [(search_key(wanted), None)] if "@" in wanted[:-1] else None
    subdomains = wanted.startswith("@.")
    top = search_key("x" + wanted.replace("@.", "@", 1)).removesuffix("x")
    found: list[tuple[str, str | None]] = [(top, top[:-1] + "A")]
    if subdomains:
        found.append((top[:-1] + ".", top[:-1] + "/"))
    return found


def _completed(db: sqlite3.Connection, some: list[Row]) -> list[Row]:
    """The sentences, which stand in cells of the entry that decided; who answered; and what matches nothing."""
    answers = answers_of(db, [row.recipient for row in some])
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
        told |= {"answers": answers.get(row.recipient, ()), "unmatched": apart.get(row.message, 0)}
        found.append(replace(row, **told))
    return found


def _entry_cells(db: sqlite3.Connection, entry: int, like: str) -> dict[str, Any]:
    first = entry * CELLS_PER_ENTRY
    query = "SELECT name, value FROM cells WHERE id >= ? AND id < ? AND name LIKE ?"
    return {name: json.loads(value) for name, value in db.execute(query, (first, first + CELLS_PER_ENTRY, like))}


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
